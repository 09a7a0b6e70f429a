"""Confidence intervals that treat speakers, not utterances, as the sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from embedkit.evaluation.metrics import accuracy, concordance_correlation, confusion_matrix, mean_f1, mean_recall

Interval: TypeAlias = tuple[float, float]

_UNKNOWN: Interval = (math.nan, math.nan)


@dataclass(frozen=True)
class ScoreIntervals:
    """Intervals `(low, high)` of weighted accuracy, unweighted average recall and macro-F1."""

    wa: Interval
    ua: Interval
    f1: Interval


def speaker_jackknife_interval(
    statistic: Callable[[NDArray[np.int64]], float],
    speakers: Sequence[str] | NDArray[np.str_],
    level: float = 0.95,
    bounds: Interval = (0.0, 1.0),
) -> Interval:
    """Compute a t interval from the leave-one-speaker-out jackknife (Tukey 1958) over `[utterances]`.

    Speakers differ more than utterances of one speaker do, so intervals over utterances are too narrow. Each
    speaker's pseudo-value is S times the statistic of all minus S - 1 times the statistic without the speaker;
    the interval is their mean plus and minus t(S - 1) standard errors.

    Args:
        statistic: Takes the row numbers of the utterances that count and returns the pooled statistic (the mean over
            seeds where there are several).
        speakers: The speaker of each row.
        level: Coverage aimed at.
        bounds: The statistic's range; the interval is clipped to it.

    Returns:
        `(low, high)`; both NaN with fewer than two speakers.
    """
    names, owners = np.unique(np.asarray(speakers), return_inverse=True)
    count = len(names)
    if count < 2:
        return _UNKNOWN
    whole = statistic(np.arange(len(owners)))
    without = np.array([statistic(np.flatnonzero(owners != owner)) for owner in range(count)])
    return _interval(whole, without, level, bounds)


def score_intervals(
    targets: ArrayLike,
    predictions: ArrayLike,
    speakers: Sequence[str] | NDArray[np.str_],
    n_classes: int,
    level: float = 0.95,
) -> ScoreIntervals:
    """Compute the speaker jackknife intervals of all three scores, each averaged over seeds.

    Shape:
        Targets `[N]`, predictions `[N]` or `[seeds, N]`, speakers `[N]`.

    Raises:
        FitError: there is nothing to score, the lengths differ, or an index is no class.
    """
    targets, predictions = np.asarray(targets), np.atleast_2d(predictions)
    whole = confusion_matrix(targets, predictions, n_classes)
    names, owners = np.unique(np.asarray(speakers), return_inverse=True)
    if len(names) < 2:
        return ScoreIntervals(wa=_UNKNOWN, ua=_UNKNOWN, f1=_UNKNOWN)
    own = [owners == owner for owner in range(len(names))]
    without = whole - np.stack([confusion_matrix(targets[rows], predictions[:, rows], n_classes) for rows in own])

    def interval(score: Callable[[NDArray[np.int64]], NDArray[np.float64]]) -> Interval:
        return _interval(float(score(whole).mean()), score(without).mean(-1), level, (0.0, 1.0))

    return ScoreIntervals(wa=interval(accuracy), ua=interval(mean_recall), f1=interval(mean_f1))


def concordance_intervals(
    targets: ArrayLike,
    predictions: ArrayLike,
    speakers: Sequence[str] | NDArray[np.str_],
    level: float = 0.95,
) -> list[Interval]:
    """Compute the speaker jackknife intervals of the CCC, averaged over seeds: of their mean, then of every dimension.

    Shape:
        Targets `[N, dimensions]`, predictions `[seeds, N, dimensions]`, speakers `[N]`.
    """
    truth, found = np.asarray(targets, dtype=np.float64).T, np.moveaxis(np.asarray(predictions, np.float64), -1, -2)

    def agreement(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        each = concordance_correlation(found[..., rows], truth[:, rows]).mean(0)
        return np.array([each.mean(), *each])

    def interval(place: int) -> Interval:
        return speaker_jackknife_interval(lambda rows: float(agreement(rows)[place]), speakers, level, (-1.0, 1.0))

    return [interval(place) for place in range(1 + len(truth))]


def _interval(whole: float, without: NDArray[np.float64], level: float, bounds: Interval) -> Interval:
    """Compute the interval from the statistic of all and from those without each speaker `[speakers]`."""
    count = len(without)
    pseudo_values = count * whole - (count - 1) * without
    half_width = stdtrit(count - 1, (1 + level) / 2) * pseudo_values.std(ddof=1) / math.sqrt(count)
    low, high = np.clip([pseudo_values.mean() - half_width, pseudo_values.mean() + half_width], *bounds)
    return float(low), float(high)
