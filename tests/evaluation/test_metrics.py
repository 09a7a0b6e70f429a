"""Metrics against scikit-learn and naive sums."""

import math
import warnings

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from embedkit.errors import FitError
from embedkit.evaluation.metrics import (
    Scores,
    concordance_correlation,
    confusion_matrix,
    score_predictions,
    unweighted_average_recall,
)

CLASSES = 5
PAIRS = st.lists(st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1)), min_size=1, max_size=40).map(
    lambda pairs: np.array(pairs).T
)


@given(PAIRS)
def test_scores_are_scikit_learns_also_where_classes_are_absent(pairs: np.ndarray) -> None:
    targets, predictions = pairs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = (
            sklearn.metrics.accuracy_score(targets, predictions),
            sklearn.metrics.balanced_accuracy_score(targets, predictions),
            sklearn.metrics.f1_score(targets, predictions, average="macro"),
        )
    scores = score_predictions(targets, predictions, CLASSES)
    assert (scores.wa, scores.ua, scores.f1) == pytest.approx(expected, abs=1e-12)
    assert unweighted_average_recall(targets, predictions, CLASSES) == pytest.approx(scores.ua, abs=1e-12)


@given(PAIRS)
def test_confusion_matrix_is_scikit_learns(pairs: np.ndarray) -> None:
    expected = sklearn.metrics.confusion_matrix(*pairs, labels=range(CLASSES))
    np.testing.assert_array_equal(confusion_matrix(*pairs, CLASSES), expected)


@given(PAIRS, st.integers(0, 1000))
def test_recall_of_many_heads_is_the_recall_of_each(pairs: np.ndarray, seed: int) -> None:
    targets = pairs[0]
    predictions = np.random.default_rng(seed).integers(0, CLASSES, (2, 3, len(targets)))
    scores = unweighted_average_recall(targets, predictions, CLASSES)
    matrices = confusion_matrix(targets, predictions, CLASSES)
    assert scores.shape == (2, 3)
    for index in np.ndindex(2, 3):
        expected = unweighted_average_recall(targets, predictions[index], CLASSES)
        assert scores[index] == pytest.approx(expected, abs=1e-12)
        np.testing.assert_array_equal(matrices[index], confusion_matrix(targets, predictions[index], CLASSES))


def test_equal_recalls_are_equal_to_the_bit() -> None:
    random = np.random.default_rng(0)
    targets = random.integers(0, 3, 900)
    wrong = [np.flatnonzero(targets == label) for label in range(3)]
    predictions = np.tile(targets, (50, 1))
    for row in predictions:
        for label, members in enumerate(wrong):
            row[random.choice(members, 37 + label, replace=False)] = (label + 1) % 3
    assert len(set(unweighted_average_recall(targets, predictions, 3).tolist())) == 1


def test_perfect_and_hopeless_predictions() -> None:
    targets = np.array([0, 0, 2, 2, 2])
    assert score_predictions(targets, targets, 4) == Scores(1.0, 1.0, 1.0)
    assert score_predictions(targets, np.array([2, 2, 0, 0, 0]), 4) == Scores(0.0, 0.0, 0.0)


def naive_ccc(x: list[float], y: list[float]) -> float:
    n = len(x)
    x_mean, y_mean = math.fsum(x) / n, math.fsum(y) / n
    covariance = math.fsum((a - x_mean) * (b - y_mean) for a, b in zip(x, y, strict=True)) / n
    x_variance = math.fsum((a - x_mean) ** 2 for a in x) / n
    y_variance = math.fsum((b - y_mean) ** 2 for b in y) / n
    return 2 * covariance / (x_variance + y_variance + (x_mean - y_mean) ** 2)


def test_concordance_correlation_is_lins() -> None:
    random = np.random.default_rng(0)
    x = random.normal(3, 1, (4, 30))
    y = 0.5 * x + random.normal(1, 0.5, (4, 30))
    for row, value in enumerate(concordance_correlation(x, y)):
        assert value == pytest.approx(naive_ccc(x[row].tolist(), y[row].tolist()), abs=1e-12)
    assert concordance_correlation(x[0], x[0]) == pytest.approx(1)
    assert concordance_correlation(x[0], 2 * x[0].mean() - x[0]) == pytest.approx(-1)
    assert concordance_correlation(x[0], x[0] + 1) < 0.9


def test_concordance_correlation_of_constants_is_zero() -> None:
    assert concordance_correlation(np.ones(5), np.ones(5)) == 0
    assert concordance_correlation(np.ones(1), np.zeros(1)) == 0


@pytest.mark.parametrize(
    ("targets", "predictions"),
    [([], []), ([0, 1], [0]), ([0, 3], [0, 1]), ([0, 1], [0, -1]), ([0, 1], [0.0, 1.0]), ([[0, 1]], [[0, 1]])],
)
def test_what_cannot_be_scored_gets_one_sentence(targets: list[int], predictions: list[int]) -> None:
    for score in (score_predictions, unweighted_average_recall, confusion_matrix):
        with pytest.raises(FitError, match="expected"):
            score(targets, predictions, 3)
