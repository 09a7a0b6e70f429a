"""SpecAugment (Park et al., Interspeech 2019): hide spans of time and of channels in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from embedkit.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SpecAugment:
    """How much is hidden.

    Attributes:
        time_share: Share of a clip's frames that spans of `time_span` frames cover, where they do not overlap.
        time_span: Frames in a span.
        channel_share: Share of the channels in the one span that is hidden throughout a clip.
    """

    time_share: float = 0.05
    time_span: int = 10
    channel_share: float = 0.05

    def __post_init__(self) -> None:
        for name, holds, expected in (
            ("time_share", 0 <= self.time_share <= 1, "a share from 0 to 1"),
            ("time_span", self.time_span >= 1, "at least 1 frame"),
            ("channel_share", 0 <= self.channel_share < 1, "a share from 0 to below 1"),
        ):
            if not holds:
                raise ConfigError(f"SpecAugment: {name} is {getattr(self, name)}, expected {expected}.")

    def __call__(self, values: Tensor, lengths: Sequence[int], filling: Tensor | None = None) -> Tensor:
        """Hide parts of `[batch, frames, channels]`, drawn from torch's global generator.

        Args:
            lengths: Own frames of each clip.
            filling: What hidden frames become, `[channels]`; None for zeros.
        """
        channels = values.shape[2]
        frames = torch.zeros(values.shape[:2], dtype=torch.bool)
        bands = torch.zeros(values.shape[0], channels, dtype=torch.bool)
        width = round(channels * self.channel_share)
        for clip, length in enumerate(lengths):
            for start in torch.randint(max(length - self.time_span, 0) + 1, (self._spans(length),)).tolist():
                frames[clip, start : min(start + self.time_span, length)] = True
            first = int(torch.randint(channels - width + 1, ()))
            bands[clip, first : first + width] = True
        place = frames.to(values.device)[..., None]
        hidden = values.masked_fill(place, 0.0) if filling is None else torch.where(place, filling.to(values), values)
        return hidden.masked_fill(bands.to(values.device)[:, None], 0.0)

    def _spans(self, length: int) -> int:
        """Round the expected number of spans up or down at random, so that short clips are not always spared."""
        return int(length * self.time_share / self.time_span + float(torch.rand(())))
