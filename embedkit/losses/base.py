"""The contract of every loss: scores and targets of many heads in, one number per head out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, TypeAlias

from torch import Tensor

from embedkit.losses.rows import balance

Task: TypeAlias = Literal["classes", "dimensions"]
"""What heads tell of an utterance: which class it is of, or where it lies on some dimensions."""


class Loss(ABC):
    """A loss over the last two dimensions of the scores; all leading dimensions are heads.

    Attributes:
        classifier: What the head ends in: "affine" (scores are logits), "cosine" (scores are cosines), or "probe"
            (scores are the logits of a classifier whose loss does not reach the representation it reads, followed in
            training by the cosines between the representations of all utterances of the batch).
        tasks: What it can train: "classes", "dimensions" (ratings such as valence), or both.
        Options: Frozen keyword-only dataclass of its settings, all with defaults.
        ratings: Columns of ratings that heads learn beside the classes, by one more output each; targets are then
            `[..., batch, 1 + ratings]`, class indices and standardised ratings (NaN where one is missing).
        soft: Whether its targets are the shares of annotators who named each class, `[..., batch, classes]`.
        spec, name: What it was built from, and the same without settings; empty where it was made by hand.
    """

    tasks: ClassVar[tuple[Task, ...]] = ("classes",)
    classifier: ClassVar[Literal["affine", "cosine", "probe"]] = "affine"
    Options: ClassVar[type[Any]]
    ratings: tuple[str, ...] = ()
    soft: ClassVar[bool] = False
    spec = name = ""

    def __init__(self, options: Any) -> None:
        self.options = options

    @abstractmethod
    def __call__(
        self,
        scores: Tensor,
        targets: Tensor,
        *,
        mask: Tensor | None = None,
        class_weights: Tensor | None = None,
        progress: float = 1.0,
    ) -> Tensor:
        """Return the loss of each head.

        Args:
            scores: `[..., batch, classes]`; of a probe `[..., batch, classes + batch]`; for dimensions
                `[..., batch, dimensions]`.
            targets: int64 class indices `[..., batch]`, shares of annotators `[..., batch, classes]` where `soft`, or
                standardised ratings `[..., batch, dimensions]`, broadcastable to the scores' leading dimensions.
            mask: bool `[..., batch]`, True for rows that count; rows without count as if they were not there.
            class_weights: `[..., classes]`, weighting rows by their true class as PyTorch's `weight` does.
            progress: Share of the training that is over, 0 to 1 (for warm-ups).

        Returns:
            `[...]`: finite for every legal batch (absent classes, one class, one row; zero where no row counts).
        """

    def weigh_classes(self, counts: Tensor) -> Tensor | None:
        """Return `class_weights` for a training set, None for none; here for losses whose `weights` are "balanced".

        Args:
            counts: How many utterances of each class are on the training set, `[..., classes]`.

        Returns:
            Float64 `[..., classes]`.
        """
        return balance(counts) if getattr(self.options, "weights", "none") == "balanced" else None

    def probabilities(self, scores: Tensor) -> Tensor:
        """Turn scores `[..., classes]` into class probabilities that sum to one; ratings are never asked for theirs."""
        return scores.softmax(-1)
