"""Read what a run predicted, utterance by utterance."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Mapping, Sequence
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


@dataclass(frozen=True)
class TextColumn:
    """A column of texts, each of which is held once.

    Attributes:
        texts: Those that there are, sorted.
        codes: Which of them stands in each row, `[rows]`.
    """

    texts: list[str]
    codes: NDArray[np.int64]

    def take(self, rows: NDArray[np.int64]) -> tuple[str, ...]:
        """Return the texts of some rows `[n]`."""
        return tuple(self.texts[code] for code in self.codes[rows].tolist())


def read_columns(
    path: Path, texts: Sequence[str], numbers: Sequence[str] = ()
) -> tuple[list[TextColumn], NDArray[np.float64]]:
    """Read columns of a run's predictions without holding the file: texts as they were before they were written.

    Args:
        path: The CSV.
        texts, numbers: Names of the columns.

    Returns:
        The columns of texts, and the numbers `[rows, numbers]`.

    Raises:
        OSError, ValueError, LookupError, csv.Error: the file is missing or damaged, or lacks a column.
    """
    values, codes = array("d"), [array("q") for _ in texts]
    places: list[dict[str, int]] = [{} for _ in texts]
    with open_text(path, newline="", encoding="utf-8") as file:
        rows = filter(None, csv.reader(file))
        header = list(map(read_cell, next(rows, [])))
        chosen = [(header.index(name), known, own) for name, known, own in zip(texts, places, codes, strict=True)]
        others = [header.index(name) for name in numbers]
        for cells in rows:
            if len(cells) != len(header):
                raise ValueError(f"a row of {len(cells)} cells, expected {len(header)}")
            for place, known, own in chosen:
                own.append(known.setdefault(cells[place], len(known)))
            values.extend(float(cells[place]) for place in others)
    columns = [_sort_column(list(map(read_cell, known)), own) for known, own in zip(places, codes, strict=True)]
    return columns, np.frombuffer(values, dtype=np.float64).reshape(-1, len(numbers) or 1)


def _sort_column(texts: list[str], codes: array[int]) -> TextColumn:
    order = sorted(range(len(texts)), key=texts.__getitem__)
    ranks = np.empty(len(texts), dtype=np.int64)
    ranks[order] = np.arange(len(texts))
    return TextColumn([texts[place] for place in order], ranks[np.frombuffer(codes, dtype=np.int64)])


def read_predictions(record: RunRecord) -> Predictions:
    """Read a run's predictions.

    Raises:
        RunError: the file is missing or damaged.
    """
    classes = [str(name) for name in record.config.get("classes", ())]
    rated = bool(record.metrics.get("dimensions"))
    try:
        choices = record.config.get("choices", ())
        temperatures = {(one["fold"], str(one["seed"])): one.get("temperature", 1.0) for one in choices}
        names = ["seed", "fold", "id", *PREDICTED_BY, *([] if rated else ["predicted"])]
        shares = [] if rated else [f"p_{name}" for name in classes]
        columns, numbers = read_columns(record.predictions_path, names, shares)
        _require_whole(record, utterances=len(columns[2].texts), seeds=len(columns[0].texts))
        return _arrange(columns, numbers, classes, temperatures)
    except (OSError, ValueError, LookupError, TypeError, csv.Error) as error:
        raise RunError(
            f"The predictions of {record.folder} cannot be read ({error!r}); run embedkit fit again with --overwrite."
        ) from error


def _require_whole(record: RunRecord, **found: int) -> None:
    """Raise a ValueError where a file that was cut short has fewer utterances or seeds than the run tested."""
    for name, count in found.items():
        if count != (wanted := record.metrics[name]):
            raise ValueError(f"{count} {name}, expected {wanted}")


def find_tested(record: RunRecord) -> dict[str, tuple[Store, int]]:
    """Find the utterances of the store that a run was tested on, or of the stores of all its corpora.

    Returns:
        The store and the row of each, by its name in the run's predictions.

    Raises:
        RunError: a store is not the one any more.
        StoreError: one is gone or damaged.
    """
    stores, pooled = _open_tested(record)
    return {
        f"{store.corpus}/{name}" if pooled else name: (store, row)
        for store in stores
        for row, name in enumerate(store.ids.tolist())
    }


def _open_tested(record: RunRecord) -> tuple[list[Store], bool]:
    """Open the stores that a run was tested on, and tell whether they are those of pooled corpora."""
    told = record.config.get("test_store") or record.config["store"]
    return [_open(one) for one in told.get("stores", [told])], "stores" in told


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

    stores, pooled = _open_tested(record)
    parts = [StoreSource(store) for store in stores]
    return PooledSource(parts) if pooled else parts[0]


def tested_corpora(record: RunRecord, found: Predictions) -> NDArray[np.str_]:
    """Return the corpus of each tested utterance, `[utterances]`."""
    row = record.metrics
    if row.get("test_corpus") or not row.get("pooled"):
        return np.full(len(found.ids), str(row.get("test_corpus") or row["corpus"]))
    # Of two names of which one begins the other the longer one is meant.
    names = sorted(map(str, row["pooled"]), key=len, reverse=True)
    return np.array([next((name for name in names if one.startswith(f"{name}/")), "") for one in found.ids])


def _arrange(
    columns: Sequence[TextColumn],
    shares: NDArray[np.float64],
    classes: Sequence[str],
    temperatures: Mapping[tuple[str, str], float],
) -> Predictions:
    seeds, folds, ids, speakers, sessions, labels, *told = columns
    rows = _rows_by_seed(seeds.codes, ids.codes)
    first = rows[0]
    truth, predicted = np.empty(0, np.int64), np.empty((0, 0), np.int64)
    probability = confidence = calibrated = np.empty((0, 0))
    if told:
        place = {name: number for number, name in enumerate(classes)}
        truth = np.array([place[name] for name in labels.texts])[labels.codes[first]]
        predicted = np.array([place[name] for name in told[0].texts])[told[0].codes[rows]]
        probability, confidence = shares[rows, truth], shares.max(-1)[rows]
        hot = np.array([[temperatures.get((fold, seed), 1.0) for seed in seeds.texts] for fold in folds.texts])
        calibrated = np.array(
            [scale_temperature(shares[own], hot[folds.codes[own], seeds.codes[own]]).max(-1) for own in rows]
        )
    return Predictions(
        ids=ids.take(first),
        speakers=speakers.take(first),
        sessions=sessions.take(first),
        labels=labels.take(first),
        classes=tuple(classes),
        truth=truth,
        predicted=predicted,
        probability=probability,
        confidence=confidence,
        calibrated=calibrated,
    )


def _rows_by_seed(seeds: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each utterance stands under each seed, `[seeds, utterances]`, both in order of appearance."""
    appearing = seeds[np.sort(np.unique(seeds, return_index=True)[1])]
    places = np.full((len(appearing), ids.max() + 1), -1)
    for place, seed in zip(places, appearing, strict=True):
        own = np.flatnonzero(seeds == seed)
        place[ids[own]] = own
    rows = places[:, ids[np.sort(places[0][places[0] >= 0])]]
    if (rows < 0).any():
        raise LookupError("an utterance is missing under a seed")
    return rows
