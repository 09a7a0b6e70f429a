"""Read what a run predicted, utterance by utterance."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedkit.cells import read_cell
from embedkit.errors import RunError
from embedkit.evaluation.calibration import scale_temperature
from embedkit.received import open_text
from embedkit.store.reader import Store, open_store

if TYPE_CHECKING:
    from embedkit.training.data.source import Source
    from embedkit.training.runs import RunRecord


PREDICTED_BY = ("speaker", "session", "label")
"""Columns that stand with the predictions."""

CORPUS = "corpus"
"""What every run tells groups of corpora apart by, in whose stores there is no such column."""


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """The test sets of all folds together, in order of appearance.

    Attributes:
        ids, speakers, sessions, labels: Of every utterance, `[utterances]`.
        classes: Names of the classes; empty where dimensions are predicted.
        truth: Class index of every utterance, `[utterances]`; empty for dimensions.
        predicted: Class index under every seed, `[seeds, utterances]`; empty for dimensions.
        probability: Of the true class under every seed, `[seeds, utterances]`; empty for dimensions.
        confidence: The highest probability of a class, of the same shape.
        calibrated: The same after the temperature of its head; as it is where the run has none.
    """

    ids: tuple[str, ...]
    speakers: tuple[str, ...]
    sessions: tuple[str, ...]
    labels: tuple[str, ...]
    classes: tuple[str, ...]
    truth: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probability: NDArray[np.float64]
    confidence: NDArray[np.float64]
    calibrated: NDArray[np.float64]

    @property
    def hits(self) -> NDArray[np.bool_]:
        """Whether the prediction is right, `[seeds, utterances]`."""
        return np.asarray(self.predicted == self.truth)


def read_rows(path: Path) -> Iterator[list[str]]:
    """Yield the header and the rows of a run's predictions, texts as they were before they were written.

    Raises:
        OSError, ValueError, csv.Error: the file is missing or damaged.
    """
    with open_text(path, newline="", encoding="utf-8") as file:
        for cells in filter(None, csv.reader(file)):
            yield list(map(read_cell, cells))


def read_predictions(record: RunRecord) -> Predictions:
    """Read a run's predictions.

    Raises:
        RunError: the file is missing or damaged.
    """
    try:
        by_seed: dict[str, dict[str, Mapping[str, str]]] = {}
        rows = read_rows(record.predictions_path)
        header = next(rows, [])
        for cells in rows:
            row = dict(zip(header, cells, strict=True))
            by_seed.setdefault(row["seed"], {})[row["id"]] = row
        choices = record.config.get("choices", ())
        temperatures = {(one["fold"], str(one["seed"])): one.get("temperature", 1.0) for one in choices}
        return _arrange(by_seed, [str(name) for name in record.config.get("classes", ())], temperatures)
    except (OSError, ValueError, LookupError, TypeError, csv.Error) as error:
        raise RunError(
            f"The predictions of {record.folder} cannot be read ({error!r}); run embedkit fit again with --overwrite."
        ) from error


def open_tested(record: RunRecord) -> Store:
    """Open the store that a run was tested on.

    Raises:
        RunError: it is not the one any more.
        StoreError: it is gone or damaged.
    """
    return _open(record.config.get("test_store") or record.config["store"])


def _open(told: Mapping[str, str]) -> Store:
    store = open_store(told["path"])
    if store.digest != told["digest"]:
        raise RunError(f"The store {told['path']} is not the one that was fitted on: it was extracted again.")
    return store


def open_source(record: RunRecord) -> Source:
    """Open the store that a run was tested on, or the stores of all its corpora, indexed as the run does.

    Raises:
        RunError: one is not what it was any more.
        FitError, StoreError: one is gone or damaged.
    """
    from embedkit.training.data.pooled import PooledSource
    from embedkit.training.data.store_source import StoreSource

    told = record.config.get("test_store") or record.config["store"]
    parts = [StoreSource(_open(store)) for store in told.get("stores", [told])]
    return PooledSource(parts) if "stores" in told else parts[0]


def tested_corpora(record: RunRecord, found: Predictions) -> NDArray[np.str_]:
    """Return the corpus of each tested utterance, `[utterances]`."""
    row = record.metrics
    if row.get("test_corpus") or not row.get("pooled"):
        return np.full(len(found.ids), str(row.get("test_corpus") or row["corpus"]))
    # Of two names of which one begins the other the longer one is meant.
    names = sorted(map(str, row["pooled"]), key=len, reverse=True)
    return np.array([next((name for name in names if one.startswith(f"{name}/")), "") for one in found.ids])


def _arrange(
    seeds: Mapping[str, Mapping[str, Mapping[str, str]]],
    classes: Sequence[str],
    temperatures: Mapping[tuple[str, str], float],
) -> Predictions:
    by_seed = list(seeds.values())
    first = list(by_seed[0].values())
    truth, predicted = np.empty(0, np.int64), np.empty((0, 0), np.int64)
    probability = confidence = calibrated = np.empty((0, 0))
    if "predicted" in first[0]:
        place = {name: number for number, name in enumerate(classes)}
        truth = np.array([place[row["label"]] for row in first])
        predicted = np.array([[place[own[row["id"]]["predicted"]] for row in first] for own in by_seed])
        given = np.array([[[own[row["id"]][f"p_{name}"] for name in classes] for row in first] for own in by_seed])
        shares = given.astype(np.float64)
        probability, confidence = shares[:, np.arange(len(truth)), truth], shares.max(-1)
        hot = [[temperatures.get((own[row["id"]]["fold"], seed), 1.0) for row in first] for seed, own in seeds.items()]
        calibrated = scale_temperature(shares, hot).max(-1)
    columns = {f"{name}s": tuple(row[name] for row in first) for name in ("id", "speaker", "session", "label")}
    return Predictions(
        **columns,
        classes=tuple(classes),
        truth=truth,
        predicted=predicted,
        probability=probability,
        confidence=confidence,
        calibrated=calibrated,
    )
