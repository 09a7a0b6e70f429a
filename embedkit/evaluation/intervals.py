"""Confidence intervals that treat speakers, not utterances, as the sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit, stdtrit

from embedkit.evaluation.metrics import confusion_matrix, mean_f1
from embedkit.evaluation.significance import agreement_moments, concordances
from embedkit.evaluation.speaker_model import PRIOR_OF_LOSSES, FloatArray, Variance, speaker_variance

IntArray: TypeAlias = NDArray[np.int64]
Interval: TypeAlias = tuple[float, float]
Score: TypeAlias = Literal["ua", "wa", "f1"]

LEVEL = 0.95

_UNKNOWN: Interval = (math.nan, math.nan)


@dataclass(frozen=True)
class ScoreIntervals:
    """Intervals `(low, high)` of accuracy, unweighted average recall, macro-F1, and the recall of every class."""

    wa: Interval
    ua: Interval
    f1: Interval
    recalls: tuple[Interval, ...]


@dataclass(frozen=True, kw_only=True)
class Contributions:
    """What utterances add to a score: it is the sum of classes' means by their weights, but for a constant.

    Attributes:
        values: Averaged over seeds, `[utterances]`.
        weights: Of the classes that occur, `[classes]`.
        classes: Of every utterance, as an index into the weights.
    """

    values: FloatArray
    weights: FloatArray
    classes: IntArray

    def variance(self, speakers: ArrayLike) -> Variance:
        """Estimate the variance over speakers that there could be."""
        return speaker_variance(self.values, self.weights, self.classes, speakers)

    def less(self, other: Contributions) -> Contributions:
        """Return what the same utterances add to the difference of two scores."""
        weights = (self.weights + other.weights) / 2
        parts = (one.values * (one.weights / weights)[one.classes] for one in (self, other))
        return Contributions(values=np.subtract(*parts), weights=weights, classes=self.classes)


def contributions(targets: ArrayLike, predictions: ArrayLike, n_classes: int, score: Score) -> Contributions:
    """Compute what utterances add to a score, averaged over seeds.

    Shape:
        Targets `[N]`, predictions `[N]` or `[seeds, N]`.
    """
    truth, found = np.asarray(targets), np.atleast_2d(predictions)
    values, weights = answer_values(confusion_matrix(truth, found, n_classes), score)
    parts = (values * weights[..., None])[np.arange(len(found))[:, None], truth, found].mean(0)
    present, classes = np.unique(truth, return_inverse=True)
    weights = weights.mean(0)[present]
    return Contributions(values=parts / weights[classes], weights=weights, classes=classes)


def answer_values(matrix: NDArray[np.int64], score: Score) -> tuple[FloatArray, FloatArray]:
    """Compute what an answer (columns) to each class (rows) adds to the mean of its class, and the classes' weights.

    A right answer adds 1, to F1 a little less: F1 goes by its derivative at the counts that were found, where an answer
    takes from the class that it names. So values of large and small classes are on one scale, as the model needs them.

    Shape:
        Counts and values `[..., classes, classes]`, weights `[..., classes]`; 0 for a class without utterances.
    """
    sizes = matrix.sum(-1).astype(np.float64)
    right = np.broadcast_to(np.eye(matrix.shape[-1]), matrix.shape)
    if score == "ua":
        return right, (sizes > 0) / (sizes > 0).sum(-1, keepdims=True)
    if score == "wa":
        return right, sizes / sizes.sum(-1, keepdims=True)
    occurrences = matrix.sum(-1) + matrix.sum(-2)
    rate = np.divide(1.0, occurrences, out=np.zeros(occurrences.shape), where=occurrences > 0)
    lost = np.diagonal(matrix, axis1=-2, axis2=-1) * rate**2
    weights = 2 * sizes * rate / (occurrences > 0).sum(-1, keepdims=True)
    return right - lost[..., None, :] * occurrences[..., :, None], weights


def score_intervals(
    targets: ArrayLike,
    predictions: ArrayLike,
    speakers: Sequence[str] | NDArray[np.str_],
    n_classes: int,
    level: float = LEVEL,
) -> ScoreIntervals:
    """Compute the intervals of all scores, each averaged over seeds, by the model of speakers on the logit scale.

    The recall of a class that does not occur has none (NaN), and nothing has one with fewer than two speakers.

    Shape:
        Targets `[N]`, predictions `[N]` or `[seeds, N]`, speakers `[N]`.

    Raises:
        FitError: there is nothing to score, the lengths differ, or an index is no class.
    """
    targets, predictions = np.asarray(targets), np.atleast_2d(predictions)
    f1 = float(mean_f1(confusion_matrix(targets, predictions, n_classes)).mean())
    names, owners = np.unique(np.asarray(speakers), return_inverse=True)
    if len(names) < 2:
        return ScoreIntervals(wa=_UNKNOWN, ua=_UNKNOWN, f1=_UNKNOWN, recalls=(_UNKNOWN,) * n_classes)
    ua, wa, parts = (contributions(targets, predictions, n_classes, score) for score in ("ua", "wa", "f1"))
    recalls = np.bincount(ua.classes, ua.values) / np.bincount(ua.classes)

    def interval(value: float, one: Contributions, count: int) -> Interval:
        return logit_interval(value, one.variance(owners), count, level)

    each = dict.fromkeys(range(n_classes), _UNKNOWN)
    for place, number in enumerate(np.unique(targets)):
        alone = Contributions(values=ua.values, weights=np.eye(len(recalls))[place], classes=ua.classes)
        each[int(number)] = interval(float(recalls[place]), alone, int((targets == number).sum()))
    return ScoreIntervals(
        wa=interval(float(wa.values.mean()), wa, len(targets)),
        ua=interval(float(recalls.mean()), ua, len(targets)),
        f1=interval(f1, parts, len(targets)),
        recalls=tuple(each.values()),
    )


def logit_interval(value: float, variance: Variance, utterances: int, level: float = LEVEL) -> Interval:
    """Compute a t interval of a share on the logit scale, so that it stays between 0 and 1."""
    inside = min(max(value, 0.5 / utterances), 1 - 0.5 / utterances)
    half = _half_width(variance, level) / (inside * (1 - inside))
    centre = float(logit(inside))
    return (
        0.0 if value <= 0 else float(expit(centre - half)),
        1.0 if value >= 1 else float(expit(centre + half)),
    )


def plain_interval(value: float, variance: Variance, level: float = LEVEL) -> Interval:
    """Compute a t interval around a difference."""
    half = _half_width(variance, level)
    return value - half, value + half


def mean_interval(
    values: ArrayLike, targets: ArrayLike, speakers: Sequence[str] | NDArray[np.str_], level: float = LEVEL
) -> Interval:
    """Compute the interval of a mean above 0 by the model of speakers, on the scale of logarithms.

    Args:
        values: What utterances add to the mean, each averaged over seeds.

    Returns:
        `(low, high)`; both NaN with fewer than two speakers, or of a mean of 0.

    Shape:
        Values, targets (class indices) and speakers `[N]`.
    """
    own = np.asarray(values, dtype=np.float64)
    names, owners = np.unique(np.asarray(speakers), return_inverse=True)
    _, classes, sizes = np.unique(np.asarray(targets), return_inverse=True, return_counts=True)
    mean = float(own.mean())
    if len(names) < 2 or mean <= 0:
        return _UNKNOWN
    # Of a mean of 1: the model's least variance is one of shares.
    variance = speaker_variance(own / mean, sizes / len(own), classes, owners, PRIOR_OF_LOSSES)
    factor = math.exp(_half_width(variance, level))
    return mean / factor, mean * factor


def _half_width(variance: Variance, level: float) -> float:
    return float(stdtrit(variance.freedom, (1 + level) / 2)) * math.sqrt(variance.value)


def jackknife_interval(
    whole: float, without: ArrayLike, level: float = LEVEL, bounds: Interval = (0.0, 1.0)
) -> Interval:
    """Compute a t interval from the leave-one-speaker-out jackknife (Tukey 1958).

    Each speaker's pseudo-value is S times the statistic of all minus S - 1 times the statistic without the speaker;
    the interval is their mean plus and minus t(S - 1) standard errors.

    Args:
        whole: The statistic of all utterances (the mean over seeds where there are several).
        without: The same without each speaker, `[speakers]`.
        level: Coverage aimed at.
        bounds: The statistic's range; the interval is clipped to it.

    Returns:
        `(low, high)`; both NaN with fewer than two speakers.
    """
    others = np.asarray(without, dtype=np.float64)
    count = len(others)
    if count < 2:
        return _UNKNOWN
    pseudo_values = count * whole - (count - 1) * others
    half_width = _half_width(Variance(float(pseudo_values.var(ddof=1)) / count, count - 1), level)
    low, high = np.clip([pseudo_values.mean() - half_width, pseudo_values.mean() + half_width], *bounds)
    return float(low), float(high)


def concordance_intervals(
    targets: ArrayLike,
    predictions: ArrayLike,
    speakers: Sequence[str] | NDArray[np.str_],
    level: float = LEVEL,
) -> list[Interval]:
    """Compute the speaker jackknife intervals of the CCC, averaged over seeds: of their mean, then of every dimension.

    Shape:
        Targets `[N, dimensions]`, predictions `[seeds, N, dimensions]`, speakers `[N]`.
    """
    names, owners = np.unique(np.asarray(speakers), return_inverse=True)
    if len(names) < 2:
        return [_UNKNOWN] * (1 + np.shape(targets)[1])
    moments = agreement_moments(targets, predictions, owners)

    def agreement(sums: FloatArray) -> FloatArray:
        each = concordances(sums).mean(-2)
        return np.concatenate([each.mean(-1, keepdims=True), each], axis=-1)

    whole, without = agreement(moments.sum(0)), agreement(moments.sum(0) - moments)
    return [
        jackknife_interval(float(own), rest, level, (-1.0, 1.0)) for own, rest in zip(whole, without.T, strict=True)
    ]
