"""Tables of labels that come with corpora, as CSV."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from embedkit.errors import CorpusError
from embedkit.received import open_text


def read_labels(file: Path, required: Sequence[str]) -> list[dict[str, str]]:
    """Read a table of labels: one dictionary a row, values stripped; bytes that are not UTF-8 are replaced.

    Raises:
        CorpusError: the file cannot be read as CSV, or lacks a column or a field.
    """
    name = str(file)
    try:
        with open_text(file, encoding="utf-8-sig", errors="replace", newline="") as stream:
            reader = csv.DictReader(stream)
            missing = [column for column in required if column not in (reader.fieldnames or ())]
            if missing:
                found = ", ".join(reader.fieldnames or ()) or "none"
                raise CorpusError(f"The table {name!r} has no column {', '.join(missing)}; columns found: {found}.")
            rows = list(reader)
    except OSError as error:
        raise CorpusError(f"Cannot read the table {name!r} ({error.strerror}).") from error
    except csv.Error as error:
        raise CorpusError(f"The table {name!r} cannot be read as CSV ({error}).") from error
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise CorpusError(f"Row {number} of the table {name!r} has not as many fields as the header (row 1).")
    return [{key: value.strip() for key, value in row.items()} for row in rows]


def number_or_nan(text: str) -> float:
    """Read a number; whatever is none, is NaN."""
    try:
        return float(text)
    except ValueError:
        return float("nan")
