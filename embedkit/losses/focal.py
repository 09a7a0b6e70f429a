"""Focal loss."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from embedkit.errors import ConfigError
from embedkit.losses.base import Loss
from embedkit.losses.rows import WeightedOptions, mean_over_rows, prepare_rows, target_log_probabilities


class Focal(Loss):
    """Multi-class focal loss, -(1 - p_t)^gamma log p_t (Lin et al. 2017), with optional class weights."""

    @dataclass(frozen=True, kw_only=True)
    class Options(WeightedOptions):
        """Settings of the loss.

        Attributes:
            gamma: How strongly easy utterances are discounted, at least 0; 0 is cross-entropy.
        """

        gamma: float = 2.0

        def __post_init__(self) -> None:
            if not 0 <= self.gamma < math.inf:
                raise ConfigError(f"The loss 'focal': gamma is {self.gamma}, expected a finite number of at least 0.")

    def __call__(
        self,
        scores: Tensor,
        targets: Tensor,
        *,
        mask: Tensor | None = None,
        class_weights: Tensor | None = None,
        progress: float = 1.0,
    ) -> Tensor:
        """Return `[...]` from `[..., batch, classes]`."""
        rows = prepare_rows(scores, targets, mask, class_weights)
        log_p = target_log_probabilities(rows.scores, rows.targets)
        # For gamma < 1 the power's slope is infinite at p_t = 1, where the logarithm is zero: inf * 0 would be NaN.
        doubt = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny)
        return mean_over_rows(-(doubt**self.options.gamma) * log_p, rows.weights)
