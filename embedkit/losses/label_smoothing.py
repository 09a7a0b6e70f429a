"""Label smoothing."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from embedkit.errors import ConfigError
from embedkit.losses.base import Loss
from embedkit.losses.rows import WeightedOptions, log_softmax, prepare_rows, safe_ratio


class LabelSmoothing(Loss):
    """Cross-entropy with labels of which epsilon is spread evenly over all classes (Szegedy et al. 2016).

    Every class gets epsilon / K and the true class 1 - epsilon besides, as in PyTorch.
    """

    @dataclass(frozen=True, kw_only=True)
    class Options(WeightedOptions):
        """Settings of the loss.

        Attributes:
            epsilon: Share of each label that is spread over all classes, from 0 to below 1.
        """

        epsilon: float = 0.1

        def __post_init__(self) -> None:
            if not 0 <= self.epsilon < 1:
                raise ConfigError(f"The loss 'label-smoothing': epsilon is {self.epsilon}, expected 0 <= epsilon < 1.")

    def __call__(
        self,
        scores: Tensor,
        targets: Tensor,
        *,
        mask: Tensor | None = None,
        class_weights: Tensor | None = None,
        progress: float = 1.0,
    ) -> Tensor:
        """Return `[...]` from `[..., batch, classes]`, equal to PyTorch's `label_smoothing`.

        As in PyTorch, class weights weigh the even part by every class and the sum by the true classes alone.
        """
        rows = prepare_rows(scores, targets, mask, class_weights)
        epsilon: float = self.options.epsilon
        surprisal = -log_softmax(rows.scores)
        hard = surprisal.gather(-1, rows.targets.unsqueeze(-1)).squeeze(-1)
        if class_weights is not None:
            surprisal = surprisal * class_weights.to(surprisal.dtype).unsqueeze(-2)
        even = surprisal.mean(-1)
        if rows.weights is None:
            return ((1 - epsilon) * hard + epsilon * even).sum(-1) / max(hard.shape[-1], 1)
        if rows.counts is not None:
            even = even * rows.counts
        return safe_ratio(((1 - epsilon) * hard * rows.weights + epsilon * even).sum(-1), rows.weights.sum(-1))
