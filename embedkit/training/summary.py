"""Scores of the pooled test predictions of all folds, as a run's row keeps them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedkit.evaluation.annotators import jensen_shannon, kullback_leibler, leave_one_out, rater_concordance
from embedkit.evaluation.calibration import (
    brier_losses,
    calibration_gaps,
    expected_calibration_error,
    likelihood_losses,
)
from embedkit.evaluation.intervals import Interval, concordance_intervals, mean_interval, score_intervals
from embedkit.evaluation.metrics import (
    FloatArray,
    accuracy,
    concordance_correlation,
    mean_f1,
    mean_recall,
    root_mean_square_error,
    score_predictions,
)

if TYPE_CHECKING:
    from embedkit.training.data.annotators import Annotators
    from embedkit.training.data.folds import Names


UNBELIEVED = {"nll": likelihood_losses, "brier": brier_losses, "adaptive_ece": calibration_gaps}
"""How far probabilities can be believed: scores that are means over utterances, lower is better."""

DISTANT = {"kl": kullback_leibler, "js": jensen_shannon}
"""How far probabilities lie from the shares of annotators: means over utterances, too."""


def summarise_classes(
    targets: NDArray[np.int64], shares: FloatArray, calibrated: FloatArray | None, speakers: Names
) -> dict[str, Any]:
    """Compute WA, UA, F1, NLL, Brier score and ECE: mean and standard deviation over seeds; and the largest class.

    All but the ECE in bins of equal width, and the recall of each class, have intervals over speakers; None where
    there are fewer than two, or unknown ones. The speakers of each class are counted.

    Args:
        targets: Class indices `[utterances]`.
        shares: Class probabilities `[seeds, utterances, classes]`.
        calibrated: The same, each head's after its temperature; None where there is none.
        speakers: One for each utterance, empty where unknown.
    """
    predicted, classes = shares.argmax(-1), shares.shape[-1]
    row = summarise_predictions(targets, predicted, speakers, classes)
    row["class_speakers"] = [len(np.unique(speakers[targets == place])) for place in range(classes)]
    row["majority"] = float(np.bincount(targets).max() / len(targets))
    row |= _over_seeds("ece", expected_calibration_error(targets, shares))
    for suffix, given in (("", shares), ("_calibrated", calibrated)):
        if given is None:
            continue
        for name, score in UNBELIEVED.items():
            row |= _mean_over_utterances(f"{name}{suffix}", score(targets, given), targets, speakers)
    return row


def summarise_votes(
    annotators: Annotators | None,
    targets: NDArray[np.int64],
    shares: FloatArray,
    calibrated: FloatArray | None,
    speakers: Names,
) -> dict[str, Any]:
    """Compute how far probabilities lie from the shares of annotators, with intervals, and how far these agree.

    Nothing where nobody voted. `annotators` holds what one of them reaches against the others.

    Args:
        annotators: Of the same utterances.
        targets, shares, calibrated, speakers: As for `summarise_classes`: `[utterances]`, and probabilities
            `[seeds, utterances, classes]`.
    """
    votes = None if annotators is None else annotators.votes
    if votes is None or not (voted := np.isfinite(votes).all(1)).any():
        return {}
    truth = votes[voted] / votes[voted].sum(1, keepdims=True)
    row: dict[str, Any] = {}
    for suffix, given in (("", shares), ("_calibrated", calibrated)):
        if given is None:
            continue
        for name, score in DISTANT.items():
            values = score(truth, given[:, voted])
            row |= _mean_over_utterances(f"{name}{suffix}", values, targets[voted], speakers[voted])
    return row | {"annotators": _compare_annotators(votes[voted], targets[voted])}


def _compare_annotators(votes: FloatArray, targets: NDArray[np.int64]) -> dict[str, Any]:
    """Say how far annotators agree: each against the others, and the labels with the votes of the majority."""
    most = votes == votes.max(1, keepdims=True)
    truth = np.eye(votes.shape[1])[targets]
    row: dict[str, Any] = {"utterances": len(votes), "labels_of_majority": float((most * truth).sum(1).mean())}
    found = leave_one_out(votes)
    if found is None:
        return row | {"compared": 0}
    alone = truth.T @ (votes / votes.sum(1, keepdims=True))
    return row | {
        "compared": found.utterances,
        "ua": float(mean_recall(found.confusion)),
        "wa": float(accuracy(found.confusion)),
        "f1": float(mean_f1(found.confusion)),
        "js": found.distance,
        "alpha": None if math.isnan(found.alpha) else found.alpha,
        "ua_of_labels": float(mean_recall(alone)),
        "wa_of_labels": float(accuracy(alone)),
    }


def summarise_raters(annotators: Annotators | None, targets: FloatArray, dimensions: Sequence[str]) -> dict[str, Any]:
    """Compute the CCC that one rater reaches against the mean of the others, which is taken for the rating.

    Nothing without `<dimension>_spread`; no CCC where it is not known how many raters there were.

    Args:
        annotators: Of the same utterances.
        targets: Ratings `[utterances, dimensions]`.
        dimensions: Their names.
    """
    if annotators is None or annotators.spreads is None or annotators.raters is None:
        return {}
    row: dict[str, Any] = {}
    for place, name in enumerate(dimensions):
        spread, raters = annotators.spreads[:, place], annotators.raters[:, place]
        rows = np.isfinite(spread) & (raters > 1)
        if rows.any():
            row[f"ccc_{name}"] = rater_concordance(targets[rows, place], spread[rows], raters[rows])
            row["compared"] = max(int(rows.sum()), row.get("compared", 0))
    if row.keys() >= {f"ccc_{name}" for name in dimensions}:
        row["ccc"] = float(np.mean([row[f"ccc_{name}"] for name in dimensions]))
    return {"annotators": {"utterances": len(targets), "compared": 0, **row}}


def summarise_predictions(
    targets: NDArray[np.int64], predicted: NDArray[np.int64], speakers: Names, classes: int
) -> dict[str, Any]:
    """Compute WA, UA and F1: mean and standard deviation over seeds, and intervals; and those of each class's recall.

    Args:
        targets: Class indices `[utterances]`.
        predicted: Class indices `[seeds, utterances]`.
        speakers: One for each utterance, empty where unknown.
        classes: How many there are.
    """
    scores = [score_predictions(targets, row, classes) for row in predicted]
    intervals = score_intervals(targets, predicted, speakers, classes) if np.all(speakers != "") else None
    row: dict[str, Any] = {}
    for name in ("wa", "ua", "f1"):
        row |= _over_seeds(name, np.array([getattr(score, name) for score in scores]))
        row |= _interval(name, getattr(intervals, name) if intervals else None)
    row["recall_ci"] = [_interval("recall", one)["recall_ci"] for one in intervals.recalls] if intervals else None
    return row


def summarise_ratings(
    targets: FloatArray, predicted: FloatArray, speakers: Names, dimensions: Sequence[str]
) -> dict[str, Any]:
    """Compute CCC and RMSE of every dimension, and the mean CCC: mean and standard deviation over seeds.

    The CCC have intervals over speakers as the scores of classes have.

    Args:
        targets: Ratings `[utterances, dimensions]`.
        predicted: `[seeds, utterances, dimensions]`.
        speakers: One for each utterance, empty where unknown.
        dimensions: Their names.
    """

    by_dimension = np.moveaxis(predicted, -1, -2)
    agreement = concordance_correlation(by_dimension, targets.T)
    errors = root_mean_square_error(by_dimension, targets.T)
    known = bool(np.all(speakers != ""))
    mean, *each = concordance_intervals(targets, predicted, speakers) if known else [None] * (1 + len(dimensions))
    row = _over_seeds("ccc", agreement.mean(-1)) | _interval("ccc", mean)
    for place, (dimension, interval) in enumerate(zip(dimensions, each, strict=True)):
        row |= _over_seeds(f"ccc_{dimension}", agreement[:, place])
        row |= _interval(f"ccc_{dimension}", interval)
        row |= _over_seeds(f"rmse_{dimension}", errors[:, place])
    return row


def _mean_over_utterances(name: str, values: FloatArray, targets: NDArray[np.int64], speakers: Names) -> dict[str, Any]:
    """Return the mean of `[seeds, utterances]`, and its interval where all speakers are known."""
    known = bool(np.all(speakers != ""))
    interval = mean_interval(values.mean(0), targets, speakers) if known else None
    return _over_seeds(name, values.mean(-1)) | _interval(name, interval)


def _over_seeds(name: str, values: FloatArray) -> dict[str, Any]:
    if not np.isfinite(values).all():
        return {name: None, f"{name}_std": None}
    return {name: float(values.mean()), f"{name}_std": float(values.std(ddof=1)) if len(values) > 1 else 0.0}


def _interval(name: str, found: Interval | None) -> dict[str, Any]:
    low, high = found or (math.nan, math.nan)
    return {f"{name}_ci": None if math.isnan(low) else [low, high]}
