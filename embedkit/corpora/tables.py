"""Tables of labels that come with corpora, as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from embedkit.corpora.delimited import decode_table, read_delimited
from embedkit.errors import CorpusError


def read_labels(file: Path, required: Sequence[str]) -> list[dict[str, str]]:
    """Read a table of labels: one dictionary a row, values stripped; bytes of no clear encoding are replaced.

    Raises:
        CorpusError: the file cannot be read as CSV, or lacks a column or a field.
    """

    def check(header: Sequence[str]) -> None:
        missing = [column for column in required if column not in header]
        if missing:
            found = ", ".join(header) or "none"
            told = ", ".join(name or "without a name" for name in missing)
            raise CorpusError(f"The table {str(file)!r} has no column {told}; columns found: {found}.")

    table = read_delimited(file, "table", lambda header: set(required) <= set(header), check, decode=_decode)
    return [dict(zip(table.header, (field.strip() for field in fields), strict=True)) for _, fields in table.rows]


def _decode(data: bytes) -> tuple[str, str]:
    try:
        return decode_table(data)
    except UnicodeError:
        # Published tables hold single stray bytes in their texts.
        return data.decode("utf-8-sig", errors="replace"), ""


def number_or_nan(text: str) -> float:
    """Read a number; whatever is none, is NaN."""
    try:
        return float(text)
    except ValueError:
        return float("nan")
