"""Reverberation, by convolution with an impulse response."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from embedkit.augmentations.base import Augmentation, draw_between, require_legal, require_range
from embedkit.augmentations.recordings import FolderOptions
from embedkit.errors import ConfigError


class Reverb(Augmentation):
    """The clip as a room gives it back: one that was recorded, or one of exponentially decaying white noise.

    The decay follows Polack (1988). Impulse responses are aligned at their peak, the direct sound, so that a clip keeps
    its length and its place in time; it keeps its energy, too.
    """

    needs_torchaudio = True

    @dataclass(frozen=True, kw_only=True)
    class Options(FolderOptions):
        """Settings of the augmentation.

        Attributes:
            low, high: Of synthetic ones: seconds between which the time is drawn evenly in which they fall by 60 dB.
            ratio: Of synthetic ones: decibels of the direct sound over the reverberation.
        """

        low: float = 0.1
        high: float = 0.5
        ratio: float = 5.0

        def __post_init__(self) -> None:
            require_range("reverb", self, 0.01, 10, "seconds")
            require_legal("reverb", {"ratio": (abs(self.ratio) <= 100, "decibels from -100 to 100")}, self)
            changed = [item.name for item in fields(self) if getattr(self, item.name) != item.default]
            if self.folder and len(changed) > 1:
                raise ConfigError(
                    f"The augmentation 'reverb': found {changed[1]} beside folder, but recorded impulse responses are "
                    "taken as they are; leave one of them out."
                )

    def __call__(self, waveform: Tensor, sampling_rate: int) -> Tensor:
        """Return the clip `[samples]` with reverberation."""
        from torchaudio.functional import fftconvolve

        samples = len(waveform)
        if self.recordings is None:
            response, onset = self._synthesise(sampling_rate), 0
        else:
            response = self.recordings.draw(sampling_rate)
            onset = int(response.abs().argmax())
        wet = fftconvolve(waveform, response[: onset + samples])[onset : onset + samples]
        energy = torch.linalg.vector_norm(wet)
        return wet * (torch.linalg.vector_norm(waveform) / energy) if energy else waveform

    def _synthesise(self, sampling_rate: int) -> Tensor:
        """Draw an impulse response `[samples]`: a direct sound of 1, then the decay."""
        seconds = draw_between(self.options.low, self.options.high)
        times = torch.arange(1, math.ceil(seconds * sampling_rate) + 1) / sampling_rate
        # An amplitude falls by 60 dB to a thousandth.
        tail = torch.randn(times.shape) * torch.exp(-math.log(1000) / seconds * times)
        tail *= 10 ** (-self.options.ratio / 20) / torch.linalg.vector_norm(tail)
        return torch.cat([torch.ones(1), tail])
