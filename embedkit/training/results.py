"""What a finished cell leaves behind: its row of the table, its predictions, its heads."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from embedkit.evaluation.calibration import expected_calibration_error, negative_log_likelihood
from embedkit.evaluation.intervals import score_intervals
from embedkit.evaluation.metrics import recall_scores, score_predictions
from embedkit.training.cached import FoldResult
from embedkit.training.search import Candidate
from embedkit.training.task import TaskData


def pool_probabilities(results: Sequence[FoldResult]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Join the test sides of all folds: utterance indices `[N]` in order, probabilities `[seeds, N, classes]`."""
    index = np.concatenate([result.fold.test for result in results])
    shares = np.concatenate([result.probabilities for result in results], axis=1)
    order = np.argsort(index, kind="stable")
    return index[order], shares[:, order]


def summarise(data: TaskData, results: Sequence[FoldResult]) -> dict[str, Any]:
    """Compute WA, UA, F1, NLL and ECE of the pooled test predictions: mean and standard deviation over seeds.

    WA, UA and F1 have intervals over speakers (jackknife); None where there are fewer than two or unknown ones. The
    mean UA over folds is kept beside.
    """
    index, shares = pool_probabilities(results)
    predicted = shares.argmax(-1)
    targets, speakers = data.targets[index], data.speakers[index]
    classes = len(data.classes)
    scores = [score_predictions(targets, row, classes) for row in predicted]
    intervals = score_intervals(targets, predicted, speakers, classes) if np.all(speakers != "") else None
    row: dict[str, Any] = {
        "classes": list(data.classes),
        "seeds": len(predicted),
        "utterances": len(index),
        "speakers": len(np.unique(speakers[speakers != ""])),
    }
    for name in ("wa", "ua", "f1"):
        row |= _over_seeds(name, np.array([getattr(score, name) for score in scores]))
        low, high = getattr(intervals, name) if intervals else (math.nan, math.nan)
        row[f"{name}_ci"] = None if math.isnan(low) else [low, high]
    row |= _over_seeds("nll", negative_log_likelihood(targets, shares))
    row |= _over_seeds("ece", expected_calibration_error(targets, shares))
    row["ua_by_fold"] = float(np.mean([_fold_recall(data, result) for result in results]))
    row["ua_dev"] = float(np.mean([choice.recall for result in results for choice in result.choices]))
    return row


def _over_seeds(name: str, values: NDArray[np.float64]) -> dict[str, float]:
    return {name: float(values.mean()), f"{name}_std": float(values.std(ddof=1)) if len(values) > 1 else 0.0}


def _fold_recall(data: TaskData, result: FoldResult) -> float:
    predicted = result.probabilities.argmax(-1)
    return float(recall_scores(data.targets[result.fold.test], predicted, len(data.classes)).mean())


def prediction_rows(
    data: TaskData, results: Sequence[FoldResult], seeds: Sequence[int]
) -> tuple[list[str], Iterator[list[Any]]]:
    """Return the header and the rows of the predictions CSV: one row per utterance and seed."""
    header = ["id", "speaker", "session", "label", "fold", "seed", "predicted", *(f"p_{name}" for name in data.classes)]

    def rows() -> Iterator[list[Any]]:
        for result in results:
            for place, seed in enumerate(seeds):
                for number, utterance in enumerate(result.fold.test):
                    shares = result.probabilities[place, number]
                    yield [
                        data.ids[utterance],
                        data.speakers[utterance],
                        data.sessions[utterance],
                        data.labels[utterance],
                        result.fold.name,
                        seed,
                        data.classes[int(shares.argmax())],
                        *(f"{share:.6g}" for share in shares),
                    ]

    return header, rows()


def head_tensors(results: Sequence[FoldResult], seeds: Sequence[int]) -> dict[str, Tensor]:
    """Name all heads and standardisers for one safetensors file: `<fold>/<seed>/<parameter>`, `<fold>/mean`."""
    tensors: dict[str, Tensor] = {}
    for number, result in enumerate(results):
        tensors[f"{number}/mean"] = result.standardiser.mean
        tensors[f"{number}/scale"] = result.standardiser.scale
        for seed, state in zip(seeds, result.states, strict=True):
            tensors.update({f"{number}/{seed}/{name}": value for name, value in state.items()})
    return tensors


def describe_choices(
    results: Sequence[FoldResult], grid: Sequence[Candidate], seeds: Sequence[int]
) -> list[Mapping[str, Any]]:
    """List what was chosen for every fold and seed; the head as it was, with nothing left open."""
    return [
        {
            "fold": result.fold.name,
            "seed": seed,
            "head": grid[choice.candidate].head,
            "learning_rate": grid[choice.candidate].learning_rate,
            "weight_decay": grid[choice.candidate].weight_decay,
            "epochs": choice.epochs,
            "ua_dev": round(choice.recall, 6),
        }
        for result in results
        for seed, choice in zip(seeds, result.choices, strict=True)
    ]
