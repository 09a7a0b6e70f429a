"""Embed clips as they come, in their order: what prediction does, where no store is kept."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import groupby, pairwise
from operator import attrgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedkit.audio import AudioInfo, StretchReader, probe_audio
from embedkit.audio_streams import too_long
from embedkit.corpora.clips import Clip
from embedkit.encoders.base import Encoder
from embedkit.errors import AudioError
from embedkit.extraction.batches import batch_clips
from embedkit.extraction.encoding import EncodingConfig, Waveform, open_encoding, read_waveform
from embedkit.extraction.passes import run_beside
from embedkit.extraction.segments import AudioSegment, file_stamp
from embedkit.extraction.shards import Measured
from embedkit.progress import Tell
from embedkit.store.layout import Array
from embedkit.store.writer import UtteranceEmbedding

ADVICE = "name shorter stretches with start and end in a CSV list, or take --device cpu where a GPU is full"

LONGEST_PIECE_SECONDS = 300.0
"""Longer clips are heard in pieces where the whole of their frames would have to be in memory."""


MANY_CLIPS = 32
"""So many are heard in passes side by side, each on one core; a few at a time have all cores."""


def choose_passes(encoder: Encoder, threads: int, *, side_by_side: bool) -> int:
    """Return how many passes run at a time: one a thread where they may run side by side, and that is wanted."""
    return threads if side_by_side and run_beside(encoder) else 1


class Piece(NamedTuple):
    """A clip or a part of it, read already or to be read, or why it cannot be; no batch has pieces of two groups."""

    content: AudioSegment | Waveform | AudioError
    group: int | None = None

    @property
    def samples(self) -> int:
        """Its length at the encoder's rate."""
        if isinstance(self.content, Waveform):
            return self.content.segment.samples
        return self.content.samples if isinstance(self.content, AudioSegment) else 0


def embed_stream(
    config: EncodingConfig, wanted: Iterable[Piece], tell: Tell = lambda _: None
) -> Iterator[UtteranceEmbedding | AudioError]:
    """Encode clips as an extraction would, a few batches ahead.

    Args:
        config: How clips become rows.
        wanted: The clips, taken as they are needed; an error is handed on in its place.
        tell: Hears that batches had to be made smaller.

    Yields:
        The rows of each clip, or why it cannot be used.

    Raises:
        ExtractionError: a clip does not fit into memory, or into the type of the frames.
    """
    batches: deque[list[Piece]] = deque()

    def plan() -> Iterator[list[AudioSegment | Waveform]]:
        for _, group in groupby(wanted, attrgetter("group")):
            for batch in batch_clips(group, attrgetter("samples"), config.batch_samples):
                batches.append(batch)
                yield [one.content for one in batch if not isinstance(one.content, AudioError)]

    with open_encoding(replace(config, on_error="skip"), tell, ADVICE) as encoding:
        for started in encoding.start(plan()):
            found = _Collected()
            encoding.finish(started, found)
            rows = iter(found.rows)
            contents = (one.content for one in batches.popleft())
            yield from (one if isinstance(one, AudioError) else next(rows) for one in contents)


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

    Files are read ahead in threads, but windows of one file in their order, in one go.

    Shape:
        What `ask` returns, and the output: `[outputs]`.
    """
    pieces: deque[list[AudioSegment | AudioError]] = deque()

    def wanted() -> Iterator[Piece]:
        for (group, path), own in groupby(clips, lambda clip: (clip.group is not None, clip.path)):
            with StretchReader(path, most_hours=config.max_hours, rescale=config.rescale) as reader:
                probe = reader.probe if group else partial(probe_audio, path, most_hours=config.max_hours)
                for clip in own:
                    pieces.append(_cut(clip, probe, config.encoder.sampling_rate, most_seconds, config.max_hours))
                    for one in pieces[-1]:
                        if not group or isinstance(one, AudioError):
                            yield Piece(one, clip.group)
                        else:
                            yield Piece(read_waveform(config, one, reader), clip.group)

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


def _cut(
    clip: Clip, probe: Callable[[], AudioInfo], rate: int, most_seconds: float, max_hours: float
) -> list[AudioSegment | AudioError]:
    """Read a clip's header and cut it into equal pieces of at most so many seconds."""
    try:
        duration = probe().duration_seconds
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
