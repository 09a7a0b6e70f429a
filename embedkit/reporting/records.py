"""Write runs as CSV or JSON: one row or object for each run, everything in it."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from embedkit.cells import write_cell
from embedkit.errors import RunError
from embedkit.registry import import_extra
from embedkit.reporting.labels import Row

KEYS = (
    "corpus",
    "encoder",
    "head",
    "loss",
    "mode",
    "folds",
    "classes",
    "seeds",
    "utterances",
    "speakers",
    "wa",
    "wa_std",
    "ua",
    "ua_std",
    "f1",
    "f1_std",
    "wa_ci",
    "ua_ci",
    "f1_ci",
    "head_options",
    "loss_options",
    "selection",
    "precision",
    "speaker_dependent",
    "demo",
    "nll",
    "nll_std",
    "ece",
    "ece_std",
    "layer",
    "transductive",
    "dimensions",
    "ccc",
    "ccc_std",
    "ccc_ci",
    "tests",
    "not_compared",
)
"""The keys that every record has, in this order; further ones of a run follow."""


def render_json(rows: Sequence[Row]) -> str:
    """Write a list of objects; what is unknown is null, metrics are fractions."""
    return json.dumps([_record(row, _all_keys(rows)) for row in rows], indent=2, ensure_ascii=False, allow_nan=False)


def render_csv(rows: Sequence[Row]) -> str:
    """Write a header and one line for each run; lists and settings are JSON within their cell."""
    keys = _all_keys(rows)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, keys, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        flat = {
            key: json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
            for key, value in _record(row, keys).items()
        }
        writer.writerow({key: write_cell(value) for key, value in flat.items()})
    return buffer.getvalue().rstrip("\n")


def as_frame(rows: Sequence[Row]) -> Any:
    """Make a data frame of pandas: a row for each run, lists and settings as objects.

    Raises:
        RunError: pandas is not installed (extra `tables`).
    """
    pandas = import_extra("pandas", extra="tables", needed_by="A data frame", error=RunError)
    keys = _all_keys(rows)
    return pandas.DataFrame([_record(row, keys) for row in rows], columns=keys)


def _all_keys(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys([*KEYS, *(key for row in rows for key in row)]))


def _record(row: Row, keys: Sequence[str]) -> dict[str, Any]:
    return {key: _clean(row.get(key)) for key in keys}


def _clean(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value
