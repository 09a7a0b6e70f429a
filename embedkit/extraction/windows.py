"""Clips too long for one pass: overlapping windows, cut in the middle of their overlaps."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from embedkit.encoders.base import Encoder
from embedkit.errors import ExtractionError
from embedkit.store.layout import Array
from embedkit.store.writer import UtteranceEmbedding

OVERLAP = 0.1
"""Share of a window that overlaps the next one."""
_LEAST_CONTEXT = 2
"""Frames on either side of a cut, at least: a window's last frames may need samples beyond it."""
_SMALLEST = 10
"""Frames in the shortest window."""


class Window(NamedTuple):
    """Samples `start:end` of the clip, of whose frames `first:last` are kept (None: to the last one)."""

    start: int
    end: int
    first: int
    last: int | None


@dataclass(frozen=True)
class Windows:
    """How clips longer than `samples` are cut.

    Attributes:
        samples: Length of a window, a multiple of `hop`.
        overlap: Samples that a window shares with the next one, an even multiple of `hop`.
        hop: Samples from one frame to the next.
        sampling_rate: Hertz.
    """

    samples: int
    overlap: int
    hop: int
    sampling_rate: int

    @classmethod
    def for_encoder(cls, encoder: Encoder, max_seconds: float | None) -> Windows | None:
        """Plan windows of at most so many seconds; by default the encoder's own limit, if it has one.

        Raises:
            ExtractionError: the window is shorter than ten frames, longer than the encoder takes, or the encoder's
                frames do not lie a whole number of samples apart.
        """
        largest = encoder.largest_input
        asked = encoder.default_max_seconds if max_seconds is None else max_seconds
        wanted = largest if asked is None else int(asked * encoder.sampling_rate)
        if wanted is None:
            return None
        if max_seconds is None and largest is not None:
            wanted = min(wanted, largest)
        # What is longer than an encoder hears that cannot be given windows is refused where it is read.
        if not encoder.frame_rate and asked is None:
            return None
        if not encoder.frame_rate:
            raise ExtractionError(f"{encoder.name} gives one vector a clip and cannot be cut; leave out --max-seconds.")
        hop = round(encoder.sampling_rate / encoder.frame_rate)
        if abs(hop * encoder.frame_rate / encoder.sampling_rate - 1) > 1e-6:
            raise ExtractionError(f"{encoder.name} cannot be cut into windows: its frames fall between samples.")
        if largest is not None and wanted > largest:
            raise ExtractionError(
                f"--max-seconds {max_seconds:g} is more than the {largest / encoder.sampling_rate:g} s that "
                f"{encoder.name} takes at once; give less, or leave the option out."
            )
        frames = wanted // hop
        if max_seconds is not None and frames < _SMALLEST:
            least = _SMALLEST * hop / encoder.sampling_rate
            raise ExtractionError(f"--max-seconds {max_seconds:g} is too short, {encoder.name} needs {least:g}.")
        if frames <= 2 * _LEAST_CONTEXT:
            return None
        return cls(frames * hop, 2 * max(_LEAST_CONTEXT, round(frames * OVERLAP / 2)) * hop, hop, encoder.sampling_rate)

    def describe(self) -> dict[str, float]:
        """Return length and overlap in seconds, for the fingerprint."""
        return {
            "seconds": self.samples / self.sampling_rate,
            "overlap_seconds": self.overlap / self.sampling_rate,
        }

    def cut(self, samples: int) -> list[Window]:
        """Cut a clip; the last window is moved back so that it is as long as the others."""
        if samples <= self.samples:
            return [Window(0, samples, 0, None)]
        step = self.samples - self.overlap
        last = -(-(samples - self.samples) // self.hop) * self.hop
        starts = [*range(0, last, step), last]
        cuts = [0]
        for before, start in pairwise(starts):
            cuts.append((before + self.samples + start) // 2 // self.hop)
        return [
            Window(
                start,
                min(start + self.samples, samples),
                cut - start // self.hop,
                None if index == len(starts) - 1 else cuts[index + 1] - start // self.hop,
            )
            for index, (start, cut) in enumerate(zip(starts, cuts, strict=True))
        ]


class Merge:
    """Mean and standard deviation over frames that arrive in pieces (Chan, Golub and LeVeque 1983), in float64."""

    def __init__(self) -> None:
        self.frames = 0
        self._mean: Any = 0.0
        self._squares: Any = 0.0

    def add(self, values: Array) -> None:
        """Add frames `[frames, ...]`."""
        piece = values.astype(np.float64)
        mean = piece.mean(axis=0)
        squares = np.square(piece - mean).sum(axis=0)
        total = self.frames + len(piece)
        shift = mean - self._mean
        self._mean = self._mean + shift * (len(piece) / total)
        self._squares = self._squares + squares + np.square(shift) * (self.frames * len(piece) / total)
        self.frames = total

    def rows(self) -> UtteranceEmbedding:
        """Return the statistics of all frames so far."""
        deviation = np.sqrt(self._squares / self.frames)
        return UtteranceEmbedding(self._mean.astype(np.float32), deviation.astype(np.float32))
