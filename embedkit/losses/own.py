"""What heads minimise that are fitted in one go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from embedkit.errors import ConfigError
from embedkit.losses.base import Loss, Task


class OwnObjective(Loss):
    """The objective that a head brings along (`logreg`, `lda`, `svm`, `knn`); its scores are logits."""

    tasks: ClassVar[tuple[Task, ...]] = ()

    @dataclass(frozen=True, kw_only=True)
    class Options:
        """The objective has no settings."""

    def __call__(
        self,
        scores: Tensor,
        targets: Tensor,
        *,
        mask: Tensor | None = None,
        class_weights: Tensor | None = None,
        progress: float = 1.0,
    ) -> Tensor:
        """Refuse to be trained under.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("The loss 'own' is what a fitted head minimises itself; nothing else is trained under it.")
