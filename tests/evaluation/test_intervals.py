"""The speaker jackknife: against the textbook mean interval, and its coverage in simulation."""

import math

import numpy as np
import pytest
import scipy.stats

from embedkit.evaluation.intervals import score_intervals, speaker_jackknife_interval
from embedkit.evaluation.metrics import score_predictions


def test_for_a_mean_of_equally_many_utterances_it_is_the_t_interval_over_speakers() -> None:
    values = np.random.default_rng(0).uniform(0.3, 0.7, (8, 5))
    speakers = np.repeat([f"speaker {i}" for i in range(8)], 5)
    means = values.mean(axis=1)
    expected = scipy.stats.t.interval(0.9, df=7, loc=means.mean(), scale=scipy.stats.sem(means))
    interval = speaker_jackknife_interval(lambda rows: values.ravel()[rows].mean(), speakers, level=0.9)
    assert interval == pytest.approx(expected, abs=1e-12)


def test_it_is_clipped_to_the_bounds() -> None:
    values = np.array([1.0, 1.0, 1.0, 0.0])
    speakers = ["a", "b", "c", "d"]
    low, high = speaker_jackknife_interval(lambda rows: values[rows].mean(), speakers)
    assert (low, high) == (0.0, 1.0)
    low, high = speaker_jackknife_interval(lambda rows: values[rows].mean(), speakers, bounds=(-1.0, 2.0))
    assert low < 0
    assert high > 1


@pytest.mark.parametrize("speakers", [[], ["a"], ["a", "a", "a"]])
def test_fewer_than_two_speakers_give_no_interval(speakers: list[str]) -> None:
    low, high = speaker_jackknife_interval(lambda rows: 0.5, speakers)
    assert math.isnan(low)
    assert math.isnan(high)


def test_intervals_of_scores_average_over_seeds() -> None:
    random = np.random.default_rng(0)
    targets = random.integers(0, 3, 200)
    speakers = np.array([f"s{i % 7}" for i in range(200)])
    predictions = np.where(random.random((3, 200)) < 0.7, targets, random.integers(0, 3, (3, 200)))
    intervals = score_intervals(targets, predictions, speakers, 3)
    for name in ("wa", "ua", "f1"):

        def statistic(rows: np.ndarray, name: str = name) -> float:
            scores = [score_predictions(targets[rows], seed[rows], 3) for seed in predictions]
            return float(np.mean([getattr(score, name) for score in scores]))

        assert getattr(intervals, name) == pytest.approx(speaker_jackknife_interval(statistic, speakers), abs=1e-12)
    one = score_intervals(targets, predictions[0], speakers, 3)
    assert one == score_intervals(targets, predictions[:1], speakers, 3)


def test_coverage_in_simulation_is_near_the_level() -> None:
    """Ten speakers, each with a recall of their own for every class, and classes of unequal size."""
    random = np.random.default_rng(0)
    sizes = np.array([24, 12, 6])
    targets = np.tile(np.repeat([0, 1, 2], sizes), 10)
    speakers = np.repeat(np.arange(10).astype(str), sizes.sum())
    truth = np.array([0.8, 0.6, 0.7])
    covered = np.zeros(2)
    simulations = 300
    for _ in range(simulations):
        recalls = random.beta(10 * truth, 10 * (1 - truth), (10, 3))
        right = random.random(len(targets)) < recalls[speakers.astype(int), targets]
        intervals = score_intervals(targets, np.where(right, targets, (targets + 1) % 3), speakers, 3)
        for index, ((low, high), value) in enumerate(
            [(intervals.wa, (truth * sizes).sum() / sizes.sum()), (intervals.ua, truth.mean())]
        ):
            covered[index] += low <= value <= high
    assert ((covered / simulations > 0.90) & (covered / simulations < 0.99)).all(), covered / simulations
