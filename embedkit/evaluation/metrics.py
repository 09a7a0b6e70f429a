"""Scores of class predictions (accuracy, UAR, macro-F1) and of emotional attributes (CCC, RMSE).

Predictions may have leading axes, one row per head, seed or epoch: `[..., N]` against targets `[N]`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedkit.errors import FitError

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Scores:
    """Scores of one set of predictions, as fractions.

    Attributes:
        wa: Weighted accuracy: the share of utterances classified right.
        ua: Unweighted average recall: the mean recall over the classes present in the reference.
        f1: Macro-F1: the mean F1 over the classes present in the reference or the predictions.
    """

    wa: float
    ua: float
    f1: float


def score_predictions(targets: ArrayLike, predictions: ArrayLike, n_classes: int) -> Scores:
    """Compute all three scores of predictions `[N]` against class indices `[N]`.

    Raises:
        FitError: there is nothing to score, the lengths differ, or an index is no class.
    """
    matrix = confusion_matrix(targets, predictions, n_classes)
    return Scores(wa=float(accuracy(matrix)), ua=float(mean_recall(matrix)), f1=float(mean_f1(matrix)))


def unweighted_average_recall(targets: ArrayLike, predictions: ArrayLike, n_classes: int) -> FloatArray:
    """Compute the mean recall over the classes present in the targets, of many heads at once.

    Shape:
        Targets `[N]`, predictions `[..., N]`, output `[...]`.

    Raises:
        FitError: there is nothing to score, the lengths differ, or an index is no class.
    """
    targets, predictions = _checked(targets, predictions, n_classes)
    # Counts below 2 ** 24 are exact in float32, so equal recalls are equal whatever the order of the sum.
    members = np.equal.outer(targets, np.arange(n_classes)).astype(np.float32)
    hits = (predictions == targets).astype(np.float32) @ members
    sizes = members.sum(axis=0, dtype=np.float64)
    present = sizes > 0
    recalls: FloatArray = hits[..., present] / sizes[present]
    return np.asarray(recalls.mean(axis=-1))


def confusion_matrix(targets: ArrayLike, predictions: ArrayLike, n_classes: int) -> IntArray:
    """Count utterances by target (rows) and prediction (columns).

    Shape:
        Targets `[N]`, predictions `[..., N]`, output int64 `[..., n_classes, n_classes]`.

    Raises:
        FitError: there is nothing to score, the lengths differ, or an index is no class.
    """
    targets, predictions = _checked(targets, predictions, n_classes)
    rows = predictions.reshape(-1, predictions.shape[-1])
    cells = n_classes**2
    index = np.arange(len(rows))[:, None] * cells + targets * n_classes + rows
    counts = np.bincount(index.ravel(), minlength=len(rows) * cells)
    return counts.reshape(*predictions.shape[:-1], n_classes, n_classes)


def accuracy(matrix: NDArray[Any]) -> FloatArray:
    """Return the accuracy `[...]` of confusion matrices `[..., classes, classes]`."""
    return np.asarray(_hits(matrix).sum(-1) / matrix.sum((-2, -1)))


def mean_recall(matrix: NDArray[Any]) -> FloatArray:
    """Return the unweighted average recall `[...]` of confusion matrices `[..., classes, classes]`."""
    sizes = matrix.sum(-1)
    return _mean_where(sizes > 0, _hits(matrix), sizes)


def mean_f1(matrix: NDArray[Any]) -> FloatArray:
    """Return the macro-F1 `[...]` of confusion matrices `[..., classes, classes]`."""
    occurrences = matrix.sum(-1) + matrix.sum(-2)
    return _mean_where(occurrences > 0, 2 * _hits(matrix), occurrences)


def concordance_correlation(x: ArrayLike, y: ArrayLike) -> FloatArray:
    """Compute the concordance correlation coefficient over the last axis (Lin 1989), with population moments.

    Two constants that are equal agree, but correlate in nothing: their coefficient is 0.

    Shape:
        Input: `[..., N]` both, output `[...]`.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    x_mean, y_mean = x.mean(-1, keepdims=True), y.mean(-1, keepdims=True)
    covariance = ((x - x_mean) * (y - y_mean)).mean(-1)
    scatter = x.var(-1) + y.var(-1) + np.squeeze(x_mean - y_mean, -1) ** 2
    return np.asarray(np.divide(2 * covariance, scatter, out=np.zeros_like(scatter), where=scatter > 0))


def root_mean_square_error(x: ArrayLike, y: ArrayLike) -> FloatArray:
    """Compute the root of the mean squared difference over the last axis.

    Shape:
        Input: `[..., N]` both, output `[...]`.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    return np.asarray(np.sqrt(np.square(x - y).mean(-1)))


def _hits(matrix: NDArray[Any]) -> NDArray[Any]:
    return np.diagonal(matrix, axis1=-2, axis2=-1)


def _mean_where(present: NDArray[np.bool_], parts: NDArray[Any], wholes: NDArray[Any]) -> FloatArray:
    shares = np.divide(parts, wholes, out=np.zeros(parts.shape), where=present)
    return np.asarray(shares.sum(-1) / present.sum(-1))


def _checked(targets: ArrayLike, predictions: ArrayLike, n_classes: int) -> tuple[IntArray, IntArray]:
    targets, predictions = np.asarray(targets), np.asarray(predictions)
    if targets.ndim != 1 or predictions.shape[-1:] != targets.shape or not predictions.size:
        raise FitError(
            f"Cannot score predictions of shape {predictions.shape} against targets of shape {targets.shape}; "
            "expected as many as there are utterances, at least one."
        )
    highest = n_classes - 1
    for name, values in (("targets", targets), ("predictions", predictions)):
        if values.dtype.kind not in "iu" or values.min() < 0 or values.max() > highest:
            raise FitError(f"The {name} hold something other than class indices; expected integers 0 to {highest}.")
    return targets.astype(np.int64, copy=False), predictions.astype(np.int64, copy=False)
