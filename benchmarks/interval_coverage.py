"""How often intervals hold the true score of simulated speakers: python benchmarks/interval_coverage.py [--draws N]"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from embedkit.evaluation.intervals import Score, answer_values, logit_interval, plain_interval
from embedkit.evaluation.metrics import accuracy, mean_f1, mean_recall
from embedkit.evaluation.speaker_model import Moments, Variance, model_variance

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
SPEAKERS = (5, 10, 24)
SCORES: dict[Score, Callable[[NDArray], FloatArray]] = {"ua": mean_recall, "wa": accuracy, "f1": mean_f1}


@dataclass(frozen=True, kw_only=True)
class Case:
    """Speakers and systems to draw: `counts` says how many utterances of each class each of so many speakers has."""

    name: str
    recalls: tuple[float, ...]
    counts: Callable[[np.random.Generator, int, int], IntArray]
    spread: float = 12.0
    """Of the beta distribution of speakers' recalls: one over 1 + this is the variance's share between speakers."""
    common: float = 0.0
    """Standard deviation, in logits, of what makes a speaker easy or hard in all classes."""
    apart: float = 0.0
    """The same of each class of a speaker, in place of a beta distribution: hard classes vary more then."""
    interaction: float = 0.5
    """The same of what each of two systems finds easy or hard in a class of a speaker."""

    def draw(self, random: np.random.Generator, draws: int, speakers: int) -> tuple[IntArray, IntArray]:
        """Count answers `[draws, speakers, true, answer]`, then those of two systems at once `[..., answer, other]`."""
        counts, recalls = self.counts(random, draws, speakers), np.array(self.recalls)
        spread = self.spread if not (self.apart or self.common) else 1e6
        own = random.beta(spread * recalls, spread * (1 - recalls), counts.shape).clip(1e-6, 1 - 1e-6)
        easy = self.common * random.standard_normal((*counts.shape[:2], 1))
        bent = logit(own) + easy + self.apart * random.standard_normal(counts.shape)
        alone = random.multinomial(counts, _answers(expit(bent)))
        one, other = _answers(expit(bent + self.interaction * random.standard_normal((2, *bent.shape))))
        joint = one[..., :, None] * other[..., None, :]
        both = random.multinomial(counts, joint.reshape(*counts.shape, -1)).reshape(joint.shape)
        return alone, both

    def truth(self, speakers: int) -> tuple[dict[Score, float], FloatArray]:
        """Compute the scores and recalls over all speakers, in the shares that classes have among so many."""
        random = np.random.default_rng(1)
        bent = logit(np.array(self.recalls))[:, None] + np.hypot(self.common, self.apart) * random.normal(size=200_000)
        recalls = expit(bent).mean(1)
        matrix = _answers(recalls) * self.counts(random, 400, speakers).sum(1).mean(0)[:, None]
        return {name: float(score(matrix)) for name, score in SCORES.items()}, recalls


def _answers(recalls: FloatArray) -> FloatArray:
    """Spread what is not right evenly over the other classes."""
    classes = recalls.shape[-1]
    right = np.eye(classes, dtype=bool)
    return np.where(right, recalls[..., None], (1 - recalls[..., None]) / (classes - 1))


def even(size: int, classes: int = 4) -> Callable[[np.random.Generator, int, int], IntArray]:
    return lambda _, draws, speakers: np.full((draws, speakers, classes), size)


def unequal(random: np.random.Generator, draws: int, speakers: int) -> IntArray:
    sizes = (12 * random.lognormal(-0.4, 0.9, (draws, speakers, 1))).astype(int)
    return np.maximum(1, sizes) * np.ones(4, dtype=int)


def one_class(_: np.random.Generator, draws: int, speakers: int) -> IntArray:
    own = 30 * (np.arange(speakers)[:, None] % 4 == np.arange(4)).astype(int)
    return np.broadcast_to(own, (draws, speakers, 4))


def rare(owners: int) -> Callable[[np.random.Generator, int, int], IntArray]:
    def counts(_: np.random.Generator, draws: int, speakers: int) -> IntArray:
        found = np.full((draws, speakers, 4), 12)
        found[:, owners:, 3] = 0
        return found

    return counts


EASY, HARD, HIGH = (0.7,) * 4, (0.9, 0.55, 0.65, 0.7), (0.96, 0.92, 0.95, 0.93)
LAST, FIRST = (0.9, 0.65, 0.7, 0.55), (0.55, 0.7, 0.65, 0.9)
CASES = (
    Case(name="even, equally hard, UAR .70", recalls=EASY, counts=even(12)),
    Case(name="even, unequally hard", recalls=HARD, counts=even(12)),
    Case(name="even, speakers easy or hard", recalls=EASY, counts=even(12), common=0.5),
    Case(name="even, UAR .94", recalls=HIGH, counts=even(12)),
    Case(name="unequal speakers", recalls=HARD, counts=unequal),
    Case(name="one class a speaker", recalls=HARD, counts=one_class),
    Case(name="a class in one speaker", recalls=EASY, counts=rare(1)),
    Case(name="a class in two speakers", recalls=EASY, counts=rare(2)),
    Case(name="unequally hard, in logits", recalls=HARD, counts=even(12), apart=0.8),
    Case(name="unequal speakers, in logits", recalls=HARD, counts=unequal, apart=0.8),
    Case(name="one class a speaker, in logits", recalls=HARD, counts=one_class, apart=0.8),
    Case(name="the hardest class in one", recalls=LAST, counts=rare(1)),
    Case(name="the hardest class in one, in logits", recalls=LAST, counts=rare(1), apart=0.8),
    Case(name="the hardest class in two, in logits", recalls=LAST, counts=rare(2), apart=0.8),
    Case(name="the easiest class in one", recalls=FIRST, counts=rare(1)),
    Case(name="even, share between speakers .17", recalls=HARD, counts=even(12), spread=5.0, interaction=1.0),
    Case(name="one class a speaker, share .17", recalls=HARD, counts=one_class, spread=5.0, interaction=1.0),
    Case(name="a class in one speaker, share .17", recalls=EASY, counts=rare(1), spread=5.0, interaction=1.0),
)


def cover(case: Case, speakers: int, draws: int, seed: int = 0) -> dict[str, float]:
    """Return the share of draws in which the interval held the truth, by score; "less ua" is the difference of two."""
    alone, both = case.draw(np.random.default_rng(seed), draws, speakers)
    truth, recalls = case.truth(speakers)
    held: dict[str, float] = {}
    utterances = alone.sum((1, 2, 3))
    for name, score in SCORES.items():
        matrix = alone.sum(1)
        intervals = map(logit_interval, score(matrix), variances(alone, *answer_values(matrix, name)), utterances)
        held[name] = float(np.mean([low <= truth[name] <= high for low, high in intervals]))
        pair = [both.sum((1, 4)), both.sum((1, 3))]
        difference = score(pair[0]) - score(pair[1])
        found = variances(both.reshape(*alone.shape[:3], -1), *less(*(answer_values(one, name) for one in pair)))
        held[f"less {name}"] = float(
            np.mean([low <= 0 <= high for low, high in map(plain_interval, difference, found)])
        )
    hits = []
    for place, recall in enumerate(recalls):
        matrix, weights = alone.sum(1), np.broadcast_to(np.eye(len(recalls))[place], (draws, len(recalls)))
        sizes = matrix.sum(-1)[:, place]
        found = variances(alone, answer_values(matrix, "ua")[0], weights)
        intervals = map(logit_interval, matrix[:, place, place] / sizes, found, sizes)
        hits.append(np.mean([low <= recall <= high for low, high in intervals]))
    return held | {"recall": float(np.mean(hits))}


def variances(answers: IntArray, values: FloatArray, weights: FloatArray) -> list[Variance]:
    """Estimate the variance of each draw from how often answers `[draws, speakers, true, answer]` are given."""
    given = values[:, None]
    parts = answers.sum(-1), (answers * given).sum(-1), (answers * given**2).sum(-1)
    found = model_variance(Moments(*(part.astype(np.float64) for part in parts)), weights)
    return [Variance(*pair) for pair in zip(*(part.tolist() for part in found), strict=True)]


def less(one: tuple[FloatArray, FloatArray], other: tuple[FloatArray, FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Compute the values of pairs of answers to the difference, as `Contributions.less` does."""
    weights = (one[1] + other[1]) / 2
    first, second = (values * (own / weights)[..., None] for values, own in (one, other))
    return (first[..., :, None] - second[..., None, :]).reshape(*weights.shape, -1), weights


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=2000)
    draws = parser.parse_args().draws
    columns = {"ua": "UAR", "wa": "accuracy", "f1": "F1", "recall": "recalls"}
    columns |= {f"less {name}": f"difference of {columns[name]}" for name in SCORES}
    print(f"| case | {' | '.join(columns.values())} |\n|---|{'---|' * len(columns)}")
    for case in CASES:
        found = [cover(case, speakers, draws) for speakers in SPEAKERS]
        cells = [", ".join(f"{100 * one[name]:.1f}" for one in found) for name in columns]
        print(f"| {case.name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
