"""Choose learning rate and number of epochs from validation predictions, never from test data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedkit.training.data.folds import Indices
from embedkit.training.data.targets import Targets

SMOOTHING = 5
"""Epochs over which validation scores are averaged before their maximum is taken; that of single epochs is mostly
luck."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was chosen for one head of one fold.

    Attributes:
        candidate: Position among the searched settings.
        epochs: Epochs to train, counted from one.
        score: Validation UA or mean CCC of the choice (smoothed over neighbouring epochs).
    """

    candidate: int
    epochs: int
    score: float


def pooled_scores(
    targets: Targets, validations: Sequence[Indices], predictions: Sequence[NDArray[Any]]
) -> NDArray[np.float64]:
    """Score the predictions of all inner folds together: `[candidates, epochs]`.

    Args:
        targets: The truth about every utterance.
        validations: Utterances of each inner fold.
        predictions: Predictions of each inner fold, `[candidates, epochs, utterances, ...]`.
    """
    return targets.score(np.concatenate(validations), np.concatenate(predictions, axis=2))


def choose(scores: NDArray[np.float64], *, smoothing: int = SMOOTHING) -> Choice:
    """Choose the candidate and the epoch with the highest smoothed score; the earliest of equals.

    Args:
        scores: `[candidates, epochs]`.
        smoothing: Width of the moving average over epochs (odd); windows are cut at the ends.
    """
    smooth = smooth_scores(scores, smoothing)
    candidate, epoch = np.unravel_index(int(np.argmax(smooth)), smooth.shape)
    return Choice(candidate=int(candidate), epochs=int(epoch) + 1, score=float(smooth[candidate, epoch]))


def smooth_scores(scores: NDArray[np.float64], smoothing: int = SMOOTHING) -> NDArray[np.float64]:
    """Average `[candidates, epochs]` over neighbouring epochs, with windows that are cut at the ends."""
    half = smoothing // 2
    windows = [scores[:, max(0, epoch - half) : epoch + half + 1] for epoch in range(scores.shape[1])]
    return np.stack([window.mean(axis=1) for window in windows], axis=1)
