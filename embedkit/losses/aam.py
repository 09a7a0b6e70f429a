"""Additive angular margin."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from embedkit.errors import ConfigError
from embedkit.losses.base import Loss
from embedkit.losses.rows import WeightedOptions, mean_over_rows, prepare_rows, target_log_probabilities


class AdditiveAngularMargin(Loss):
    """Cross-entropy on s cos(theta), with a margin m added to the angle of the true class (ArcFace, Deng et al. 2019).

    The scores are the margin-free cosines of a head that ends in a cosine classifier. Where theta + m passes pi,
    s (cos(theta) - m sin(m)) takes over, so that the logit goes on falling with the angle.
    """

    classifier = "cosine"

    @dataclass(frozen=True, kw_only=True)
    class Options(WeightedOptions):
        """Settings of the loss.

        Attributes:
            scale: Factor s on the cosines, above 0. With few classes the usual 64 is too strong.
            margin: Angle m in radians, from 0 to pi / 2.
            warmup: Share of the training over which the margin grows evenly from 0 to `margin`, 0 to 1.
        """

        scale: float = 30.0
        margin: float = 0.2
        warmup: float = 0.3

        def __post_init__(self) -> None:
            legal = {
                "scale": (0 < self.scale < math.inf, "a finite number above 0"),
                "margin": (0 <= self.margin <= math.pi / 2, "an angle from 0 to pi / 2"),
                "warmup": (0 <= self.warmup <= 1, "a share from 0 to 1"),
            }
            for name, (holds, expected) in legal.items():
                if not holds:
                    raise ConfigError(f"The loss 'aam': {name} is {getattr(self, name)}, expected {expected}.")

    def __call__(
        self,
        scores: Tensor,
        targets: Tensor,
        *,
        mask: Tensor | None = None,
        class_weights: Tensor | None = None,
        progress: float = 1.0,
    ) -> Tensor:
        """Return `[...]` from cosines `[..., batch, classes]`."""
        rows = prepare_rows(scores, targets, mask, class_weights)
        index = rows.targets.unsqueeze(-1)
        # Not clamped to [-1, 1], where rounding may leave it: an utterance at an angle of pi would get no gradient.
        shifted = add_margin(rows.scores.gather(-1, index), self.margin_at(progress))
        logits = self.options.scale * rows.scores.scatter(-1, index, shifted)
        return mean_over_rows(-target_log_probabilities(logits, rows.targets), rows.weights)

    def margin_at(self, progress: float) -> float:
        """Return the margin in radians after a share of the training."""
        warmup = self.options.warmup
        share = min(progress / warmup, 1.0) if warmup > 0 else 1.0
        return float(self.options.margin * share)

    def probabilities(self, scores: Tensor) -> Tensor:
        """Return the softmax of the scaled, margin-free cosines `[..., classes]`."""
        scale: float = self.options.scale
        return (scale * scores).softmax(-1)


def add_margin(cosines: Tensor, margin: float) -> Tensor:
    """Return cos(theta + margin) for cos(theta), `[...]`, extended monotonically where theta + margin > pi."""
    # The sine's slope is infinite at cosines of -1 and 1; below this floor it counts as constant.
    sines = (1 - cosines.square()).clamp_min(torch.finfo(cosines.dtype).eps).sqrt()
    shifted = cosines * math.cos(margin) - sines * math.sin(margin)
    extended = cosines - margin * math.sin(margin)
    return torch.where(cosines >= -math.cos(margin), shifted, extended)
