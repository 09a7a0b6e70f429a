"""What a finished experiment leaves behind: its row of the table, its predictions, its heads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from embedkit.evaluation.calibration import scale_temperature
from embedkit.training.cross_validation import FoldResult
from embedkit.training.data.folds import Fold, Names
from embedkit.training.data.targets import build_targets
from embedkit.training.data.task import TaskData
from embedkit.training.search import Candidate
from embedkit.training.selection import Choice
from embedkit.training.summary import (
    summarise_classes,
    summarise_predictions,
    summarise_raters,
    summarise_ratings,
    summarise_votes,
)


class Tested(Protocol):
    """A test set and what is said of it, `[seeds, utterances, outputs]`; a `FoldResult` is one."""

    @property
    def fold(self) -> Fold: ...

    @property
    def outputs(self) -> NDArray[np.float64]: ...


def pool_outputs(results: Sequence[FoldResult]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Join the test sets of all folds: utterance indices `[N]` in order, outputs `[seeds, N, outputs]`."""
    index = np.concatenate([result.fold.test for result in results])
    outputs = np.concatenate([result.outputs for result in results], axis=1)
    order = np.argsort(index, kind="stable")
    return index[order], outputs[:, order]


def calibrate(result: FoldResult) -> FoldResult:
    """Return a fold's result with the probabilities of every head after its temperature."""
    return replace(result, outputs=scale_temperature(result.outputs, np.array(result.temperatures)[:, None]))


def summarise(data: TaskData, results: Sequence[FoldResult]) -> dict[str, Any]:
    """Compute the scores of the pooled test predictions: mean and standard deviation over seeds, with intervals.

    The mean of the score that all was chosen by (UA or CCC) over folds, and over what was chosen, is kept beside.
    """
    index, outputs = pool_outputs(results)
    targets, speakers = data.targets[index], data.speakers[index]
    row: dict[str, Any] = {
        "classes": list(data.classes),
        "seeds": len(outputs),
        "utterances": len(index),
        "speakers": len(np.unique(speakers[speakers != ""])),
    }
    if data.dimensions:
        row |= summarise_ratings(targets, outputs, speakers, data.dimensions)
        row |= summarise_raters(data.annotators and data.annotators.take(index), targets, data.dimensions)
    else:
        calibrated = pool_outputs([calibrate(result) for result in results])[1]
        row |= summarise_classes(targets, outputs, calibrated, speakers)
        row |= summarise_votes(data.annotators and data.annotators.take(index), targets, outputs, calibrated, speakers)
    name = data.score_name.lower()
    row[f"{name}_by_fold"] = float(np.mean([_fold_score(data, result) for result in results]))
    row[f"{name}_dev"] = float(np.mean([choice.score for result in results for choice in result.choices]))
    return row


def summarise_corpora(data: TaskData, results: Sequence[FoldResult], corpora: Names) -> dict[str, dict[str, Any]]:
    """Compute the scores of each corpus by itself, by the corpus of each utterance `[utterances]`."""
    index, outputs = pool_outputs(results)
    found = {}
    for name in np.unique(corpora[index]):
        own = corpora[index] == name
        targets, speakers, told = data.targets[index[own]], data.speakers[index[own]], outputs[:, own]
        if data.dimensions:
            scores = summarise_ratings(targets, told, speakers, data.dimensions)
        else:
            scores = summarise_predictions(targets, told.argmax(-1), speakers, len(data.classes))
            del scores["recall_ci"]
        known = len(set(speakers.tolist()) - {""})
        found[str(name)] = {"utterances": len(targets), "speakers": known, **scores}
    return found


def _fold_score(data: TaskData, result: FoldResult) -> float:
    predicted = result.outputs if data.dimensions else result.outputs.argmax(-1)
    return float(build_targets(data.targets, data.outputs).score(result.fold.test, predicted).mean())


