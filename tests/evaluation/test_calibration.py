"""Negative log-likelihood and calibration error against scikit-learn and a loop over bins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from embedkit.errors import FitError
from embedkit.evaluation.calibration import (
    brier_losses,
    calibration_gaps,
    expected_calibration_error,
    likelihood_losses,
    scale_temperature,
)


def draw(seed: int, utterances: int, classes: int, *leading: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    shares = generator.dirichlet(np.full(classes, 0.4), (*leading, utterances))
    return generator.integers(0, classes, utterances), shares


def naive_error(targets: np.ndarray, shares: np.ndarray, bins: int) -> float:
    total = 0.0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        inside = [row for row in range(len(targets)) if low < shares[row].max() <= high]
        if inside:
            accuracy = np.mean([shares[row].argmax() == targets[row] for row in inside])
            confidence = np.mean([shares[row].max() for row in inside])
            total += len(inside) / len(targets) * abs(accuracy - confidence)
    return total


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), utterances=st.integers(1, 60), classes=st.integers(2, 6))
def test_likelihood_is_scikit_learns(seed: int, utterances: int, classes: int) -> None:
    targets, shares = draw(seed, utterances, classes)
    expected = log_loss(targets, shares, labels=np.arange(classes))
    assert float(likelihood_losses(targets, shares).mean(-1)) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), utterances=st.integers(1, 60), bins=st.integers(1, 20))
def test_calibration_error_is_that_of_a_loop_over_bins(seed: int, utterances: int, bins: int) -> None:
    targets, shares = draw(seed, utterances, 4)
    found = float(expected_calibration_error(targets, shares, bins))
    assert found == pytest.approx(naive_error(targets, shares, bins), abs=1e-12)


def test_every_row_of_many_heads_is_scored_alone() -> None:
    targets, shares = draw(3, 40, 3, 2, 5)
    each = (likelihood_losses, brier_losses, calibration_gaps)
    means = [lambda truth, given, score=score: score(truth, given).mean(-1) for score in each]
    for score in (expected_calibration_error, *means):
        together = score(targets, shares)
        assert together.shape == (2, 5)
        assert together[1, 3] == pytest.approx(float(score(targets, shares[1, 3])))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 8), bins=st.integers(1, 7))
def test_adaptive_error_is_that_of_bins_of_one_size(seed: int, size: int, bins: int) -> None:
    targets, shares = draw(seed, size * bins, 4)
    order = np.argsort(shares.max(-1))
    parts = order.reshape(bins, size)
    right = shares.argmax(-1) == targets
    wanted = np.mean([abs(shares[part].max(-1).mean() - right[part].mean()) for part in parts])
    assert float(calibration_gaps(targets, shares, bins).mean()) == pytest.approx(wanted, abs=1e-12)


def test_equal_confidences_share_a_bin() -> None:
    shares = np.tile([0.75, 0.25], (40, 1))
    assert calibration_gaps(np.repeat([0, 1], [30, 10]), shares).mean() == pytest.approx(0, abs=1e-12)
    assert calibration_gaps(np.repeat([0, 1], 20), shares).mean() == pytest.approx(0.25)


def test_brier_by_hand() -> None:
    shares = np.array([[0.8, 0.2], [0.8, 0.2], [0.0, 1.0]])
    assert brier_losses([0, 1, 0], shares).tolist() == pytest.approx([0.08, 1.28, 2.0])


def test_a_temperature_keeps_the_class_and_the_sum() -> None:
    _, shares = draw(1, 50, 4, 2)
    for temperature in (0.1, np.linspace(0.3, 9, 100).reshape(2, 50)):
        scaled = scale_temperature(shares, temperature)
        assert scaled.sum(-1) == pytest.approx(np.ones((2, 50)))
        assert (scaled.argmax(-1) == shares.argmax(-1)).all()
    assert scale_temperature(shares, 1.0) == pytest.approx(shares)
    assert scale_temperature([0.8, 0.2], 0.5).tolist() == pytest.approx([16 / 17, 1 / 17])


def test_by_hand() -> None:
    shares = np.array([[0.8, 0.2], [0.8, 0.2], [0.4, 0.6], [1.0, 0.0]])
    assert float(expected_calibration_error([0, 1, 1, 0], shares)) == pytest.approx((0.6 + 0.4) / 4)
    assert float(likelihood_losses([0, 1, 1, 0], shares).mean(-1)) == pytest.approx(-np.log([0.8, 0.2, 0.6, 1]).mean())
    certain = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert float(expected_calibration_error([0, 1], certain)) == 0
    assert float(expected_calibration_error([1, 0], certain)) == 1
    assert np.isfinite(likelihood_losses([1, 0], certain)).all()


@pytest.mark.parametrize(
    ("targets", "shares"),
    [([], np.zeros((0, 2))), ([0], np.ones((2, 2))), ([2], np.ones((1, 2))), ([0.5], np.ones((1, 2))), ([0], [0.5])],
)
def test_what_cannot_be_scored_is_told(targets: list[float], shares: np.ndarray) -> None:
    for score in (likelihood_losses, expected_calibration_error):
        with pytest.raises(FitError):
            score(targets, shares)


def test_a_bin_holds_its_upper_edge() -> None:
    shares = np.array([[0.75, 0.25], [0.625, 0.375]])
    assert float(expected_calibration_error([1, 0], shares, bins=4)) == pytest.approx(abs(0.75 + 0.625 - 1) / 2)
