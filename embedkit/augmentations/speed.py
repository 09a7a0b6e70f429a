"""Another speed, by resampling."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from embedkit.augmentations.base import Augmentation, require_legal


class Speed(Augmentation):
    """One of three speeds: slower, as it is, faster (Ko et al., "Audio augmentation for speech recognition", 2015).

    The pitch changes with the speed.
    """

    requires = "speed"
    needs_torchaudio = True

    @dataclass(frozen=True, kw_only=True)
    class Options:
        """Settings of the augmentation.

        Attributes:
            change: How much slower and faster, in hundredths: 0.1 for 0.9 and 1.1 times the speed.
        """

        change: float = 0.1

        def __post_init__(self) -> None:
            # The filter of a resampler grows with the numbers in the lowest terms of the ratio of both rates.
            whole = 1 <= self.change * 100 <= 50 and abs(self.change * 100 - round(self.change * 100)) < 1e-6
            require_legal("speed", {"change": (whole, "hundredths from 0.01 to 0.5")}, self)

    def __call__(self, waveform: Tensor, sampling_rate: int) -> Tensor:
        """Return the clip `[samples]` as it is, or longer or shorter."""
        from torchaudio.functional import resample

        hundredths = round(100 * self.options.change) * (int(torch.randint(3, ())) - 1)
        changed: Tensor = resample(waveform, 100 + hundredths, 100)
        return changed
