"""SpecAugment among the augmentations."""

from __future__ import annotations

from torch import Tensor

from embedkit.augmentations.base import Augmentation
from embedkit.encoders.spec_augment import SpecAugment


class Masking(Augmentation):
    """Hidden spans of time and of channels: of features, so it is for the encoder to hide them by these settings."""

    Options = SpecAugment
    requires = "specaugment"

    def __call__(self, waveform: Tensor, sampling_rate: int) -> Tensor:
        """Return the clip as it is."""
        return waveform
