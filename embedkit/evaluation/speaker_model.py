"""How much a score would change with other speakers: a model of what speakers have in common, pooled over classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray: TypeAlias = NDArray[np.float64]

PRIOR = 0.07
"""The share of the variance of right answers that lies between speakers, before any is seen.

In runs on EmoDB it is 0.06 for the difference of two losses, 0.2 for that of two encoders, 0.14 to 0.32 for scores.
"""

PRIOR_OF_LOSSES = 0.2
"""The same of what probabilities lose (negative log-likelihood, Brier score); on EmoDB it is 0.22 to 0.42."""

PRIOR_WEIGHT = 4.0
"""The degrees of freedom that the prior counts as; few speakers alone cannot show by how much they differ."""

SCALE_WEIGHT = 4.0
"""The independent utterances by which the variance of a class is drawn towards that of all utterances."""

FEW_SPEAKERS = 4
"""A class with fewer has a variance that is taken to be known from its independent utterances and `SCALE_WEIGHT`."""

GROWTH = 0.25
"""Speakers differ more where utterances do: by this power of the class's variance, beyond proportion.

It would be 1 if speakers differed alike in logits, 0 if they had the same share everywhere; on EmoDB it is 0.7.
"""

_ROUNDS = 3
_LEAST = 0.1
_TINY = float(np.finfo(np.float64).tiny)


class Moments(NamedTuple):
    """What is known of the values of utterances within each speaker and class, all `[..., speakers, classes]`."""

    counts: FloatArray
    sums: FloatArray
    squares: FloatArray


class Variance(NamedTuple):
    """A variance, and the degrees of freedom of its estimate."""

    value: float
    freedom: float


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Means of utterances within each speaker and class, in units in which speakers differ alike in every class.

    Attributes:
        counts, means: `[..., speakers, classes]`.
        chance: What chance adds to the variance of each mean.
        rest: The variance of each class's utterances within speakers, as values are given `[..., classes]`.
        units: What a unit is, as values are given `[..., classes]`.
        freedom: The degrees of freedom of the class's variance, infinite where many speakers have it `[..., classes]`.
    """

    counts: FloatArray
    means: FloatArray
    chance: FloatArray
    rest: FloatArray
    units: FloatArray
    freedom: FloatArray


class Parts(NamedTuple):
    """What speakers' parts have in common.

    Attributes:
        variance: Of a speaker's part under a class.
        covariance: Of a speaker's parts under two classes.
        seen: The variance, with what chance adds, of the means that they are estimated from.
        freedom: The degrees of freedom of the estimate.
    """

    variance: FloatArray
    covariance: FloatArray
    seen: FloatArray
    freedom: FloatArray


def speaker_variance(
    values: ArrayLike, weights: ArrayLike, classes: ArrayLike, speakers: ArrayLike, prior: float = PRIOR
) -> Variance:
    """Estimate the variance of a weighted sum of classes' means over speakers that there could be.

    Args:
        values: What each utterance adds to its class's mean.
        weights: Of every class's mean in the score.
        classes: The class of each utterance, as an index; every class has one.
        speakers: The speaker of each, as an index.
        prior: The share of the variance that is taken to lie between speakers, before any is seen.

    Shape:
        Weights `[classes]`, all others `[utterances]`.
    """
    own, owners = np.asarray(values, dtype=np.float64), np.asarray(speakers)
    shape = (int(owners.max()) + 1, np.size(weights))
    cell = owners * shape[1] + np.asarray(classes)

    def total(part: FloatArray) -> FloatArray:
        return np.bincount(cell, part, shape[0] * shape[1]).astype(np.float64).reshape(shape)

    moments = Moments(total(np.ones_like(own)), total(own), total(own**2))
    value, freedom = model_variance(moments, weights, prior)
    return Variance(float(value), float(freedom))


def model_variance(moments: Moments, weights: ArrayLike, prior: float = PRIOR) -> tuple[FloatArray, FloatArray]:
    """Estimate variances and their degrees of freedom as `speaker_variance` does, of many data sets at once.

    An utterance's value is its class's mean, a part of its speaker under this class, and a rest. Divided by the
    deviation of the class, the variance of speakers' parts, their covariance between classes and the variance of the
    rest are the same for all classes. So a class that few speakers have borrows from the others; a variance over
    speakers alone would be far too small there. Precision weights (DerSimonian and Laird 1986) keep long speakers
    from ruling the estimate.

    Shape:
        Weights `[..., classes]`, output `[...]` twice.
    """
    share, cells = np.asarray(weights, dtype=np.float64), _standardise(moments, prior)
    between, covariance, seen, known = _speakers_parts(cells, prior)
    counts, classes = cells.counts, cells.counts.shape[-1]
    sizes = counts.sum(-2)
    factors = share * cells.units / sizes
    joint = factors[..., :, None] * factors[..., None, :] * (np.swapaxes(counts, -1, -2) @ counts)
    each = np.diagonal(joint, axis1=-2, axis2=-1)
    own = each.sum(-1)
    pairs = joint.sum((-2, -1)) - own
    rests = share**2 * cells.rest / sizes
    chance = rests.sum(-1)
    variance = np.maximum(0.0, between * own + covariance * pairs) + chance
    # The mean over a speaker's classes and the differences between them are independent, and known from one and from
    # classes - 1 shares of the degrees of freedom (Satterthwaite 1946). The prior is as sure of speakers' parts alone.
    # Where speakers differ in length, the estimate comes from means that chance moves more than the score's. A small
    # estimate has few degrees of freedom as well then, which would count twice; hence the geometric mean.
    side = between + chance / np.maximum(own, _TINY)
    sides = [np.sqrt(side * np.maximum(seen, side)), between]
    common, apart = (own + pairs) / classes, (own * (classes - 1) - pairs) / classes
    uncertain = sum(
        weight
        * (
            (common * (side + (classes - 1) * covariance)) ** 2
            + (apart * np.maximum(0.0, side - covariance)) ** 2 / max(1, classes - 1)
        )
        for weight, side in zip((known, PRIOR_WEIGHT), sides, strict=True)
    )
    scales = ((between[..., None] * each + rests) ** 2 / cells.freedom).sum(-1)
    freedom = variance**2 / np.maximum(classes * uncertain / (known + PRIOR_WEIGHT) ** 2 + scales, _TINY)
    # The prior and chance bound the variance from below, so it is never as small as by so few degrees of freedom: one
    # more has the quantile that the first two moments give (z + (z + z^3) / (4 freedom)). It is the data's share of
    # one, since the prior can be wrong.
    return variance, np.maximum(freedom, PRIOR_WEIGHT) + known / (known + PRIOR_WEIGHT)