def prediction_rows(
    data: TaskData, results: Sequence[Tested], seeds: Sequence[int]
) -> tuple[list[str], Iterator[list[Any]]]:
    """Return the header and the rows of the predictions CSV: one row per utterance and seed."""
    if data.dimensions:
        told = [name for dimension in data.dimensions for name in (dimension, f"predicted_{dimension}")]
    else:
        told = ["predicted", *(f"p_{name}" for name in data.classes)]

    def rows() -> Iterator[list[Any]]:
        for result in results:
            for place, seed in enumerate(seeds):
                for number, utterance in enumerate(result.fold.test):
                    yield [
                        data.ids[utterance],
                        data.speakers[utterance],
                        data.sessions[utterance],
                        data.labels[utterance],
                        result.fold.name,
                        seed,
                        *_tell(data, utterance, result.outputs[place, number]),
                    ]

    return ["id", "speaker", "session", "label", "fold", "seed", *told], rows()


def _tell(data: TaskData, utterance: int, outputs: NDArray[np.float64]) -> list[str]:
    """Write the class predicted and all probabilities; or every rating, the true one first."""
    if not data.dimensions:
        return [data.classes[int(outputs.argmax())], *(f"{share:.6g}" for share in outputs)]
    pairs = zip(data.targets[utterance], outputs, strict=True)
    return [f"{value:.6g}" for pair in pairs for value in pair]


def head_tensors(results: Sequence[FoldResult], seeds: Sequence[int]) -> dict[str, Tensor]:
    """Name all heads and standardisers for one safetensors file: `<fold>/<seed>/<parameter>`, `<fold>/mean`."""
    tensors: dict[str, Tensor] = {}
    for number, result in enumerate(results):
        tensors[f"{number}/mean"] = result.standardiser.mean
        tensors[f"{number}/scale"] = result.standardiser.scale
        tensors |= result.scale.named(f"{number}/") if result.scale is not None else {}
        # What no seed changes is kept once, under the first of them.
        kept = result.states[:1] if all(state is result.states[0] for state in result.states) else result.states
        for seed, state in zip(seeds, kept, strict=False):
            tensors.update({f"{number}/{seed}/{name}": value for name, value in state.items()})
    return tensors


def describe_choices(
    results: Sequence[FoldResult], grid: Sequence[Candidate], seeds: Sequence[int], score_name: str
) -> list[Mapping[str, Any]]:
    """List what was chosen for every fold and seed, and by which score; the head with nothing left open.

    Heads of classes have a temperature, which predictions are averaged after.
    """
    return [
        {
            "fold": result.fold.name,
            "seed": seed,
            "head": grid[choice.candidate].head.spec,
            **({} if grid[choice.candidate].head.cls.fitted else _training(grid[choice.candidate], choice)),
            f"{score_name.lower()}_dev": round(choice.score, 6),
            **({"temperature": temperature} if score_name == "UA" else {}),
        }
        for result in results
        for seed, choice, temperature in zip(seeds, result.choices, result.temperatures, strict=True)
    ]


def _training(candidate: Candidate, choice: Choice) -> dict[str, Any]:
    rate, decay = candidate.learning_rate, candidate.weight_decay
    return {"learning_rate": rate, "weight_decay": decay, "epochs": choice.epochs}


def learning_curves(results: Sequence[FoldResult], seeds: Sequence[int], score_name: str) -> dict[str, Any]:
    """Tell how what was chosen learned in its search: training loss and validation score, `[seeds][epochs]`.

    Both are means over the folds, and empty where folds keep none; a loss or score that is no number is null.
    """
    losses, scores = (
        np.mean([getattr(result, name) for result in results], axis=0) for name in ("losses", "dev_scores")
    )
    return {
        "seeds": list(seeds),
        "score": score_name,
        "loss": _numbers(losses),
        "dev": _numbers(scores),
    }


def _numbers(values: NDArray[np.float64]) -> list[list[float | None]]:
    return [[round(float(value), 5) if np.isfinite(value) else None for value in row] for row in values]
