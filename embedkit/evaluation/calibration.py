"""How far class probabilities can be believed: negative log-likelihood and expected calibration error.

Probabilities may have leading axes, one row per head or seed: `[..., N, classes]` against targets `[N]`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedkit.errors import FitError

FloatArray = NDArray[np.float64]

BINS = 15


def negative_log_likelihood(targets: ArrayLike, probabilities: ArrayLike) -> FloatArray:
    """Return the mean of -log p of the true class, in nats; lower is better.

    A probability of zero counts as the smallest step above it (2.2e-16), as in scikit-learn's `log_loss`.

    Shape:
        Targets `[N]`, probabilities `[..., N, classes]`, output `[...]`.

    Raises:
        FitError: there is nothing to score, the shapes do not fit, or an index is no class.
    """
    classes, shares = _checked(targets, probabilities)
    true = np.take_along_axis(shares, _spread(classes, shares)[..., None], axis=-1)[..., 0]
    return np.asarray(-np.log(np.maximum(true, np.finfo(np.float64).eps)).mean(-1))


def expected_calibration_error(targets: ArrayLike, probabilities: ArrayLike, bins: int = BINS) -> FloatArray:
    """Return how far confidence and accuracy lie apart (Guo et al. 2017), as a fraction; lower is better.

    An utterance's confidence is the highest of its probabilities. Utterances are put into bins of equal width by it,
    each bin open below and closed above; the error is the mean over the utterances of the distance between their
    bin's mean confidence and its accuracy.

    Shape:
        Targets `[N]`, probabilities `[..., N, classes]`, output `[...]`.

    Raises:
        FitError: there is nothing to score, the shapes do not fit, or an index is no class.
    """
    classes, shares = _checked(targets, probabilities)
    confidence = shares.max(-1)
    surplus = confidence - (shares.argmax(-1) == classes)
    place = place_in_bins(confidence, bins)
    sums = np.stack([np.where(place == number, surplus, 0.0).sum(-1) for number in range(bins)], axis=-1)
    return np.asarray(np.abs(sums).sum(-1) / len(classes))


def place_in_bins(confidence: FloatArray, bins: int = BINS) -> NDArray[np.int64]:
    """Return the bin of every confidence `[...]`, from 0: of equal width, open below and closed above."""
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def _spread(classes: NDArray[np.int64], shares: FloatArray) -> NDArray[np.int64]:
    return np.broadcast_to(classes, shares.shape[:-1])


def _checked(targets: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.int64], FloatArray]:
    classes, shares = np.asarray(targets), np.asarray(probabilities, dtype=np.float64)
    if classes.ndim != 1 or shares.ndim < 2 or shares.shape[-2:-1] != classes.shape or not shares.size:
        raise FitError(
            f"Cannot score probabilities of shape {shares.shape} against targets of shape {classes.shape}; "
            "expected one row of them for each utterance, at least one."
        )
    if classes.dtype.kind not in "iu" or classes.min() < 0 or classes.max() >= shares.shape[-1]:
        raise FitError(
            f"The targets hold something other than class indices; expected integers below {shares.shape[-1]}."
        )
    return classes.astype(np.int64, copy=False), shares
