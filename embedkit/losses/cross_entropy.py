"""Cross-entropy."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from embedkit.losses.base import Loss
from embedkit.losses.rows import WeightedOptions, mean_over_rows, prepare_rows, target_log_probabilities


class CrossEntropy(Loss):
    """Cross-entropy between the softmax of the logits and the labels."""

    @dataclass(frozen=True, kw_only=True)
    class Options(WeightedOptions):
        """Settings of the loss."""

    def __call__(
        self,
        scores: Tensor,
        targets: Tensor,
        *,
        mask: Tensor | None = None,
        class_weights: Tensor | None = None,
        progress: float = 1.0,
    ) -> Tensor:
        """Return `[...]` from `[..., batch, classes]`, equal to `torch.nn.functional.cross_entropy`."""
        rows = prepare_rows(scores, targets, mask, class_weights)
        return mean_over_rows(-target_log_probabilities(rows.scores, rows.targets), rows.weights)
