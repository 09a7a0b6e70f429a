"""Distances of probabilities to what annotators said, and how far the annotators agree themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import rel_entr

from embedkit.errors import FitError
from embedkit.evaluation.metrics import FloatArray


def kullback_leibler(shares: ArrayLike, probabilities: ArrayLike) -> FloatArray:
    """Return the divergence of probabilities from the annotators' shares of every utterance, `[..., N]`, in nats.

    It is the sum over classes of p log(p / q), p the annotators' (Kullback and Leibler 1951). A probability q of zero
    counts as the smallest step above it (2.2e-16).

    Shape:
        Shares `[N, classes]`, probabilities `[..., N, classes]`.

    Raises:
        FitError: there is nothing to compare, or the shapes do not fit.
    """
    truth, found = _checked(shares, probabilities)
    return np.asarray(np.maximum(rel_entr(truth, np.maximum(found, np.finfo(np.float64).eps)).sum(-1), 0.0))


def jensen_shannon(shares: ArrayLike, probabilities: ArrayLike) -> FloatArray:
    """Return the distance of probabilities to the annotators' shares of every utterance, `[..., N]`, from 0 to 1.

    It is the root of the divergence to base 2 (Lin 1991; Endres and Schindelin 2003), as SciPy computes it.

    Shape:
        Shares `[N, classes]`, probabilities `[..., N, classes]`.

    Raises:
        FitError: as `kullback_leibler`.
    """
    truth, found = _checked(shares, probabilities)
    middle = (truth + found) / 2
    divergence = (rel_entr(truth, middle) + rel_entr(found, middle)).sum(-1) / (2 * np.log(2))
    return np.asarray(np.sqrt(np.clip(divergence, 0.0, 1.0)))


@dataclass(frozen=True)
class LeftOut:
    """What one annotator reaches against all others of an utterance, each left out in turn.

    Attributes:
        utterances: How many count: those on which two annotators or more each named one class.
        confusion: By the majority of the others (rows; ties share) and the class named, `[classes, classes]`; every
            utterance adds one.
        distance: Mean Jensen-Shannon distance of the one vote to the shares of the others.
        alpha: Krippendorff's alpha for nominal data; NaN where all named one class.
    """

    utterances: int
    confusion: FloatArray
    distance: float
    alpha: float


def leave_one_out(votes: ArrayLike) -> LeftOut | None:
    """Compare every annotator with the others, from votes `[N, classes]`; None where no two of an utterance are known.

    Utterances with votes that are no whole numbers are passed over: shares, and annotators who named several classes.
    """
    given = np.asarray(votes, dtype=np.float64)
    counts = np.round(given)
    counts = counts[(np.abs(given - counts) < 1e-6).all(1) & (counts.sum(1) > 1)]
    if not len(counts):
        return None
    classes, sizes = counts.shape[1], counts.sum(1)
    confusion, distance = np.zeros((classes, classes)), 0.0
    for named, vote in enumerate(np.eye(classes)):
        rows = counts[:, named] > 0
        if rows.any():
            others, weights = counts[rows] - vote, counts[rows, named] / sizes[rows]
            most = others == others.max(1, keepdims=True)
            confusion[:, named] = weights @ (most / most.sum(1, keepdims=True))
            shares = others / others.sum(1, keepdims=True)
            distance += float(weights @ jensen_shannon(shares, np.tile(vote, (len(shares), 1))))
    return LeftOut(len(counts), confusion, distance / len(counts), _alpha(counts))


def _alpha(counts: FloatArray) -> float:
    """Return Krippendorff's alpha of whole votes `[N, classes]`, two or more a row (Hayes and Krippendorff 2007)."""
    sizes = counts.sum(1)
    total = sizes.sum()
    agreed = ((counts * (counts - 1)).sum(1) / (sizes - 1)).sum()
    expected = total**2 - np.square(counts.sum(0)).sum()
    return float(1 - (total - 1) * (total - agreed) / expected) if expected > 0 else float("nan")


def rater_concordance(means: ArrayLike, spreads: ArrayLike, raters: ArrayLike) -> float:
    """Return the concordance (Lin 1989) of one rater, each in turn, with the mean of the others of an utterance.

    Of n ratings with mean m and standard deviation s (over n - 1), one lies d from m and the mean of the others
    -d / (n - 1); the mean of d squared is s squared (n - 1) / n. So all moments are known without the ratings. Every
    utterance counts once.

    Shape:
        Means, standard deviations and counts of at least two `[N]`.
    """
    mean, spread, count = (np.asarray(one, dtype=np.float64) for one in (means, spreads, raters))
    within = np.square(spread) * (count - 1) / count
    covariance = mean.var() - (within / (count - 1)).mean()
    scatter = 2 * mean.var() + (within + within / np.square(count - 1)).mean()
    return float(2 * covariance / scatter) if scatter > 0 else 0.0


def _checked(shares: ArrayLike, probabilities: ArrayLike) -> tuple[FloatArray, FloatArray]:
    truth, found = np.asarray(shares, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    if truth.ndim != 2 or found.shape[-2:] != truth.shape or not truth.size:
        raise FitError(
            f"Cannot compare probabilities of shape {found.shape} with shares of annotators of shape {truth.shape}; "
            "expected one row of each for every utterance, at least one."
        )
    return truth, found
