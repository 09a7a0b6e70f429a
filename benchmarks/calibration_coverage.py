"""How often intervals of means over utterances hold the truth: python benchmarks/calibration_coverage.py [--draws N]

Scores of the true class are drawn with a part of the speaker, in all classes and in each; a scale makes heads too
sure, and one fitted on 40 other speakers calibrates them. The divergence is from shares of votes. The
calibration error is biased by how few utterances there are; its truth is the mean over draws of so many speakers.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from interval_coverage import SPEAKERS, even, one_class, rare, unequal
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import rel_entr, softmax

from embedkit.evaluation.calibration import brier_losses, calibration_gaps, likelihood_losses, scale_temperature
from embedkit.evaluation.intervals import mean_interval

FloatArray = NDArray[np.float64]
Counts = Callable[[np.random.Generator, int, int], NDArray[np.int64]]
COUNTS: dict[str, Counts] = {
    "even": even(12),
    "unequal speakers": unequal,
    "one class a speaker": one_class,
    "a class in one speaker": rare(1),
}
SCALES = {"too sure, as it is": (3.0, False), "too sure, calibrated": (3.0, True)}
METRICS = ("NLL", "Brier", "KL", "adaptive ECE")


def draw(random: np.random.Generator, counts: NDArray[np.int64], scale: float) -> tuple[NDArray, NDArray, FloatArray]:
    """Draw targets `[N]`, speakers `[N]` and probabilities `[N, 4]` for utterances `[speakers, 4]`."""
    owners, targets = (np.repeat(place.ravel(), counts.ravel()) for place in np.indices(counts.shape))
    parts = 0.4 * random.standard_normal((len(counts), 1)) + 0.5 * random.standard_normal(counts.shape)
    scores = random.standard_normal((len(targets), 4))
    scores[np.arange(len(targets)), targets] += np.array([2.0, 0.9, 1.2, 1.5])[targets] + parts[owners, targets]
    return targets, owners, softmax(scale * scores, axis=-1)


def losses(targets: NDArray, shares: FloatArray, random: np.random.Generator) -> list[FloatArray]:
    """Compute what utterances add to each metric `[N]`; a third of the votes on each is for any class."""
    votes = (random.multinomial(1, np.full(4, 0.25), len(targets)) + 2 * np.eye(4)[targets]) / 3
    divergence = rel_entr(votes, np.maximum(shares, np.finfo(np.float64).eps)).sum(-1)
    return [
        likelihood_losses(targets, shares),
        brier_losses(targets, shares),
        divergence,
        calibration_gaps(targets, shares),
    ]


def find_temperature(random: np.random.Generator, scale: float) -> float:
    targets, _, shares = draw(random, even(12)(random, 1, 40)[0], scale)
    found = minimize_scalar(
        lambda bent: likelihood_losses(targets, scale_temperature(shares, np.exp(bent))).mean(), bounds=(-3, 3)
    )
    return float(np.exp(found.x))


def cover(counts: Counts, speakers: int, draws: int, scale: float, calibrated: bool) -> list[float]:
    """Return the share of draws in which the interval held the truth, by metric."""
    random = np.random.default_rng(0)
    temperature = find_temperature(random, scale) if calibrated else 1.0
    found = []
    for _ in range(draws):
        targets, owners, shares = draw(random, counts(random, 1, speakers)[0], scale)
        values = losses(targets, scale_temperature(shares, temperature), random)
        found.append([(own.mean(), *mean_interval(own, targets, owners.astype(str))) for own in values])
    means, low, high = np.moveaxis(np.array(found), -1, 0)
    # The mean over draws is known far better than an interval of one.
    return [float(share) for share in ((low <= means.mean(0)) & (means.mean(0) <= high)).mean(0)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=2000)
    told = parser.parse_args()
    print(f"| case | probabilities | {' | '.join(METRICS)} |\n|---|---|{'---|' * len(METRICS)}")
    for name, counts in COUNTS.items():
        for probabilities, options in SCALES.items():
            found = [cover(counts, speakers, told.draws, *options) for speakers in SPEAKERS]
            cells = [", ".join(f"{100 * one[place]:.1f}" for one in found) for place in range(len(METRICS))]
            print(f"| {name} | {probabilities} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
