"""Concordance correlation with ratings on dimensions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from embedkit.losses.base import Loss
from embedkit.losses.ccc import concordance
from embedkit.losses.rows import mask_scores, safe_ratio


class ConcordanceRegression(Loss):
    """1 - concordance correlation with the ratings (Lin 1989), the mean over dimensions such as valence and arousal.

    A dimension that is constant in the batch, as in one of a single row, counts as uncorrelated. It is a statistic of
    the whole batch: across processes or accumulation steps gather the scores first.
    """

    tasks = ("dimensions",)

    @dataclass(frozen=True, kw_only=True)
    class Options:
        """The loss has no settings."""

    def __call__(
        self,
        scores: Tensor,
        targets: Tensor,
        *,
        mask: Tensor | None = None,
        class_weights: Tensor | None = None,
        progress: float = 1.0,
    ) -> Tensor:
        """Return `[...]` from scores and standardised ratings `[..., batch, dimensions]`."""
        scores, counts = mask_scores(scores, mask)
        targets, _ = mask_scores(targets.to(scores.dtype), mask)
        counts = torch.ones_like(scores[..., 0]) if counts is None else counts
        total = counts.sum(-1)
        shares = safe_ratio(counts, total.unsqueeze(-1)).unsqueeze(-1)
        return (1 - concordance(scores, targets, shares).mean(-1)) * (total > 0)
