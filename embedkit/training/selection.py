"""Choose learning rate and number of epochs from validation predictions, never from test data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedkit.evaluation.metrics import recall_scores
from embedkit.training.folds import Indices

SMOOTHING = 5
"""Epochs over which validation UA is averaged before its maximum is taken; a single epoch's maximum is mostly luck."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was chosen for one head of one fold.

    Attributes:
        candidate: Position among the searched settings.
        epochs: Epochs to train, counted from one.
        recall: Validation UA of the choice (smoothed over neighbouring epochs).
    """

    candidate: int
    epochs: int
    recall: float


def pooled_recalls(
    targets: NDArray[np.int64],
    validations: Sequence[Indices],
    predictions: Sequence[NDArray[np.int16]],
    classes: int,
) -> NDArray[np.float64]:
    """Score the predictions of all inner folds together: UA `[candidates, epochs]`.

    Args:
        targets: Class of every utterance.
        validations: Utterances of each inner fold.
        predictions: Predicted classes of each inner fold, `[candidates, epochs, utterances]`.
        classes: Number of classes.
    """
    pooled = np.concatenate(predictions, axis=-1)
    recalls: NDArray[np.float64] = recall_scores(targets[np.concatenate(validations)], pooled, classes)
    return recalls


def choose(recalls: NDArray[np.float64], *, smoothing: int = SMOOTHING) -> Choice:
    """Choose the candidate and the epoch with the highest smoothed UA; the earliest of equals.

    Args:
        recalls: UA `[candidates, epochs]`.
        smoothing: Width of the moving average over epochs (odd); windows are cut at the ends.
    """
    half = smoothing // 2
    epochs = recalls.shape[1]
    smooth = np.stack(
        [recalls[:, max(0, epoch - half) : epoch + half + 1].mean(axis=1) for epoch in range(epochs)], axis=1
    )
    candidate, epoch = np.unravel_index(int(np.argmax(smooth)), smooth.shape)
    return Choice(candidate=int(candidate), epochs=int(epoch) + 1, recall=float(smooth[candidate, epoch]))
