"""Embed clips as they come, in their order: what prediction does, where no store is kept."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice, pairwise

import numpy as np
from numpy.typing import NDArray

from embedkit.audio import probe_audio
from embedkit.audio_streams import too_long
from embedkit.corpora.clips import Clip
from embedkit.errors import AudioError
from embedkit.extraction.batches import batch_clips
from embedkit.extraction.encoding import EncodingConfig, open_encoding
from embedkit.extraction.passes import ROUNDS
from embedkit.extraction.plan import Batch
from embedkit.extraction.segments import AudioSegment, file_stamp
from embedkit.extraction.shards import Measured
from embedkit.progress import Tell
from embedkit.store.layout import Array
from embedkit.store.writer import UtteranceEmbedding

ADVICE = "name shorter stretches with start and end in a CSV list, or take --device cpu where a GPU is full"

LONGEST_PIECE_SECONDS = 300.0
"""Longer clips are heard in pieces where the whole of their frames would have to be in memory."""


def embed_stream(
    config: EncodingConfig, wanted: Iterable[AudioSegment | AudioError], tell: Tell = lambda _: None
) -> Iterator[UtteranceEmbedding | AudioError]:
    """Encode clips as an extraction would, a few batches ahead; of many batches, as many at a time as threads.

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

    batches = plan()
    first = list(islice(batches, ROUNDS * config.threads))
    if len(first) == ROUNDS * config.threads and config.encoder.reentrant and config.encoder.device.type == "cpu":
        config = replace(config, passes=config.threads)
    with open_encoding(replace(config, on_error="skip"), tell, ADVICE) as encoding:
        for started in encoding.start(chain(first, batches)):
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


def ask_clips(
    config: EncodingConfig,
    clips: Iterable[Clip],
    most_seconds: float,
    ask: Callable[[UtteranceEmbedding], NDArray[np.float64]],
    tell: Tell = lambda _: None,
) -> Iterator[NDArray[np.float64] | AudioError]:
    """Yield what is said of each clip, by its rows or as a mean over those of its pieces; or why it cannot be used.

    Shape:
        What `ask` returns, and the output: `[outputs]`.
    """
    pieces: deque[list[AudioSegment | AudioError]] = deque()

    def wanted() -> Iterator[AudioSegment | AudioError]:
        for clip in clips:
            pieces.append(_cut(clip, config.encoder.sampling_rate, most_seconds, config.max_hours))
            yield from pieces[-1]

    stream = embed_stream(config, wanted(), tell)
    for first in stream:
        own = pieces.popleft()
        total, samples = np.zeros(1), 0
        problem = None
        for piece, rows in zip(own, [first, *(next(stream) for _ in own[1:])], strict=True):
            if isinstance(rows, AudioError):
                problem = problem or rows
            elif isinstance(piece, AudioSegment):
                total = total + piece.samples * ask(rows)
                samples += piece.samples
        yield total / samples if problem is None else problem


def _cut(clip: Clip, rate: int, most_seconds: float, max_hours: float) -> list[AudioSegment | AudioError]:
    """Read a clip's header and cut it into equal pieces of at most so many seconds."""
    try:
        duration = probe_audio(clip.path, most_hours=max_hours).duration_seconds
        stamp = file_stamp(clip.path)
    except AudioError as error:
        return [error]
    except OSError as error:
        return [AudioError(f"Cannot read the audio file {str(clip.path)!r} ({error.strerror}).")]
    start = clip.start or 0.0
    end = duration if clip.end is None else min(clip.end, duration)
    if end - start > max_hours * 3600:
        return [too_long(f"The audio in {str(clip.path)!r}", end - start, max_hours)]
    count = max(1, math.ceil((end - start) / most_seconds))
    edges = [clip.start, *(start + (end - start) * number / count for number in range(1, count)), clip.end]
    samples = max(1, round((end - start) / count * rate))
    return [AudioSegment("", str(clip.path), begin, until, samples, *stamp) for begin, until in pairwise(edges)]
