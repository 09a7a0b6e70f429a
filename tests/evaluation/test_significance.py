"""Swap tests against a naive loop over all swaps; Holm against its definition; false claims in simulation."""

import time
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import recall_score

from benchmarks.simulated_speakers import WORLDS
from embedkit.errors import FitError
from embedkit.evaluation.intervals import plain_interval
from embedkit.evaluation.metrics import concordance_correlation, unweighted_average_recall
from embedkit.evaluation.significance import (
    SAMPLES,
    agreement_moments,
    find_power,
    holm_adjust,
    mean_concordance,
    recall_shares,
    smallest_p,
    swap_p_values,
    t_p_value,
    two_way_variance,
)
from embedkit.evaluation.speaker_model import Variance

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=8)


def two_way_p(one: Any, other: Any, seeds: tuple[Any, Any]) -> float:
    """Test the difference of two systems whose scores are the sums."""
    return t_p_value(float(one.sum(0) - other.sum(0)), two_way_variance(one, other, seeds))


def systems(speakers: int, seeds: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw truth `[N]`, predictions of two systems `[2, seeds, N]` and speakers; some speakers lack a class."""
    random = np.random.default_rng(speakers)
    owners = np.repeat(np.arange(speakers), random.integers(4, 12, speakers))
    truth = random.integers(0, 3, len(owners))
    right = random.random((2, seeds, len(owners))) < np.array([0.75, 0.55])[:, None, None]
    return truth, np.where(right, truth, (truth + 1) % 3), owners


def shares_of(truth: np.ndarray, predictions: np.ndarray, owners: np.ndarray) -> np.ndarray:
    seeds = len(predictions)
    return recall_shares((predictions == truth).ravel(), np.tile(truth, seeds), np.tile(owners, seeds))


def test_shares_add_up_to_the_recall_averaged_over_seeds() -> None:
    truth, predictions, owners = systems(5)
    expected = np.mean([recall_score(truth, row, average="macro") for row in predictions[0]])
    assert shares_of(truth, predictions[0], owners).sum() == pytest.approx(expected, abs=1e-12)


def test_p_is_the_share_of_all_swaps_of_predictions_that_reach_the_difference() -> None:
    truth, (one, other), owners = systems(6)

    def difference(first: np.ndarray, second: np.ndarray) -> float:
        return float(
            np.mean([unweighted_average_recall(truth, row, 3) for row in first])
            - np.mean([unweighted_average_recall(truth, row, 3) for row in second])
        )

    reached = 0
    for swapped in product([False, True], repeat=6):
        changed = np.array(swapped)[owners]
        found = difference(np.where(changed, other, one), np.where(changed, one, other))
        reached += abs(found) >= abs(difference(one, other)) - 1e-10
    p = swap_p_values(shares_of(truth, one, owners)[:, None], shares_of(truth, other, owners)[:, None])
    assert p == pytest.approx([reached / 2**6], abs=1e-12)


def test_p_of_concordance_is_that_of_all_swaps_too() -> None:
    random = np.random.default_rng(0)
    owners = np.repeat(np.arange(5), [3, 4, 5, 6, 7])
    ratings = 3 + random.standard_normal((len(owners), 2))
    one, other = (ratings + noise * random.standard_normal((3, *ratings.shape)) for noise in (0.5, 1.2))

    def score(predictions: np.ndarray) -> float:
        return float(concordance_correlation(np.moveaxis(predictions, -1, -2), ratings.T).mean())

    moments = [agreement_moments(ratings, system, owners) for system in (one, other)]
    assert mean_concordance(moments[0].sum(0)) == pytest.approx(score(one), abs=1e-12)
    reached = 0
    for swapped in product([False, True], repeat=5):
        changed = np.array(swapped)[owners][:, None]
        found = score(np.where(changed, other, one)) - score(np.where(changed, one, other))
        reached += abs(found) >= abs(score(one) - score(other)) - 1e-10
    p = swap_p_values(moments[0][:, None], moments[1][:, None], mean_concordance)
    assert p == pytest.approx([reached / 2**5], abs=1e-12)


@pytest.mark.parametrize("speakers", [2, 5, 16])
def test_a_difference_in_the_same_direction_everywhere_gives_the_smallest_p(speakers: int) -> None:
    better, worse = np.full((speakers, 1), 0.2), np.full((speakers, 1), 0.1)
    assert swap_p_values(better, worse) == pytest.approx([2 / 2**speakers])
    assert smallest_p(speakers) == 2 / 2**speakers
    assert swap_p_values(better, better) == pytest.approx([1.0])


def test_many_speakers_are_sampled_reproducibly_and_near_the_exact_p() -> None:
    random = np.random.default_rng(0)
    change = random.normal(0.3, 1.0, (17, 3))
    sampled = swap_p_values(change, np.zeros_like(change))
    assert (sampled == swap_p_values(change, np.zeros_like(change))).all()
    signs = np.array(list(product([-1, 1], repeat=17)))
    exact = (np.abs(signs @ change) >= np.abs(change.sum(0)) - 1e-10).mean(0)
    assert sampled == pytest.approx(exact, abs=5 * np.sqrt(0.25 / SAMPLES))
    certain = swap_p_values(np.ones((40, 1)), np.zeros((40, 1)))
    assert certain == smallest_p(40) == 1 / (SAMPLES + 1)


def test_pairs_tested_together_are_as_if_alone() -> None:
    first, second = np.random.default_rng(0).random((2, 9, 4))
    together = swap_p_values(first, second)
    alone = [swap_p_values(first[:, [k]], second[:, [k]])[0] for k in range(4)]
    assert together == pytest.approx(alone, abs=1e-12)
    assert swap_p_values(second, first) == pytest.approx(together, abs=1e-12)


def test_all_swaps_of_sixteen_speakers_take_well_under_a_second() -> None:
    random = np.random.default_rng(0)
    first, second = random.random((2, 16, 10))
    start = time.process_time()
    swap_p_values(first, second)
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize("shapes", [((0, 1), (0, 1)), ((3, 1), (4, 1))])
def test_what_is_not_paired_is_refused(shapes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    with pytest.raises(FitError, match="same speakers"):
        swap_p_values(np.zeros(shapes[0]), np.zeros(shapes[1]))


@given(P_VALUES)
def test_holm_rejects_what_stepping_down_rejects(p_values: list[float]) -> None:
    adjusted = holm_adjust(p_values)
    assert (adjusted >= p_values).all()
    for level in (0.01, 0.05, 0.2):
        rejected = set()
        for step, index in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
            if p_values[index] * (len(p_values) - step) > level:
                break
            rejected.add(index)
        assert {index for index, p in enumerate(adjusted) if p <= level} == rejected


@pytest.mark.parametrize("speakers", [8, 12])
@pytest.mark.parametrize("pairs", [[(1, 0), (2, 0), (3, 0), (4, 0)], list(combinations(range(4), 2))])
def test_equal_systems_are_told_apart_in_at_most_one_family_of_twenty(
    speakers: int, pairs: list[tuple[int, int]]
) -> None:
    random = np.random.default_rng(1)
    claims, simulations = 0, 2000
    for _ in range(simulations):
        truth, predictions, owners = WORLDS[1].draw(random, speakers, systems=5, seeds=2)
        shares = [shares_of(truth, one, owners) for one in predictions]
        first, second = (np.stack([shares[pair[side]] for pair in pairs], axis=1) for side in (0, 1))
        claims += holm_adjust(swap_p_values(first, second)).min() <= 0.05
    # So many claims would come from a true rate of 5 % in less than one of a hundred runs.
    assert claims <= scipy.stats.binom.ppf(0.99, simulations, 0.05)


def test_a_real_difference_is_found() -> None:
    random = np.random.default_rng(0)
    truth, predictions, owners = WORLDS[0].draw(random, 10, systems=2, gain=0.6)
    one, other = (shares_of(truth, system, owners)[:, None] for system in predictions)
    assert swap_p_values(one, other)[0] < 0.01


@pytest.mark.parametrize(("systems", "seeds"), [(1, 3), (1, 5), (5, 3)])
def test_the_same_system_under_other_seeds_is_seldom_called_different_by_a_t(systems: int, seeds: int) -> None:
    """At most 5 % and what 400 draws leave open; swaps claim several times as much with one trained system."""
    random = np.random.default_rng(0)
    claims, swaps = 0, 0
    for _ in range(400):
        hard = 0.08 * random.standard_normal((20, 1))
        trained = 0.03 * random.standard_normal((2, systems, seeds))
        own = 0.7 + hard + trained[:, np.arange(20) % systems] + 0.05 * random.standard_normal((2, 20, seeds))
        shares = own / 20
        parts, scores = shares.mean(-1), shares.sum(1)
        claims += two_way_p(parts[0], parts[1], (scores[0], scores[1])) <= 0.05
        swaps += bool(swap_p_values(parts[0][:, None], parts[1][:, None])[0] <= 0.05) if systems == 1 else 0
    assert claims / 400 <= 0.05 + 2.6 * (0.05 * 0.95 / 400) ** 0.5
    assert swaps / 400 > 0.2 or systems > 1


def test_a_clear_difference_is_shown_by_a_t() -> None:
    random = np.random.default_rng(0)
    one, other = (random.normal(level, 0.05, (10, 5)) / 10 for level in (0.8, 0.5))
    assert two_way_p(one.mean(-1), other.mean(-1), (one.sum(0), other.sum(0))) < 0.001
    with pytest.raises(FitError, match="at least two of each"):
        two_way_p(one.mean(-1), other.mean(-1), ([0.1], [0.2]))


@pytest.mark.parametrize(("speakers", "seeds", "gain"), [(10, 3, 0.03), (24, 5, 0.05), (5, 3, 0.1)])
def test_power_is_the_share_of_simulated_studies_that_find_the_difference(
    speakers: int, seeds: int, gain: float
) -> None:
    random = np.random.default_rng(0)
    found, told = [], []
    for _ in range(1500):
        change = (gain + 0.05 * random.standard_normal(speakers)) / speakers
        luck = 0.02 * random.standard_normal((2, seeds))
        one, other = change + luck[0].mean() / speakers, np.full(speakers, luck[1].mean() / speakers)
        variance = two_way_variance(one, other, (luck[0], luck[1]))
        found.append(t_p_value(float((one - other).sum()), variance) <= 0.05)
        told.append(find_power(gain, variance, 0.05))
    assert np.median(told) == pytest.approx(np.mean(found), abs=0.08)


def test_a_difference_is_in_its_interval_where_its_p_is_above_the_level() -> None:
    random = np.random.default_rng(1)
    for _ in range(50):
        one, other, luck = random.random(8), random.random(8), random.random((2, 3))
        variance = two_way_variance(one, other, (luck[0], luck[1]))
        difference = float((one - other).sum())
        low, high = plain_interval(difference, variance)
        assert (low <= 0 <= high) == (two_way_p(one, other, (luck[0], luck[1])) > 0.05)


def test_what_has_no_seeds_has_no_part_in_the_variance() -> None:
    one, other, luck = np.random.default_rng(0).random((3, 6))
    without = two_way_variance(one, other, ([], []))
    assert without.freedom == 5
    assert two_way_variance(one, other, (luck, [])).value == pytest.approx(without.value + luck.var(ddof=1) / 6)


def test_power_stays_a_share_far_away() -> None:
    assert [find_power(gain, Variance(1e-6, 9.0), 0.05) for gain in (0.0, 1.0)] == pytest.approx([0.05, 1.0], abs=1e-3)
    assert find_power(0.03, Variance(0.0, 9.0), 0.05) == 1.0
