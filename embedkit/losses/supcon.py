"""Supervised contrastive learning with a linear probe."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from embedkit.errors import ConfigError
from embedkit.losses.base import Loss
from embedkit.losses.rows import WeightedOptions, mean_over_rows, prepare_rows, target_log_probabilities


class SupervisedContrastive(Loss):
    """Supervised contrastive loss on a head's representation (L_out, Khosla et al. 2020), plus a linear probe on it.

    Each utterance is drawn towards those of its class in the mini-batch and away from all others; utterances whose
    class has no other row there are drawn nowhere. The probe is a classifier under cross-entropy whose loss does not
    reach the representation: the two terms train different parameters, so that neither needs a weight. It is a
    statistic of the whole batch: across processes or accumulation steps gather the representations first.
    """

    classifier = "probe"

    @dataclass(frozen=True, kw_only=True)
    class Options(WeightedOptions):
        """Settings of the loss.

        Attributes:
            temperature: What cosines are divided by, above 0; the lower, the more the hardest pairs count.
        """

        temperature: float = 0.1

        def __post_init__(self) -> None:
            if not 1e-3 <= self.temperature < math.inf:
                raise ConfigError(
                    f"The loss 'supcon': temperature is {self.temperature}, expected a finite number of at least 0.001."
                )

    def __call__(
        self,
        scores: Tensor,
        targets: Tensor,
        *,
        mask: Tensor | None = None,
        class_weights: Tensor | None = None,
        progress: float = 1.0,
    ) -> Tensor:
        """Return `[...]` from logits and mutual cosines `[..., batch, classes + batch]`."""
        classes = scores.shape[-1] - scores.shape[-2]
        rows = prepare_rows(scores[..., :classes], targets, mask, class_weights)
        probe = mean_over_rows(-target_log_probabilities(rows.scores, rows.targets), rows.weights)
        similarities = scores[..., classes:].to(rows.scores.dtype) / self.options.temperature
        pairs = ~torch.eye(scores.shape[-2], dtype=torch.bool, device=scores.device)
        if mask is not None:
            pairs = pairs & mask.unsqueeze(-1) & mask.unsqueeze(-2)
        positives = pairs & (rows.targets.unsqueeze(-1) == rows.targets.unsqueeze(-2))
        return probe + _contrast(similarities, pairs, positives, rows.weights)


def _contrast(similarities: Tensor, pairs: Tensor, positives: Tensor, weights: Tensor | None) -> Tensor:
    """Return the mean over anchors of -log of the share that their positives have among all their pairs.

    Shape:
        similarities, pairs (True for two different rows that count) and positives (those of one class):
        `[..., batch, batch]`; weights: `[..., batch]`. Output: `[...]`.
    """
    # A finite floor instead of minus infinity: an anchor without any pair has no softmax.
    kept = similarities.masked_fill(~pairs, torch.finfo(similarities.dtype).min / 2)
    shares = kept.log_softmax(-1).masked_fill(~positives, 0.0)
    counts = positives.sum(-1)
    anchors = (counts > 0).to(similarities.dtype)
    values = -shares.sum(-1) / counts.clamp_min(1)
    return mean_over_rows(values, anchors if weights is None else anchors * weights)
