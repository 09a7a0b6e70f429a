"""Noise at a random signal-to-noise ratio."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from embedkit.augmentations.base import Augmentation, draw_between, require_range
from embedkit.augmentations.recordings import FolderOptions


class Noise(Augmentation):
    """White noise, or a random stretch of a recording that is cut, or repeated, to the clip's length.

    The ratio holds for the energies of the whole clip and of the stretch; where one of them is silent there is none,
    and the clip stays as it is.
    """

    needs_torchaudio = True

    @dataclass(frozen=True, kw_only=True)
    class Options(FolderOptions):
        """Settings of the augmentation.

        Attributes:
            low, high: Decibels between which the ratio is drawn evenly.
        """

        low: float = 10.0
        high: float = 30.0

        def __post_init__(self) -> None:
            require_range("noise", self, -100, 100, "decibels")

    def __call__(self, waveform: Tensor, sampling_rate: int) -> Tensor:
        """Return the clip `[samples]` with noise added."""
        if self.recordings is None:
            noise = torch.randn(waveform.shape)
        else:
            noise = fit_length(self.recordings.draw(sampling_rate), len(waveform))
        return mix(waveform, noise, draw_between(self.options.low, self.options.high))


def mix(waveform: Tensor, noise: Tensor, decibels: float) -> Tensor:
    """Add noise to a clip, `[samples]` both, at a ratio of their energies; where one is silent there is none."""
    from torchaudio.functional import add_noise

    peak = noise.abs().max()
    # Scaled, for the energy of faint noise would be zero.
    return add_noise(waveform, noise / peak, torch.tensor(decibels)) if peak else waveform


def fit_length(recording: Tensor, samples: int, generator: torch.Generator | None = None) -> Tensor:
    """Cut `[any]` to `[samples]` at a random place, or repeat it from a random place on."""
    if len(recording) >= samples:
        start = int(torch.randint(len(recording) - samples + 1, (), generator=generator))
        return recording[start : start + samples]
    start = int(torch.randint(len(recording), (), generator=generator))
    return recording.roll(-start).repeat(-(-samples // len(recording)))[:samples]
