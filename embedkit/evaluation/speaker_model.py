"""How much a score would change with other speakers: a model of what speakers have in common, pooled over classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray: TypeAlias = NDArray[np.float64]

PRIOR = 0.12
"""The share of the variance that lies between speakers, before any is seen; in runs on EmoDB it is 0.09 to 0.22."""

PRIOR_WEIGHT = 2.0
"""The speakers that the prior counts as; so few cannot show that speakers are all alike."""

SCALE_WEIGHT = 3.0
"""The speakers by whom the variance of a class is drawn towards that of all utterances."""

FEW_SPEAKERS = 4
"""A class with fewer is taken to vary at least as much as utterances of all classes do."""

MORE_FREEDOM = 1
"""Degrees of freedom beyond the number of speakers, at most."""

_ROUNDS = 3
_LEAST = 0.1


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Standardised values of utterances within each speaker and class.

    Attributes:
        counts, means: `[speakers, classes]`.
        within: Variance between utterances of a cell.
        scales: Standard deviation of each class's values `[classes]`.
    """

    counts: FloatArray
    means: FloatArray
    within: float
    scales: FloatArray

    @property
    def inverse(self) -> FloatArray:
        """One over the counts, 0 where there are none, `[speakers, classes]`."""
        return np.divide(1.0, self.counts, out=np.zeros_like(self.counts), where=self.counts > 0)


class Variance(NamedTuple):
    """A variance, and the degrees of freedom of its estimate."""

    value: float
    freedom: float


def speaker_variance(values: ArrayLike, weights: ArrayLike, classes: ArrayLike, speakers: ArrayLike) -> Variance:
    """Estimate the variance of a weighted sum of classes' means over speakers that there could be.

    An utterance's value is its class's mean, a part of its speaker under this class, and a rest. Divided by the
    deviation of the class, the variance of speakers' parts, their covariance between classes and the variance of the
    rest are the same for all classes. So a class that few speakers have borrows from the others; a variance over
    speakers alone would be far too small there. Precision weights (DerSimonian and Laird 1986) keep long speakers
    from ruling the estimate.

    Args:
        values: What each utterance adds to its class's mean.
        weights: Of every class's mean in the score.
        classes: The class of each utterance, as an index; every class has one.
        speakers: The speaker of each, as an index.

    Shape:
        Weights `[classes]`, all others `[utterances]`.
    """
    share = np.asarray(weights, dtype=np.float64)
    cells = _standardise(np.asarray(values, np.float64), np.asarray(classes), np.asarray(speakers), len(share))
    between, covariance = _between(cells)
    counts = cells.counts
    sizes = counts.sum(0)
    factors = share * cells.scales / sizes
    joint = np.outer(factors, factors) * (counts.T @ counts)
    own = float(np.trace(joint))
    shared = max(0.0, between * own + covariance * (float(joint.sum()) - own))
    rest = cells.within * float((factors**2 * sizes).sum())
    known = (len(counts) - 1.0, max(1.0, float(sizes.sum()) - float(np.count_nonzero(counts))))
    # The part between speakers is known from them alone, the rest from all utterances (Satterthwaite 1946). How much is
    # which, few speakers cannot tell: without the limit intervals hold 91 to 93 % (benchmarks/interval_coverage.py).
    freedom = (shared + rest) ** 2 / (shared**2 / known[0] + rest**2 / known[1])
    return Variance(shared + rest, float(min(freedom, len(counts) + MORE_FREEDOM)))


def _standardise(values: FloatArray, classes: NDArray[np.int64], speakers: NDArray[np.int64], n_classes: int) -> Cells:
    shape = (int(speakers.max()) + 1, n_classes)
    cell = speakers * n_classes + classes
    counts = np.bincount(cell, minlength=shape[0] * n_classes).reshape(shape).astype(np.float64)
    sizes, owners = counts.sum(0), np.count_nonzero(counts, axis=0)
    rest = values - (np.bincount(classes, values, n_classes) / sizes)[classes]
    overall = max(float(values.var()), _LEAST / len(values))
    own = np.bincount(classes, rest**2, n_classes) / sizes
    variances = (owners * own + SCALE_WEIGHT * overall) / (owners + SCALE_WEIGHT)
    variances = np.where(owners < FEW_SPEAKERS, np.maximum(variances, overall), variances)
    scales = np.sqrt(variances)
    rest = rest / scales[classes]
    sums = np.bincount(cell, rest, counts.size).reshape(shape)
    means = np.divide(sums, counts, out=np.zeros(shape), where=counts > 0)
    freedom = len(values) - np.count_nonzero(counts)
    within = float(((rest - means.ravel()[cell]) ** 2).sum()) / freedom if freedom else 0.0
    # Where all values are equal, as of a perfect score, nothing is known of the variance but that it is small.
    return Cells(counts=counts, means=means, within=within if rest.any() else 1.0, scales=scales)


def _between(cells: Cells) -> tuple[float, float]:
    """Estimate the variance of speakers' parts under a class, and their covariance under two."""
    there, inverse = cells.counts > 0, cells.inverse
    classes = there.shape[1]
    freedom = max(0, int((there.sum(0) - 1).sum()))
    between = PRIOR
    weights = sums = deviations = np.zeros_like(cells.means)
    for _ in range(_ROUNDS):
        spread = between + cells.within * inverse
        weights = np.divide(1.0, spread, out=np.zeros_like(spread), where=there & (spread > 0))
        sums = np.maximum(weights.sum(0), np.finfo(np.float64).tiny)
        deviations = np.where(there, cells.means - (weights * cells.means).sum(0) / sums, 0.0)
        chance = cells.within * ((weights * inverse).sum(0) - (weights**2 * inverse).sum(0) / sums).sum()
        known = (sums - (weights**2).sum(0) / sums).sum()
        found = ((weights * deviations**2).sum() - chance) / known if freedom else 0.0
        between = max(0.0, float(found))
    between = (freedom * between + PRIOR_WEIGHT * PRIOR) / (freedom + PRIOR_WEIGHT)
    if classes < 2:
        return between, 0.0
    shares = weights / sums
    pairs = np.sqrt(weights[:, :, None] * weights[:, None, :])
    seen = (pairs * (1 - shares[:, :, None] - shares[:, None, :] + shares.T @ shares)).sum(0)
    products = (pairs * deviations[:, :, None] * deviations[:, None, :]).sum(0)
    apart = ~np.eye(classes, dtype=bool)
    known = float(seen[apart].sum())
    covariance = float(products[apart].sum()) / known if known > 1e-9 else 0.0
    return between, float(np.clip(covariance, -between / (classes - 1), between))
