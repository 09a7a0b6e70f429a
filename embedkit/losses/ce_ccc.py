"""Cross-entropy on the classes and concordance with ratings as a second task."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from embedkit.errors import ConfigError
from embedkit.losses.base import Loss
from embedkit.losses.ccc import concordance
from embedkit.losses.rows import WeightedOptions, mean_over_rows, prepare_rows, safe_ratio, target_log_probabilities


class CrossEntropyAndConcordance(Loss):
    """Weighted sum of cross-entropy and 1 - concordance correlation with ratings such as valence (Lin 1989).

    Heads give logits, then one number for each rating. The second term is the mean over the ratings known in the batch;
    utterances that lack one count for the others alone. It is a statistic of the whole batch: across processes or
    accumulation steps gather the scores first.
    """

    @dataclass(frozen=True, kw_only=True)
    class Options(WeightedOptions):
        """Settings of the loss.

        Attributes:
            ce, ccc: What the two terms weigh, 0 or more.
            ratings: Columns of numbers, joined by "+".
        """

        ce: float = 0.5
        ccc: float = 0.5
        ratings: str = "valence+arousal+dominance"

        def __post_init__(self) -> None:
            for name in ("ce", "ccc"):
                if not 0 <= getattr(self, name) < math.inf:
                    found = getattr(self, name)
                    raise ConfigError(f"The loss 'ce+ccc': {name} is {found}, expected a finite number of at least 0.")

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.ratings = tuple(name.strip() for name in options.ratings.split("+"))

    def __call__(
        self,
        scores: Tensor,
        targets: Tensor,
        *,
        mask: Tensor | None = None,
        class_weights: Tensor | None = None,
        progress: float = 1.0,
    ) -> Tensor:
        """Return `[...]` from scores `[..., batch, classes + ratings]` and targets `[..., batch, 1 + ratings]`."""
        classes = scores.shape[-1] - len(self.ratings)
        labels, ratings = targets[..., 0], targets[..., 1:]
        known = ratings.isfinite() if mask is None else ratings.isfinite() & mask.unsqueeze(-1)
        if mask is not None:
            labels = labels.masked_fill(~mask, 0)
        rows = prepare_rows(scores[..., :classes], labels.long(), mask, class_weights)
        entropy = mean_over_rows(-target_log_probabilities(rows.scores, rows.targets), rows.weights)
        predicted = scores[..., classes:].to(rows.scores.dtype).masked_fill(~known, 0.0)
        actual = ratings.to(predicted.dtype).masked_fill(~known, 0.0)
        counts = known.to(predicted.dtype).expand_as(predicted)
        shares = safe_ratio(counts, counts.sum(-2, keepdim=True))
        rated = (counts.sum(-2) > 0).to(predicted.dtype)
        distances = (1 - concordance(predicted, actual, shares)) * rated
        agreement: Tensor = distances.sum(-1) / rated.sum(-1).clamp_min(1.0)
        total: Tensor = self.options.ce * entropy + self.options.ccc * agreement
        return total

    def probabilities(self, scores: Tensor) -> Tensor:
        """Return the softmax of the logits, `[..., classes]`, from `[..., classes + ratings]`."""
        return scores[..., : scores.shape[-1] - len(self.ratings)].softmax(-1)
