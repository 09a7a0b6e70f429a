"""Embed clips as they come, in their order: what prediction does, where no store is kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch

from embedkit.errors import AudioError
from embedkit.extraction.encoding import EncodingConfig, open_encoding
from embedkit.extraction.passes import Passes
from embedkit.extraction.plan import MOST_CLIPS, Batch
from embedkit.extraction.segments import AudioSegment, Failures
from embedkit.extraction.shards import Measured
from embedkit.store.layout import Array
from embedkit.store.writer import UtteranceEmbedding

ADVICE = "name shorter stretches with start and end in a CSV list, or take --device cpu where a GPU is full"


def embed_stream(
    recipe: EncodingConfig,
    wanted: Iterable[AudioSegment | AudioError],
    *,
    workers: int = 2,
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[UtteranceEmbedding | AudioError]:
    """Encode clips as an extraction would, a few batches ahead.

    Args:
        recipe: How clips become rows.
        wanted: The clips, taken as they are needed; what is an error already is handed on in its place.
        workers: Threads that read audio.
        tell: Hears that batches had to be made smaller.

    Yields:
        The rows of each clip, or why it cannot be used.

    Raises:
        ExtractionError: a clip does not fit into memory, or into the type of the frames.
    """
    groups: deque[list[AudioSegment | AudioError]] = deque()

    def plan() -> Iterator[Batch]:
        for group in _group(wanted, recipe.batch_seconds * recipe.encoder.sampling_rate):
            groups.append(group)
            yield tuple(one for one in group if isinstance(one, AudioSegment))

    passes = Passes(recipe.encoder, tell, ADVICE)
    # One file is as likely as thousands, and should have all threads.
    threads = torch.get_num_threads()
    with open_encoding(recipe, passes, side_by_side=1, threads=threads, workers=workers) as encoding:
        for started in encoding.start(plan()):
            found = _Collected()
            encoding.finish(started, found, Failures("skip"))
            rows = iter(found.rows)
            yield from (next(rows) if isinstance(one, AudioSegment) else one for one in groups.popleft())


def _group(wanted: Iterable[AudioSegment | AudioError], most: float) -> Iterator[list[AudioSegment | AudioError]]:
    """Group neighbours into batches of at most so many samples with padding, at least one clip each."""
    group: list[AudioSegment | AudioError] = []
    longest = 0
    for one in wanted:
        samples = one.samples if isinstance(one, AudioSegment) else 0
        if group and (len(group) == MOST_CLIPS or max(longest, samples) * (len(group) + 1) > most):
            yield group
            group, longest = [], 0
        group.append(one)
        longest = max(longest, samples)
    if group:
        yield group


class _Collected:
    """Takes what a shard would take, and keeps it."""

    def __init__(self) -> None:
        self.rows: list[UtteranceEmbedding | AudioError] = []
        self._frames: list[Array] = []

    def add_frames(self, frames: Array) -> None:
        self._frames.append(frames)

    def add(self, item: AudioSegment, rows: UtteranceEmbedding, measured: Measured) -> None:
        frames = np.concatenate(self._frames) if self._frames else rows.frames
        self.rows.append(UtteranceEmbedding(rows.mean, rows.std, frames))
        self._frames = []

    def fail(self, item: AudioSegment, reason: str) -> None:
        self.rows.append(AudioError(reason if item.path in reason else f"{item.path!r} cannot be used: {reason}"))
        self._frames = []
