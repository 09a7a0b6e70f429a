"""How often intervals hold the true score of simulated speakers: python benchmarks/interval_coverage.py [--draws N]"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedkit.evaluation.intervals import contributions, plain_interval, score_intervals
from embedkit.evaluation.metrics import accuracy, mean_f1, mean_recall

IntArray = NDArray[np.int64]
SPEAKERS = (5, 10, 24)


@dataclass(frozen=True, kw_only=True)
class Case:
    """Speakers and systems to draw: `counts` says how many utterances of each class each of so many speakers has."""

    name: str
    recalls: tuple[float, ...]
    counts: Callable[[np.random.Generator, int], IntArray]
    spread: float = 12.0
    common: float = 0.0
    """Standard deviation, in logits, of what makes a speaker easy or hard in all classes."""
    apart: float = 0.0
    """The same of each class of a speaker, in place of a beta distribution: hard classes vary more then."""

    def draw(self, random: np.random.Generator, speakers: int, systems: int = 1) -> tuple[IntArray, IntArray, IntArray]:
        """Draw targets `[N]`, predictions `[systems, N]` and speakers `[N]`."""
        counts, classes = self.counts(random, speakers), len(self.recalls)
        recalls = np.array(self.recalls)
        targets = np.repeat(np.tile(np.arange(classes), speakers), counts.ravel())
        owners = np.repeat(np.repeat(np.arange(speakers), classes), counts.ravel())
        shape = self.spread if not self.apart else 1e6
        own = random.beta(shape * recalls, shape * (1 - recalls), (speakers, classes)).clip(1e-6, 1 - 1e-6)
        shift = self.common * random.standard_normal((speakers, 1))
        shift = shift + (self.apart * random.standard_normal((speakers, classes)) if self.apart else 0.0)
        logits = (
            np.log(own / (1 - own)) + shift + 0.5 * random.standard_normal((systems, speakers, classes)) * (systems > 1)
        )
        right = random.random((systems, len(targets))) < (1 / (1 + np.exp(-logits)))[:, owners, targets]
        wrong = (targets + random.integers(1, classes, right.shape)) % classes
        return targets, np.where(right, targets, wrong), owners


def even(size: int, classes: int = 4) -> Callable[[np.random.Generator, int], IntArray]:
    return lambda _, speakers: np.full((speakers, classes), size)


def unequal(random: np.random.Generator, speakers: int) -> IntArray:
    return np.maximum(1, (12 * random.lognormal(-0.4, 0.9, (speakers, 1)) * np.ones((1, 4))).astype(int))


def one_class(_: np.random.Generator, speakers: int) -> IntArray:
    return 30 * (np.arange(speakers)[:, None] % 4 == np.arange(4)).astype(int)


def rare(owners: int) -> Callable[[np.random.Generator, int], IntArray]:
    def counts(_: np.random.Generator, speakers: int) -> IntArray:
        found = np.full((speakers, 4), 12)
        found[owners:, 3] = 0
        return found

    return counts


EASY, HARD, HIGH = (0.7,) * 4, (0.9, 0.55, 0.65, 0.7), (0.96, 0.92, 0.95, 0.93)
CASES = (
    Case(name="even, equally hard, UAR .70", recalls=EASY, counts=even(12)),
    Case(name="even, unequally hard", recalls=HARD, counts=even(12)),
    Case(name="even, speakers easy or hard", recalls=EASY, counts=even(12), spread=1e6, common=0.5),
    Case(name="even, UAR .94", recalls=HIGH, counts=even(12)),
    Case(name="unequal speakers", recalls=HARD, counts=unequal),
    Case(name="one class a speaker", recalls=HARD, counts=one_class),
    Case(name="a class in one speaker", recalls=EASY, counts=rare(1)),
    Case(name="a class in two speakers", recalls=EASY, counts=rare(2)),
    Case(name="unequally hard, in logits", recalls=HARD, counts=even(12), apart=0.8),
    Case(name="one class a speaker, in logits", recalls=HARD, counts=one_class, apart=0.8),
    Case(name="the hardest class in one, in logits", recalls=HARD[::2] + HARD[3:0:-2], counts=rare(1), apart=0.8),
    Case(name="the hardest class in two, in logits", recalls=HARD[::2] + HARD[3:0:-2], counts=rare(2), apart=0.8),
)


def cover(case: Case, speakers: int, draws: int, seed: int = 0) -> dict[str, float]:
    """Return the share of draws in which the interval held the truth, by score."""
    random = np.random.default_rng(seed)
    truth = _truth(case, random, speakers)
    held = dict.fromkeys(("ua", "wa", "f1", "difference"), 0)
    for _ in range(draws):
        targets, found, owners = case.draw(random, speakers)
        intervals = score_intervals(targets, found, owners.astype(str), 4)
        for name, value in truth.items():
            low, high = getattr(intervals, name)
            held[name] += low <= value <= high
        targets, found, owners = case.draw(random, speakers, systems=2)
        one, other = (contributions(targets, row, 4, "ua") for row in found)
        less = one.less(other)
        recalls = [np.bincount(part.classes, part.values) / np.bincount(part.classes) for part in (one, other)]
        value = float(recalls[0].mean() - recalls[1].mean())
        low, high = plain_interval(value, less.variance(owners))
        held["difference"] += low <= 0 <= high
    return {name: count / draws for name, count in held.items()}


def _truth(case: Case, random: np.random.Generator, speakers: int) -> dict[str, float]:
    """Compute the scores of the recalls over all speakers, in the shares that classes have among so many."""
    bent = np.log(np.array(case.recalls) / (1 - np.array(case.recalls)))[:, None]
    bent = bent + np.hypot(case.common, case.apart) * np.random.default_rng(1).standard_normal(200_000)
    sizes = np.mean([case.counts(random, speakers).sum(0) for _ in range(400)], axis=0)
    classes, recalls = len(case.recalls), (1 / (1 + np.exp(-bent))).mean(1)
    matrix = np.where(np.eye(classes) > 0, recalls[:, None], (1 - recalls[:, None]) / (classes - 1)) * sizes[:, None]
    return {"ua": float(mean_recall(matrix)), "wa": float(accuracy(matrix)), "f1": float(mean_f1(matrix))}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=2000)
    draws = parser.parse_args().draws
    print("| case | speakers | UAR | accuracy | F1 | difference of UAR |\n|---|---|---|---|---|---|")
    for case in CASES:
        for speakers in SPEAKERS:
            found = cover(case, speakers, draws)
            cells = " | ".join(f"{100 * found[name]:.1f}" for name in ("ua", "wa", "f1", "difference"))
            print(f"| {case.name} | {speakers} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
