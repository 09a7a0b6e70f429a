"""Paired tests of two systems on the same speakers, by swaps or by a two-way t, and Holm's correction.

Where two systems are equally good, a speaker's predictions of the one could as well have come from the other. So the
difference of their scores is compared with what it becomes when the predictions of any of the speakers (all their
utterances, under all seeds) change sides: an approximate randomisation test (Noreen 1989) with speakers as its units.
The scores depend on sums over speakers only, so all swaps together are one matrix product.

Swaps take speakers for independent. Where few trained systems score them all, the luck of a seed is shared by many
speakers, and swaps claim too much; there a t compares the difference with what seeds and speakers make of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import chdtri, ndtr, stdtr, stdtrit

from embedkit.errors import FitError
from embedkit.evaluation.speaker_model import FloatArray, Variance

EXACT_SPEAKERS = 16
"""Up to so many speakers every swap is tried."""

SAMPLES = 65_535
"""Swaps drawn where there are more speakers."""

FEWEST_SYSTEMS = 10
"""Trained systems, one for each fold, from which on their luck is averaged so far that swaps hold their level."""

FEWEST_SEEDS, RECOMMENDED_SEEDS = 3, 5
"""Of a two-way t, which has to see how much a seed matters."""

_CHUNK = 4096
_NUMBERS = 2**21
_TOLERANCE = 1e-10
_SEED = 0
_STEPS = 400


def swap_p_values(
    first: ArrayLike, second: ArrayLike, score: Callable[[FloatArray], FloatArray] | None = None
) -> FloatArray:
    """Compute the two-sided p of the difference of two systems' scores, of many pairs at once.

    Args:
        first: What the score of one system is made of, summed within each speaker.
        second: The same of the other system.
        score: Takes sums over speakers and returns scores; None where the sums are the scores.

    Shape:
        Systems `[speakers, ...]`; the score maps `[swaps, ...]` to `[swaps, pairs]`; output `[pairs]`.

    Raises:
        FitError: there is no speaker, or the shapes differ.
    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.shape != other.shape or one.ndim < 1 or not one.shape[0]:
        raise FitError(
            f"Cannot compare systems of shapes {one.shape} and {other.shape}; expected the same speakers, at least one."
        )
    sums = (lambda values: values) if score is None else score
    speakers, parts = len(one), one.shape[1:]
    whole, rest = one.sum(0), other.sum(0)
    change = (other - one).reshape(speakers, -1)
    observed = np.abs(sums(whole[None]) - sums(rest[None]))[0]
    reached = np.zeros(observed.shape)
    for swapped in _swaps(speakers, max(1, min(_CHUNK, _NUMBERS // max(1, change.shape[1])))):
        moved = (swapped @ change).reshape(-1, *parts)
        reached += (np.abs(sums(whole + moved) - sums(rest - moved)) >= observed - _TOLERANCE).sum(0)
    return np.asarray((reached + (0 if is_exact(speakers) else 1)) * smallest_p(speakers))


def two_way_variance(
    first: ArrayLike,
    second: ArrayLike,
    seeds: tuple[ArrayLike, ArrayLike],
    score: Callable[[FloatArray], FloatArray] | None = None,
) -> Variance:
    """Estimate the variance of the difference of two systems' scores over other seeds and other speakers.

    It is that of each system's score over its seeds, divided by their number, plus that over speakers (a jackknife);
    its degrees of freedom are Satterthwaite's (1946).

    Args:
        first, second: What each score is made of, summed within each speaker, as for `swap_p_values`.
        seeds: The score of each system under each of its seeds, at least `FEWEST_SEEDS` for the level to hold; none of
            a system that has no random part.
        score: Takes sums over speakers and returns scores; None where the sums are the scores.

    Shape:
        Systems `[speakers, ...]`, seeds `[seeds]`.

    Raises:
        FitError: fewer than two speakers or seeds.
    """
    runs = [own for own in (np.asarray(own, dtype=np.float64) for own in seeds) if len(own)]
    speakers, fewest = len(np.asarray(first)), min(map(len, runs), default=2)
    if np.shape(first) != np.shape(second) or min(speakers, fewest) < 2:
        raise FitError(f"A t over {speakers} speakers and {fewest} seeds; expected at least two of each.")
    parts = [Variance(float(own.var(ddof=1)) / len(own), len(own) - 1) for own in runs]
    parts.append(jackknife_variance(first, second, score))
    variance = sum(part.value for part in parts)
    uncertain = sum(part.value**2 / part.freedom for part in parts)
    return Variance(variance, variance**2 / uncertain if uncertain else speakers - 1.0)


def jackknife_variance(
    first: ArrayLike, second: ArrayLike, score: Callable[[FloatArray], FloatArray] | None = None
) -> Variance:
    """Estimate the variance of the difference of two scores over speakers from pseudo-values (Tukey 1958)."""
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    speakers = len(one)
    if score is None:
        change = speakers * (one - other)
    else:
        difference = float(score(one.sum(0)[None])[0] - score(other.sum(0)[None])[0])
        without = score(one.sum(0) - one) - score(other.sum(0) - other)
        change = speakers * difference - (speakers - 1) * without
    return Variance(float(change.var(ddof=1)) / speakers, speakers - 1)


def t_p_value(difference: float, variance: Variance) -> float:
    """Compute the two-sided p of a difference by a t."""
    if variance.value == 0:
        return 1.0 if difference == 0 else 0.0
    return float(2 * stdtr(variance.freedom, -abs(difference) / np.sqrt(variance.value)))


def find_power(difference: float, variance: Variance, level: float) -> float:
    """Compute in which share of studies a true difference is found by a two-sided t: by the noncentral t (Cohen 1988).

    Args:
        difference: The true one.
        variance: Of its estimate.
        level: Of the test.
    """
    if variance.value == 0:
        return 1.0
    away = abs(difference) / float(np.sqrt(variance.value))
    # An integral over the estimated deviations that there may be: scipy's noncentral t is no number in places.
    spreads = np.sqrt(chdtri(variance.freedom, (np.arange(_STEPS) + 0.5) / _STEPS) / variance.freedom)
    limits = float(stdtrit(variance.freedom, 1 - level / 2)) * spreads
    return float((ndtr(away - limits) + ndtr(-away - limits)).mean())


def is_exact(speakers: int) -> bool:
    """Tell whether all swaps of so many speakers are tried."""
    return speakers <= EXACT_SPEAKERS


def smallest_p(speakers: int) -> float:
    """Return the minimum possible p: that of a difference which every swap makes smaller.

    A swap of all speakers only turns the sign, so with S speakers it is 2 / 2^S.
    """
    return 1 / (2 ** (speakers - 1) if is_exact(speakers) else SAMPLES + 1)


def holm_adjust(p_values: ArrayLike) -> FloatArray:
    """Adjust the p of one family, so that all below a level hold together at that level (Holm 1979).

    Shape:
        Input and output: `[tests]`.
    """
    given = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(given, kind="stable")
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1)), 1.0)
    return adjusted