def _standardise(moments: Moments, prior: float) -> Cells:
    counts, there = moments.counts, moments.counts > 0
    sizes, owners = counts.sum(-2), there.sum(-2)
    total = sizes.sum(-1, keepdims=True)
    centre = (moments.sums.sum(-2) / sizes)[..., None, :]
    sums = moments.sums - counts * centre
    squares = np.maximum(0.0, moments.squares - 2 * centre * moments.sums + counts * centre**2)
    # A speaker's utterances are alike, so a class's mean is as uncertain as that of fewer independent ones, and its
    # utterances lie closer to it than to the mean over speakers that there could be.
    independent = 1 / (prior * (counts**2).sum(-2) / sizes**2 + (1 - prior) / sizes)
    found = squares.sum(-2) / np.maximum(1 - 1 / independent, 0.5)
    overall = np.maximum(found.sum(-1, keepdims=True), _LEAST) / total
    variances = (found / sizes * independent + SCALE_WEIGHT * overall) / (independent + SCALE_WEIGHT)
    growth = (variances / overall) ** GROWTH
    means = _ratio(sums, counts)
    spare = np.maximum(1.0, total[..., 0] - there.sum((-2, -1)))
    within = np.maximum(0.0, ((squares - counts * means**2) / variances[..., None, :]).sum((-2, -1))) / spare
    # Where all values are equal, as of a perfect score, nothing is known of the variance but that it is small.
    rest = np.where(found.sum(-1) > _LEAST**9, within, 1.0)[..., None] * variances
    units = np.sqrt(variances * growth)
    return Cells(
        counts=counts,
        means=means / units[..., None, :],
        chance=_ratio((rest / units**2)[..., None, :], counts),
        rest=rest,
        units=units,
        freedom=np.where(owners < FEW_SPEAKERS, independent + SCALE_WEIGHT, np.inf),
    )


def _speakers_parts(cells: Cells, prior: float) -> Parts:
    there, classes = cells.counts > 0, cells.counts.shape[-1]
    freedom = np.maximum(0, there.sum(-2) - 1).sum(-1).astype(np.float64)
    found = np.full(freedom.shape, prior)
    weights = sums = deviations = np.zeros_like(cells.means)
    information = np.zeros_like(freedom)
    for _ in range(_ROUNDS):
        weights = _ratio(there.astype(np.float64), np.maximum(0.0, found)[..., None, None] + cells.chance)
        sums = np.maximum(weights.sum(-2, keepdims=True), _TINY)
        deviations = np.where(there, cells.means - (weights * cells.means).sum(-2, keepdims=True) / sums, 0.0)
        own = weights * (1 - weights / sums)
        above = (weights * deviations**2 - own * cells.chance).sum((-2, -1))
        information = np.where(freedom > 0, own.sum((-2, -1)), 0.0)
        found = _ratio(above, information)
    # Below 0 before the prior enters it says that speakers hardly differ; cut there, it would be too large on average.
    between = np.maximum(0.0, (freedom * found + PRIOR_WEIGHT * prior) / (freedom + PRIOR_WEIGHT))
    roots, shares = np.sqrt(weights), weights / sums
    cross = _cross(roots, roots)
    seen = cross * (1 + _cross(shares, shares)) - _cross(roots * shares, roots) - _cross(roots, roots * shares)
    products = _cross(roots * deviations, roots * deviations)
    apart = ~np.eye(classes, dtype=bool)
    known = seen[..., apart].sum(-1)
    covariance = _ratio(products[..., apart].sum(-1), np.where(known > 1e-9, known, 0.0))
    covariance = np.clip(covariance, -between / max(1, classes - 1), between)
    return Parts(between, covariance, _ratio(freedom, information), freedom)


def _cross(one: FloatArray, other: FloatArray) -> FloatArray:
    return np.asarray(np.swapaxes(one, -1, -2) @ other)


def _ratio(above: FloatArray, below: FloatArray) -> FloatArray:
    """Divide, and give 0 where what is below is not above 0."""
    above, below = np.broadcast_arrays(above, below)
    return np.divide(above, below, out=np.zeros(above.shape), where=below > 0)
