"""Concordance correlation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from embedkit.losses.base import Loss
from embedkit.losses.rows import WeightedOptions, prepare_rows, safe_ratio, softmax


class ConcordanceCorrelation(Loss):
    """1 - concordance correlation between class probabilities and one-hot labels (Lin 1989).

    The mean runs over the classes present in the batch; with `flat`, all classes' probabilities form one long
    variable. It is a statistic of the whole batch: across processes or accumulation steps gather the scores first.
    """

    @dataclass(frozen=True, kw_only=True)
    class Options(WeightedOptions):
        """Settings of the loss.

        Attributes:
            flat: Correlate the probabilities of all classes at once instead of class by class.
        """

        flat: bool = False

    def __call__(
        self,
        scores: Tensor,
        targets: Tensor,
        *,
        mask: Tensor | None = None,
        class_weights: Tensor | None = None,
        progress: float = 1.0,
    ) -> Tensor:
        """Return `[...]` from `[..., batch, classes]`; weighted rows enter every moment with their weight."""
        rows = prepare_rows(scores, targets, mask, class_weights)
        predicted = softmax(rows.scores)
        actual = torch.zeros_like(predicted).scatter(-1, rows.targets.unsqueeze(-1), 1.0)
        weights = torch.ones_like(predicted[..., 0]) if rows.weights is None else rows.weights
        shares = safe_ratio(weights, weights.sum(-1, keepdim=True)).unsqueeze(-1)
        present = ((shares * actual).sum(-2) > 0).to(shares.dtype)
        if self.options.flat:
            classes = predicted.shape[-1]
            predicted, actual = predicted.flatten(-2).unsqueeze(-1), actual.flatten(-2).unsqueeze(-1)
            shares = (shares / classes).expand(*shares.shape[:-1], classes).flatten(-2).unsqueeze(-1)
            present = present.amax(-1, keepdim=True)
        losses = (1 - concordance(predicted, actual, shares)) * present
        return losses.sum(-1) / present.sum(-1).clamp_min(1.0)


def concordance(predicted: Tensor, actual: Tensor, shares: Tensor) -> Tensor:
    """Return 2 cov / (var + var + squared difference of means), with population moments over the rows.

    Shape:
        predicted, actual: `[..., rows, variables]`; shares: `[..., rows, 1]`, summing to one.
        Output: `[..., variables]`; zero where both variables are constant.
    """
    means = [(shares * values).sum(-2, keepdim=True) for values in (predicted, actual)]
    from_predicted, from_actual = predicted - means[0], actual - means[1]
    covariance = (shares * from_predicted * from_actual).sum(-2)
    variances = (shares * (from_predicted.square() + from_actual.square())).sum(-2)
    # The floor is reached only where both variables are constant and equal: the correlation is 0 / 0 there.
    spread = (variances + (means[0] - means[1]).squeeze(-2).square()).clamp_min(1e-8)
    return 2 * covariance / spread
