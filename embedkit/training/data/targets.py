"""What heads learn to tell of an utterance: its class, or where it lies on some dimensions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedkit.evaluation.metrics import concordance_correlation, unweighted_average_recall
from embedkit.losses.base import Loss
from embedkit.training.data.folds import Indices


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Mean and standard deviation of every dimension on a training set, float64 `[dimensions]`."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    @classmethod
    def measure(cls, values: NDArray[np.float64]) -> Scale:
        """Measure `[utterances, dimensions]`; a dimension that never varies is only centred."""
        mean, deviation = values.mean(0), values.std(0)
        constant = deviation <= 1e-9 * np.maximum(1.0, np.abs(mean))
        return cls(mean=mean, deviation=np.where(constant, 1.0, deviation))

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor], prefix: str) -> Scale | None:
        """Find what `named` wrote; None where there is none."""
        if f"{prefix}rating_mean" not in tensors:
            return None
        return cls(mean=tensors[f"{prefix}rating_mean"].numpy(), deviation=tensors[f"{prefix}rating_deviation"].numpy())

    def named(self, prefix: str) -> dict[str, Tensor]:
        """Return both as tensors, named for a safetensors file."""
        return {
            f"{prefix}rating_mean": torch.from_numpy(self.mean),
            f"{prefix}rating_deviation": torch.from_numpy(self.deviation),
        }

    def restore(self, standardised: NDArray[Any]) -> NDArray[np.float64]:
        """Map what heads give, `[..., dimensions]`, back to the unit of the ratings."""
        return np.asarray(standardised * self.deviation + self.mean, dtype=np.float64)


class Targets(ABC):
    """The truth about every utterance of a study, and how predictions are scored against it.

    Attributes:
        score_name: What the score is called that everything is chosen by.
        outputs: Numbers that a head gives for an utterance.
    """

    score_name: ClassVar[str]
    outputs: int

    def scale(self, train: Indices) -> Scale | None:
        """Return by what ratings are standardised where utterances `[n]` are trained on; None for classes alone."""
        return None

    def span(self, train: Indices) -> list[list[float]]:
        """Return the lowest and the highest of each rating of utterances `[n]`; nothing for classes alone."""
        return []

    def count_classes(self, train: Indices) -> NDArray[np.int64]:
        """Count the utterances of each class, `[outputs]`; zeros where there are no classes."""
        return np.zeros(self.outputs, dtype=np.int64)

    @abstractmethod
    def gather(self, index: Indices, scales: Sequence[Scale | None], dtype: torch.dtype) -> Tensor:
        """Collect what the loss compares scores with, for utterances `[groups, batch]`."""

    def choose(self, gathered: Tensor, loss: Loss) -> Tensor:
        """Return what one of the losses compares scores with, from what `gather` collected, `[groups, batch, ...]`."""
        return gathered

    @abstractmethod
    def reserve(self, *size: int) -> NDArray[Any]:
        """Return an array for predictions of `[*size]` utterances that says of each that there is none."""

    @abstractmethod
    def predict(self, scores: Tensor, scale: Scale | None) -> NDArray[Any]:
        """Turn scores `[members, utterances, outputs]` into what is kept of them."""

    @abstractmethod
    def score(self, index: Indices, predictions: NDArray[Any]) -> NDArray[np.float64]:
        """Score predictions `[..., utterances, ...]` of some utterances together: `[...]`, higher is better."""


class ClassTargets(Targets):
    """Class indices `[utterances]`; a prediction is the class with the highest score, judged by UA."""

    score_name = "UA"

    def __init__(self, values: NDArray[np.int64], classes: int) -> None:
        self.values, self.classes, self.outputs = values, classes, classes

    def count_classes(self, train: Indices) -> NDArray[np.int64]:
        return np.bincount(self.values[train], minlength=self.classes)

    def gather(self, index: Indices, scales: Sequence[Scale | None], dtype: torch.dtype) -> Tensor:
        return torch.from_numpy(self.values[index])

    def reserve(self, *size: int) -> NDArray[np.int16]:
        return np.full(size, -1, dtype=np.int16)

    def predict(self, scores: Tensor, scale: Scale | None) -> NDArray[np.int16]:
        predicted: NDArray[np.int16] = scores.argmax(-1).numpy().astype(np.int16)
        return predicted

    def score(self, index: Indices, predictions: NDArray[np.int16]) -> NDArray[np.float64]:
        return unweighted_average_recall(self.values[index], predictions, self.classes)


class RatedClassTargets(ClassTargets):
    """Classes, and ratings that heads learn beside them: `[utterances, 1 + ratings]`, NaN where a rating is missing.

    A head gives a score for each class, then a number for each rating; only its classes are judged.
    """

    def __init__(self, values: NDArray[np.float64], outputs: int) -> None:
        super().__init__(values[:, 0].astype(np.int64), outputs - values.shape[1] + 1)
        self.ratings, self.outputs = values[:, 1:], outputs

    def scale(self, train: Indices) -> Scale:
        known = [column[np.isfinite(column)] for column in self.ratings[train].T]
        parts = [Scale.measure(own[:, None] if len(own) else np.zeros((1, 1))) for own in known]
        return Scale(
            mean=np.concatenate([part.mean for part in parts]),
            deviation=np.concatenate([part.deviation for part in parts]),
        )

    def gather(self, index: Indices, scales: Sequence[Scale | None], dtype: torch.dtype) -> Tensor:
        labels = torch.from_numpy(self.values[index]).to(dtype)
        return torch.cat([labels.unsqueeze(-1), _standardise(self.ratings[index], scales, dtype)], -1)

    def predict(self, scores: Tensor, scale: Scale | None) -> NDArray[np.int16]:
        return super().predict(scores[..., : self.classes], scale)


class SoftClassTargets(ClassTargets):
    """Classes, and the shares of annotators who named each, `[utterances, 1 + classes]`.

    Heads are judged by the classes, under whatever loss, so that what is chosen compares.
    """

    def __init__(self, values: NDArray[np.float64]) -> None:
        super().__init__(values[:, 0].astype(np.int64), values.shape[1] - 1)
        self.both = torch.from_numpy(values)

    def gather(self, index: Indices, scales: Sequence[Scale | None], dtype: torch.dtype) -> Tensor:
        return self.both[torch.from_numpy(index)].to(dtype)

    def choose(self, gathered: Tensor, loss: Loss) -> Tensor:
        return gathered[..., 1:] if loss.soft else gathered[..., 0].long()


class DimensionTargets(Targets):
    """Ratings `[utterances, dimensions]`, standardised by the training set; judged by the mean CCC.

    Predictions are kept in the unit of the ratings, so that those of several inner folds can be pooled.
    """

    score_name = "CCC"

    def __init__(self, values: NDArray[np.float64]) -> None:
        self.values, self.outputs = values, values.shape[1]

    def scale(self, train: Indices) -> Scale:
        return Scale.measure(self.values[train])

    def span(self, train: Indices) -> list[list[float]]:
        found: list[list[float]] = np.stack([self.values[train].min(0), self.values[train].max(0)], axis=1).tolist()
        return found

    def gather(self, index: Indices, scales: Sequence[Scale | None], dtype: torch.dtype) -> Tensor:
        return _standardise(self.values[index], scales, dtype)

    def reserve(self, *size: int) -> NDArray[np.float32]:
        return np.full((*size, self.outputs), np.nan, dtype=np.float32)

    def predict(self, scores: Tensor, scale: Scale | None) -> NDArray[np.float32]:
        assert scale is not None
        return scale.restore(scores.numpy()).astype(np.float32)

    def score(self, index: Indices, predictions: NDArray[np.float32]) -> NDArray[np.float64]:
        # A head that diverged is the worst there is: it must not win over those that say the opposite of the truth.
        finite = np.asarray(np.isfinite(predictions).all((-2, -1)))
        by_dimension = np.moveaxis(np.where(finite[..., None, None], predictions, 0.0), -1, -2)
        return np.where(finite, concordance_correlation(by_dimension, self.values[index].T).mean(-1), -1.0)


def build_targets(values: NDArray[Any], outputs: int) -> Targets:
    """Tell classes from dimensions: integers `[utterances]`, or floats `[utterances, dimensions]`.

    Floats that are fewer than the outputs are `[utterances, 1 + ratings]`: classes, and ratings beside them; one more
    are `[utterances, 1 + classes]`: classes, and the shares of annotators who named each.
    """
    if values.dtype.kind in "iu":
        return ClassTargets(values, outputs)
    if values.shape[1] > outputs:
        return SoftClassTargets(values)
    return DimensionTargets(values) if values.shape[1] == outputs else RatedClassTargets(values, outputs)


def _standardise(values: NDArray[np.float64], scales: Sequence[Scale | None], dtype: torch.dtype) -> Tensor:
    """Standardise ratings `[groups, batch, dimensions]`, each group by a scale of its own."""
    known = [scale for scale in scales if scale is not None]
    means, deviations = (np.stack([getattr(scale, name) for scale in known]) for name in ("mean", "deviation"))
    return torch.from_numpy((values - means[:, None]) / deviations[:, None]).to(dtype)
