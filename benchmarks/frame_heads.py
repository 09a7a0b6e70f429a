"""What heads that read frames lose by choosing on one development group: python benchmarks/frame_heads.py [stores ...]

Every rate is searched to the end on the development group of each fold, and trained again on the whole training set,
where it is scored on the test fold after every epoch. What each way of choosing would score is read off these: rate
and epoch from the search (what `fit` does), the rate alone by the mean of the last third of the epochs, with the last
epoch, and both after halving. Without stores, the two synthetic ones of learning_rates.py.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from common import describe_machine
from learning_rates import halve, write_synthetic
from numpy.typing import NDArray

import embedkit
from embedkit.evaluation.metrics import unweighted_average_recall
from embedkit.training import cross_validation
from embedkit.training.selection import Choice, choose
from embedkit.training.stacks.stack import Group

RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
FEWER = slice(0, 4)
"""Rates that are searched without halving."""


@dataclass(frozen=True)
class Trial:
    """Scores on the development group, and predictions of the test set after a refit: `[rates, epochs, ...]`."""

    seed: int
    dev: NDArray[np.float64]
    test: NDArray[np.int64]
    truth: NDArray[np.int64]


@contextmanager
def listening() -> Iterator[list[Trial]]:
    """Train every rate again in place of the chosen one, and keep what it predicts after every epoch."""
    heard: list[Trial] = []
    scores: list[NDArray[np.float64]] = []
    refit = cross_validation._refit

    def hear(own: NDArray[np.float64], **options: Any) -> Choice:
        scores.append(own)
        return choose(own, **options)

    def refit_all(
        plan: Any, config: Any, losses: Any, grid: Any, choices: Mapping[Any, Choice], seeds: Sequence[int], run: Any
    ) -> dict[Any, Any]:
        ((loss,), head) = losses, grid[0].head
        truth = np.asarray(run.args[1])
        places = [(fold, seed) for fold in plan.folds for seed in seeds]
        groups = [
            Group(
                train=fold.train,
                validate=fold.test,
                seed=seed,
                members=tuple(one.member(loss, seed, config.epochs) for one in grid),
            )
            for fold, seed in places
        ]
        finals = {}
        for (fold, seed), own, result in zip(places, scores, run(groups, replace(config, head=head)), strict=True):
            heard.append(Trial(seed, own, np.asarray(result.predictions), truth[fold.test]))
            key = (loss.spec, fold.name, seed)
            finals[key] = cross_validation._members(result)[choices[key].candidate]
        return finals

    cross_validation.choose, cross_validation._refit = hear, refit_all  # type: ignore[attr-defined,assignment]
    try:
        yield heard
    finally:
        cross_validation.choose, cross_validation._refit = choose, refit  # type: ignore[attr-defined]


def ways(dev: NDArray[np.float64]) -> dict[str, tuple[int, int]]:
    """Return the rate and the epoch that each way of choosing takes, as indices."""
    epochs = dev.shape[1]
    last, few = dev[:, -max(1, epochs // 3) :].mean(1), choose(dev[FEWER])
    whole, half = choose(dev), halve(dev)
    return {
        "rate and epoch": (whole.candidate, whole.epochs - 1),
        "four rates": (few.candidate, few.epochs - 1),
        "halved": (half.candidate, half.epochs - 1),
        "rate alone": (int(last.argmax()), epochs - 1),
        "four rates, rate alone": (int(last[FEWER].argmax()), epochs - 1),
        "rate by its best epoch, last epoch": (whole.candidate, epochs - 1),
    }


def describe(trials: Sequence[Trial]) -> str:
    """Write the UAR of each way, mean over seeds of pooled folds, and what halving does to choices and their scores."""
    told = []
    for name in ways(trials[0].dev):
        scores = []
        for seed in {trial.seed for trial in trials}:
            own = [(trial.truth, trial.test[ways(trial.dev)[name]]) for trial in trials if trial.seed == seed]
            truth, found = (np.concatenate(parts) for parts in zip(*own, strict=True))
            scores.append(float(unweighted_average_recall(truth, found, int(truth.max()) + 1)))
        told.append(f"{100 * np.mean(scores):.1f}")
    pairs = [(choose(trial.dev), halve(trial.dev)) for trial in trials]
    same = np.mean([whole.candidate == half.candidate for whole, half in pairs])
    lost = np.mean([whole.score - half.score for whole, half in pairs])
    return " | ".join([*told, f"{100 * same:.0f} % of {len(pairs)}", f"{100 * lost:.2f}"])


def main() -> None:
    """Print a line for each store, head and loss."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", nargs="*")
    parser.add_argument("--head", nargs="+", default=["lstm", "attentive"])
    parser.add_argument("--loss", nargs="+", default=["ce"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=30)
    told = parser.parse_args()
    print(describe_machine())
    columns = [*ways(np.zeros((len(RATES), told.epochs))), "halving: the same", "lost"]
    print(f"| store, head, loss | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}", flush=True)
    with tempfile.TemporaryDirectory(prefix="embedkit-frames-") as folder:
        for path in told.stores or [str(write_synthetic(Path(folder), strength)) for strength in (1.0, 0.35)]:
            for head in told.head:
                for loss in told.loss:
                    with listening() as heard:
                        embedkit.fit(
                            path, [loss], head=[head], lr=RATES, seeds=told.seeds, epochs=told.epochs, runs=folder
                        )
                    print(f"| {Path(path).stem}, {head}, {loss} | {describe(heard)} |", flush=True)


if __name__ == "__main__":
    main()
