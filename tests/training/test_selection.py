"""Choosing the learning rate and the epoch."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import recall_score

from embedkit.training.data.targets import ClassTargets
from embedkit.training.selection import choose, pooled_scores


def test_the_candidate_with_the_best_smoothed_recall_is_chosen() -> None:
    lucky = [0.1, 0.1, 0.9, 0.1, 0.1, 0.1, 0.1]
    steady = [0.1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
    assert choose(np.array([lucky, steady])).candidate == 1
    assert choose(np.array([lucky, steady]), smoothing=1).candidate == 0
    assert choose(np.array([lucky, steady]), smoothing=1).epochs == 3


def test_the_earliest_of_equals_is_chosen() -> None:
    choice = choose(np.full((3, 5), 0.25))
    assert (choice.candidate, choice.epochs) == (0, 1)


def test_inner_folds_are_scored_together() -> None:
    generator = np.random.default_rng(0)
    targets = generator.integers(0, 3, 20)
    validations = [np.arange(0, 8), np.arange(8, 20)]
    predictions = [generator.integers(0, 3, (2, 4, len(part))).astype(np.int16) for part in validations]
    pooled = pooled_scores(ClassTargets(targets, 3), validations, predictions)
    for candidate in range(2):
        for epoch in range(4):
            joined = np.concatenate([part[candidate, epoch] for part in predictions])
            expected = recall_score(targets, joined, average="macro")
            assert abs(pooled[candidate, epoch] - expected) < 1e-12
