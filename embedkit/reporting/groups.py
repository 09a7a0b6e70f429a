"""Scores of groups of utterances: what runs recognise of each gender, or of each value of any other column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.errors import EmbedkitError, RunError
from embedkit.registry import unknown_name
from embedkit.reporting.grid import Grid, Line
from embedkit.reporting.labels import Row, place_rows
from embedkit.reporting.metrics import METRICS, Spread, choose_spread, read_cell
from embedkit.reporting.predictions import (
    CORPUS,
    PREDICTED_BY,
    Predictions,
    open_source,
    read_predictions,
    tested_corpora,
)
from embedkit.reporting.protocol import describe_title
from embedkit.store.layout import MEASURED_COLUMNS
from embedkit.training.summary import summarise_predictions
from embedkit.wording import count_noun

if TYPE_CHECKING:
    from embedkit.training.runs import RunRecord

MOST_GROUPS = 50


def score_groups(record: RunRecord, column: str) -> list[dict[str, Any]]:
    """Compute accuracy, UAR and F1 of each value of a column, with intervals, from a run's predictions.

    Speaker, session and label stand with the predictions; other columns are read from the store that was tested on.
    Ratings have no groups.

    Raises:
        RunError: the predictions or the store cannot be read, or the column is none that tells groups apart.
    """
    if record.metrics.get("dimensions"):
        return []
    found = read_predictions(record)
    values = _read_column(record, found, column)
    names = sorted(set(values.tolist()))
    if len(names) > MOST_GROUPS:
        raise RunError(
            f"The column {column!r} has {len(names)} values; expected at most {MOST_GROUPS} to tell groups by: choose "
            "another --by."
        )
    return [{"column": column, "value": name} | _score(found, values == name) for name in names]


def _read_column(record: RunRecord, found: Predictions, column: str) -> np.ndarray[Any, np.dtype[np.str_]]:
    """Return the value of each utterance, as text."""
    if column in PREDICTED_BY:
        return np.array(getattr(found, f"{column}s"), dtype=np.str_)
    if column == CORPUS:
        return tested_corpora(record, found)
    try:
        store = open_source(record)
    except EmbedkitError as error:
        raise RunError(
            f"The column {column!r} is read from the store that {record.folder} was tested on, which is no more: "
            f"{str(error).rstrip('.')}; without it --by takes {', '.join((*PREDICTED_BY, CORPUS))}."
        ) from error
    if column not in store.columns or column == "id":
        known = [name for name in store.columns if name not in (*MEASURED_COLUMNS, "id")]
        raise RunError(unknown_name(f"column of {store.corpus}", column, {*known, *PREDICTED_BY, CORPUS}))
    own = dict(zip(store.column("id").tolist(), store.column(column).tolist(), strict=True))
    return np.array([str(own.get(name, "")) for name in found.ids], dtype=np.str_)


def _score(found: Predictions, chosen: np.ndarray[Any, np.dtype[np.bool_]]) -> dict[str, Any]:
    truth, predicted, speakers = found.truth[chosen], found.predicted[:, chosen], np.array(found.speakers)[chosen]
    scores = summarise_predictions(truth, predicted, speakers, len(found.classes))
    # Of a group no recall by class is shown.
    del scores["recall_ci"]
    return {"utterances": len(truth), "speakers": len(set(speakers.tolist()) - {""}), **scores}


def lay_out_groups(rows: Sequence[Row], metric: str, spread: Spread) -> Grid:
    """Lay out the groups of runs of one protocol: a line for each encoder, head and group, a column for each loss."""
    places = place_rows(rows)
    column = rows[0]["groups"][0]["column"]
    told: dict[str, Mapping[str, Any]] = {group["value"]: group for row in rows for group in row["groups"]}
    shown = choose_spread([group for row in rows for group in row["groups"]], [metric], spread)
    cells = {
        (place.encoder, place.head, group["value"], place.loss): read_cell(
            {"seeds": row["seeds"], **group}, metric, METRICS[metric], shown
        )
        for place, row in zip(places, rows, strict=True)
        for group in row["groups"]
    }
    losses = list(dict.fromkeys(place.loss for place in places))
    lines = [
        Line(
            labels=(f"{encoder}, {head}", value or "(none)"),
            cells=tuple(cells.get((encoder, head, value, loss)) for loss in losses),
        )
        for encoder, head in dict.fromkeys((place.encoder, place.head) for place in places)
        for value in sorted(told)
    ]
    counts = [
        f"{value or '(none)'}: {count_noun(one['utterances'], 'utterance')}, {count_noun(one['speakers'], 'speaker')}"
        for value, one in sorted(told.items())
    ]
    return Grid(
        title=f"{describe_title(rows[0], metric)}: by {column}",
        label_headers=("encoder, head", column),
        columns=tuple(losses),
        lines=tuple(lines),
        notes=(f"{'; '.join(counts)}. UAR is over the classes that a group has; groups were not tested.",),
    )
