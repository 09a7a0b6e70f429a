"""Cross-entropy with the shares of annotators."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from embedkit.losses.base import Loss
from embedkit.losses.rows import WeightedOptions, mask_scores, safe_ratio


class SoftCrossEntropy(Loss):
    """Cross-entropy between the softmax of the logits and the shares of annotators who named each class.

    These are the soft labels of Fayek et al. (2016) and Ando et al. (2018). Where all name one class, it is `ce`.
    """

    soft = True

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
        """Return `[...]` from scores and shares `[..., batch, classes]`; each share has the weight of its class."""
        scores, counts = mask_scores(scores, mask)
        shares = targets.to(scores.dtype).expand(scores.shape)
        if counts is not None:
            shares = shares.masked_fill(counts.unsqueeze(-1) == 0, 0.0)
        if class_weights is not None:
            shares = shares * class_weights.to(shares.dtype).unsqueeze(-2)
        return safe_ratio(-(shares * scores.log_softmax(-1)).sum((-2, -1)), shares.sum((-2, -1)))
