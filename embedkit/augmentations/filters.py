"""Filters of second order, at random frequencies: what microphones, rooms and lines do to speech."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from embedkit.augmentations.base import Augmentation, draw_between, require_legal, require_range
from embedkit.errors import ConfigError

HEADROOM = 1 << 12
"""torchaudio's filters cut what passes 1: clips go through far below, and come back to their own level."""


@dataclass(frozen=True, kw_only=True)
class Band:
    """Hertz between which the frequency is drawn, evenly on a logarithmic scale."""

    low: float
    high: float
    kind: ClassVar[str]

    def __post_init__(self) -> None:
        require_range(self.kind, self, 1, 100_000, "Hertz")


class Filter(Augmentation):
    """A filter whose frequency is drawn for every clip."""

    needs_torchaudio = True
    biquad: ClassVar[str]
    """What torchaudio calls it."""

    def prepare(self, sampling_rate: int) -> None:
        """Check the frequencies.

        Raises:
            ConfigError: they reach half the sampling rate.
        """
        if self.options.high >= sampling_rate / 2:
            raise ConfigError(
                f"The augmentation {self.name!r} draws frequencies up to {self.options.high:g} Hz, but the encoder "
                f"reads {sampling_rate} Hz; give a high below {sampling_rate // 2}."
            )

    def __call__(self, waveform: Tensor, sampling_rate: int) -> Tensor:
        """Return the clip `[samples]` as the filter lets it through."""
        frequency = math.exp(draw_between(math.log(self.options.low), math.log(self.options.high)))
        peak = waveform.abs().max()
        if not peak:
            return waveform
        return self.filter(waveform / (peak * HEADROOM), sampling_rate, frequency) * (peak * HEADROOM)

    def filter(self, waveform: Tensor, sampling_rate: int, frequency: float) -> Tensor:
        """Filter `[samples]` at a frequency in Hertz."""
        from torchaudio import functional

        filtered: Tensor = getattr(functional, self.biquad)(waveform, sampling_rate, frequency, *self.draw_shape())
        return filtered

    def draw_shape(self) -> tuple[float, ...]:
        """Return what else torchaudio's filter takes."""
        return ()


class LowPass(Filter):
    """12 dB per octave above the frequency, as a narrow line does."""

    biquad = "lowpass_biquad"

    @dataclass(frozen=True, kw_only=True)
    class Options(Band):
        """Settings of the augmentation."""

        kind = "lowpass"
        low: float = 2000.0
        high: float = 7000.0


class HighPass(Filter):
    """12 dB per octave below the frequency, as a small microphone does."""

    biquad = "highpass_biquad"

    @dataclass(frozen=True, kw_only=True)
    class Options(Band):
        """Settings of the augmentation."""

        kind = "highpass"
        low: float = 50.0
        high: float = 400.0


class Equaliser(Filter):
    """A peak or a dip around the frequency, as rooms and microphones have."""

    biquad = "equalizer_biquad"

    @dataclass(frozen=True, kw_only=True)
    class Options(Band):
        """Settings of the augmentation.

        Attributes:
            gain: Decibels of the highest peak and of the deepest dip, between which the gain is drawn evenly.
            quality: Ratio of the frequency to the width of the band (Q).
        """

        kind = "equaliser"
        low: float = 100.0
        high: float = 6000.0
        gain: float = 12.0
        quality: float = 1.0

        def __post_init__(self) -> None:
            super().__post_init__()
            legal = {
                "gain": (0 < self.gain <= 40, "decibels above 0, at most 40"),
                "quality": (0.1 <= self.quality <= 10, "a number from 0.1 to 10"),
            }
            require_legal(self.kind, legal, self)

    def draw_shape(self) -> tuple[float, ...]:
        """Draw the gain in decibels."""
        return draw_between(-self.options.gain, self.options.gain), self.options.quality
