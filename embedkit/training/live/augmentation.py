"""Change training clips at random: noise and speed (SpecAugment lies in the encoder)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import soxr
import torch
from torch import Tensor

AUGMENTATIONS = ("noise", "speed", "specaugment")

SIGNAL_TO_NOISE = (10.0, 30.0)
"""Decibels, drawn evenly between these."""

SPEEDS = (0.9, 1.0, 1.1)
"""Ko et al., "Audio augmentation for speech recognition", Interspeech 2015; pitch changes with the speed."""


def change_waveform(waveform: Tensor, augment: Sequence[str], smallest: int, largest: int | None = None) -> Tensor:
    """Return a clip `[samples]` changed by draws from torch's global generator.

    Args:
        augment: Names of `AUGMENTATIONS`.
        smallest, largest: Samples that the encoder needs at least, and takes at most: a clip that would be too long
            keeps its speed.
    """
    if "speed" in augment:
        factor = SPEEDS[int(torch.randint(len(SPEEDS), ()))]
        if factor != 1.0:
            faster = soxr.resample(waveform.numpy(), factor, 1.0, quality="HQ").astype(np.float32)
            if largest is None or len(faster) <= largest:
                waveform = torch.from_numpy(np.pad(faster, (0, max(0, smallest - len(faster)))))
    if "noise" in augment:
        low, high = SIGNAL_TO_NOISE
        decibels = low + (high - low) * float(torch.rand(()))
        power = waveform.square().mean() * 10 ** (-decibels / 10)
        waveform = waveform + power.sqrt() * torch.randn(waveform.shape)
    return waveform
