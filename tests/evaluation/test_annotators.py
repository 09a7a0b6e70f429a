"""Distances to annotators and their agreement, against naive computations annotator by annotator."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from embedkit.errors import FitError
from embedkit.evaluation.annotators import jensen_shannon, kullback_leibler, leave_one_out, rater_concordance
from embedkit.evaluation.metrics import concordance_correlation

VOTES = arrays(np.int64, st.tuples(st.integers(1, 6), st.integers(2, 4)), elements=st.integers(0, 3))


def test_distances_are_those_of_scipy() -> None:
    generator = np.random.default_rng(0)
    shares, found = generator.dirichlet(np.ones(4), 6), generator.dirichlet(np.ones(4), (2, 6))
    shares[0] = [0, 1, 0, 0]
    kl, js = kullback_leibler(shares, found), jensen_shannon(shares, found)
    for seed in range(2):
        for row in range(6):
            assert kl[seed, row] == pytest.approx(entropy(shares[row], found[seed, row]))
            assert js[seed, row] == pytest.approx(jensenshannon(shares[row], found[seed, row], base=2))


def test_the_ends_of_distances() -> None:
    shares = np.eye(3)
    assert kullback_leibler(shares, shares).tolist() == jensen_shannon(shares, shares).tolist() == [0, 0, 0]
    assert jensen_shannon(shares, np.roll(shares, 1, 0)).tolist() == [1, 1, 1]
    assert np.isfinite(kullback_leibler(shares, np.roll(shares, 1, 0))).all()


@pytest.mark.parametrize(("shares", "found"), [((3, 3), (3, 2)), ((3, 3), (2, 3)), ((0, 3), (0, 3)), ((3,), (3,))])
def test_shapes_that_do_not_fit(shares: tuple[int, ...], found: tuple[int, ...]) -> None:
    with pytest.raises(FitError, match="expected one row of each for every utterance"):
        kullback_leibler(np.ones(shares), np.ones(found))


@settings(max_examples=20, deadline=None)
@given(votes=VOTES)
def test_leaving_one_out_annotator_by_annotator(votes: np.ndarray) -> None:
    classes = votes.shape[1]
    confusion, distances, kept = np.zeros((classes, classes)), [], 0
    for row in votes:
        named = [k for k in range(classes) for _ in range(row[k])]
        if len(named) < 2:
            continue
        kept += 1
        own = []
        for place, one in enumerate(named):
            others = [named.count(k) - (k == named[place]) for k in range(classes)]
            best = [k for k in range(classes) if others[k] == max(others)]
            for truth in best:
                confusion[truth, one] += 1 / len(named) / len(best)
            own.append(float(jensenshannon(np.eye(classes)[one], np.array(others) / sum(others), base=2)))
        distances.append(np.mean(own))
    found = leave_one_out(votes)
    if found is None:
        assert not kept
        return
    assert found.utterances == kept
    np.testing.assert_allclose(found.confusion, confusion, atol=1e-12)
    assert found.distance == pytest.approx(np.mean(distances), abs=1e-7)


def naive_alpha(votes: np.ndarray) -> float:
    """Krippendorff's alpha from all pairs of votes within utterances, and all pairs whatsoever."""
    units = [[k for k in range(votes.shape[1]) for _ in range(row[k])] for row in votes if row.sum() > 1]
    every = [one for unit in units for one in unit]
    observed = sum(
        (a != b) / (len(unit) - 1) for unit in units for i, a in enumerate(unit) for j, b in enumerate(unit) if i != j
    ) / len(every)
    pairs = [a != b for i, a in enumerate(every) for j, b in enumerate(every) if i != j]
    return 1 - observed / np.mean(pairs) if any(pairs) else math.nan


@settings(max_examples=20, deadline=None)
@given(votes=VOTES)
def test_alpha_is_that_of_all_pairs(votes: np.ndarray) -> None:
    found = leave_one_out(votes)
    if found is not None:
        assert found.alpha == pytest.approx(naive_alpha(votes), nan_ok=True, abs=1e-9)


@pytest.mark.parametrize("votes", [[[0.5, 0.5]], [[1, 0], [0, 1]], [[1.5, 0.5]]], ids=["shares", "single", "split"])
def test_votes_that_tell_no_agreement(votes: list[list[float]]) -> None:
    assert leave_one_out(votes) is None


def test_split_votes_are_passed_over() -> None:
    found = leave_one_out([[1.5, 0.5], [2, 1], [0, 3]])
    assert found is not None
    assert found.utterances == 2


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), counts=st.lists(st.integers(2, 5), min_size=2, max_size=6))
def test_the_concordance_of_one_rater_rating_by_rating(seed: int, counts: list[int]) -> None:
    generator = np.random.default_rng(seed)
    ratings = [generator.integers(1, 8, count).astype(float) for count in counts]
    means = [own.mean() for own in ratings]
    spreads = [own.std(ddof=1) for own in ratings]
    # Every utterance counts once, so ratings are repeated to equal numbers.
    pairs = [(one, (own.sum() - one) / (len(own) - 1)) for own in ratings for one in own for _ in range(60 // len(own))]
    expected = concordance_correlation(*np.array(pairs).T)
    assert rater_concordance(means, spreads, counts) == pytest.approx(float(expected), abs=1e-9)
