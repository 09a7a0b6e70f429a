"""Embed clips as they come, in their order: what prediction does, where no store is kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from embedkit.errors import AudioError
from embedkit.extraction.batches import batch_clips
from embedkit.extraction.encoding import EncodingConfig, open_encoding
from embedkit.extraction.plan import Batch
from embedkit.extraction.segments import AudioSegment
from embedkit.extraction.shards import Measured
from embedkit.progress import Tell
from embedkit.store.layout import Array
from embedkit.store.writer import UtteranceEmbedding

ADVICE = "name shorter stretches with start and end in a CSV list, or take --device cpu where a GPU is full"


def embed_stream(
    config: EncodingConfig, wanted: Iterable[AudioSegment | AudioError], tell: Tell = lambda _: None
) -> Iterator[UtteranceEmbedding | AudioError]:
    """Encode clips as an extraction would, a few batches ahead.

    Args:
        config: How clips become rows.
        wanted: The clips, taken as they are needed; what is an error already is handed on in its place.
        tell: Hears that batches had to be made smaller.

    Yields:
        The rows of each clip, or why it cannot be used.

    Raises:
        ExtractionError: a clip does not fit into memory, or into the type of the frames.
    """
    groups: deque[list[AudioSegment | AudioError]] = deque()

    def plan() -> Iterator[Batch]:
        for group in batch_clips(wanted, _samples, config.batch_samples):
            groups.append(group)
            yield tuple(one for one in group if isinstance(one, AudioSegment))

    with open_encoding(replace(config, on_error="skip"), tell, ADVICE) as encoding:
        for started in encoding.start(plan()):
            found = _Collected()
            encoding.finish(started, found)
            rows = iter(found.rows)
            yield from (next(rows) if isinstance(one, AudioSegment) else one for one in groups.popleft())


def _samples(one: AudioSegment | AudioError) -> int:
    return one.samples if isinstance(one, AudioSegment) else 0


class _Collected:
    """Takes what a shard would take, and keeps it."""

    def __init__(self) -> None:
        self.rows: list[UtteranceEmbedding | AudioError] = []
        self._frames: list[Array] = []

    def add_frames(self, frames: Array) -> None:
        self._frames.append(frames)

    def add(self, segment: AudioSegment, rows: UtteranceEmbedding, measured: Measured) -> None:
        frames = np.concatenate(self._frames) if self._frames else rows.frames
        self.rows.append(UtteranceEmbedding(rows.mean, rows.std, frames))
        self._frames = []

    def fail(self, segment: AudioSegment, reason: str) -> None:
        path = segment.path
        self.rows.append(AudioError(reason if path in reason else f"{path!r} cannot be used: {reason}"))
        self._frames = []