def recall_shares(right: ArrayLike, classes: ArrayLike, speakers: ArrayLike) -> FloatArray:
    """Compute what each speaker adds to the unweighted average recall; the sum is the recall.

    Utterances that were predicted under several seeds count once for each: the sum is the mean over seeds.

    Args:
        right: Whether each prediction is right.
        classes: The true class of each prediction, as an index.
        speakers: The speaker of each prediction, as an index.

    Shape:
        All `[predictions]`, output `[speakers]`.
    """
    owners, truth = np.asarray(speakers), np.asarray(classes)
    sizes = np.bincount(truth)
    weights = np.asarray(right, dtype=np.float64) / (sizes[truth] * np.count_nonzero(sizes))
    return np.asarray(np.bincount(owners, weights))


def agreement_moments(ratings: ArrayLike, predictions: ArrayLike, speakers: ArrayLike) -> FloatArray:
    """Sum within each speaker what the concordance correlation coefficient is made of.

    Args:
        ratings: The true ratings.
        predictions: The predicted ones.
        speakers: The speaker of each utterance, as an index.

    Shape:
        Ratings `[utterances, dimensions]`, predictions `[seeds, utterances, dimensions]`, speakers `[utterances]`,
        output `[speakers, seeds, dimensions, 6]`.
    """
    truth, owners = np.asarray(ratings, dtype=np.float64), np.asarray(speakers)
    # Ratings far from zero would lose digits in the differences of large sums.
    centre = truth.mean(0)
    x, y = np.broadcast_arrays(np.asarray(predictions, dtype=np.float64) - centre, truth - centre)
    parts = (np.ones_like(x), x, y, x * x, y * y, x * y)
    columns = [
        [[np.bincount(owners, part[s, :, d]) for part in parts] for d in range(x.shape[2])] for s in range(len(x))
    ]
    return np.moveaxis(np.asarray(columns, dtype=np.float64), -1, 0)


def mean_concordance(moments: FloatArray) -> FloatArray:
    """Compute the concordance correlation coefficient, averaged over seeds and dimensions, from sums.

    Shape:
        Input `[..., seeds, dimensions, 6]`, output `[...]`.
    """
    return np.asarray(concordances(moments).mean((-2, -1)))


def concordances(moments: FloatArray) -> FloatArray:
    """Compute concordance correlation coefficients (Lin 1989) from sums; 0 where nothing varies.

    Shape:
        Input `[..., 6]`, output `[...]`.
    """
    count, x, y, xx, yy, xy = np.moveaxis(moments, -1, 0)
    covariance = xy / count - x * y / count**2
    scatter = (xx + yy) / count - 2 * x * y / count**2
    return np.asarray(np.divide(2 * covariance, scatter, out=np.zeros_like(scatter), where=scatter > 0))


def _swaps(speakers: int, chunk: int) -> Iterator[FloatArray]:
    """Yield which speakers change sides, `[swaps, speakers]` of 0 and 1, in pieces.

    The last speaker stays where all swaps are tried: the other half of them only turns the sign.
    """
    if is_exact(speakers):
        numbers = np.arange(2 ** (speakers - 1))
        for start in range(0, len(numbers), chunk):
            yield (numbers[start : start + chunk, None] >> np.arange(speakers) & 1).astype(np.float64)
        return
    random = np.random.default_rng(_SEED)
    for start in range(0, SAMPLES, chunk):
        yield random.integers(0, 2, (min(chunk, SAMPLES - start), speakers), dtype=np.uint8).astype(np.float64)
