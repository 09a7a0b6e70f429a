"""How far class probabilities can be believed: negative log-likelihood, Brier score and calibration error.

Probabilities may have leading axes, one row per head or seed: `[..., N, classes]` against targets `[N]`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax

from embedkit.errors import FitError

FloatArray = NDArray[np.float64]

BINS = 15


def likelihood_losses(targets: ArrayLike, probabilities: ArrayLike) -> FloatArray:
    """Return what each utterance adds to the negative log-likelihood, -log p of the true class in nats, `[..., N]`.

    A probability of zero counts as the smallest step above it (2.2e-16), as in scikit-learn's `log_loss`.

    Shape:
        Targets `[N]`, probabilities `[..., N, classes]`.

    Raises:
        FitError: there is nothing to score, the shapes do not fit, or an index is no class.
    """
    classes, shares = _checked(targets, probabilities)
    true = np.take_along_axis(shares, _spread(classes, shares)[..., None], axis=-1)[..., 0]
    return np.asarray(-np.log(np.maximum(true, np.finfo(np.float64).eps)))


def brier_losses(targets: ArrayLike, probabilities: ArrayLike) -> FloatArray:
    """Return what each utterance adds to the Brier score (Brier 1950), from 0 to 2, `[..., N]`; lower is better.

    It is the sum over classes of the squared distance of the probability from 1 for the true class, 0 for others.

    Raises:
        FitError: as `likelihood_losses`.
    """
    classes, shares = _checked(targets, probabilities)
    return np.asarray(np.square(shares - np.eye(shares.shape[-1])[classes]).sum(-1))


def calibration_gaps(targets: ArrayLike, probabilities: ArrayLike, bins: int = BINS) -> FloatArray:
    """Return what each utterance adds to the adaptive calibration error, `[..., N]`; lower is better.

    That error is the expected calibration error in bins that hold equally many utterances (Nguyen and O'Connor 2015);
    equal confidences share a bin. An utterance adds its confidence less 1 where it is right, with the sign that the
    sum over its bin has.

    Raises:
        FitError: as `likelihood_losses`.
    """
    classes, shares = _checked(targets, probabilities)
    confidence = shares.max(-1)
    surplus = confidence - (shares.argmax(-1) == classes)
    gaps = np.empty(confidence.shape)
    for row in np.ndindex(confidence.shape[:-1]):
        place = _equal_bins(confidence[row], bins)
        gaps[row] = surplus[row] * np.sign(np.bincount(place, surplus[row], bins))[place]
    return gaps


def scale_temperature(probabilities: ArrayLike, temperature: ArrayLike) -> FloatArray:
    """Raise probabilities `[..., classes]` to the power of one over a temperature `[...]`, so that they add up to one.

    The most probable class stays that.
    """
    shares = np.maximum(np.asarray(probabilities, dtype=np.float64), np.finfo(np.float32).tiny)
    return np.asarray(softmax(np.log(shares) / np.asarray(temperature)[..., None], axis=-1))


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


def _equal_bins(confidence: FloatArray, bins: int) -> NDArray[np.int64]:
    ranks = np.searchsorted(np.sort(confidence), confidence)
    return ranks * bins // len(confidence)


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
