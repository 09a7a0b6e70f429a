"""The numbers of docs/emodb.md: rows of tables as `.ci/findings` kept them, and the tables made of them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from embedkit.reporting.table import build_table

ROOT = Path(__file__).resolve().parent.parent
PAGE, README, ROWS = ROOT / "docs" / "emodb.md", ROOT / "README.md", ROOT / "docs" / "emodb.json"

TABLES = {"uar": ("speaker", "ua"), "default": ("default", "ua"), "nll": ("speaker", "nll"), "words": ("words", "ua")}
"""Which runs each table of the page shows, and by what."""


@cache
def read_rows() -> dict[str, list[dict[str, Any]]]:
    """Return the rows by the command that made them."""
    rows: dict[str, list[dict[str, Any]]] = json.loads(ROWS.read_text(encoding="utf-8"))
    return rows


def render(name: str) -> str:
    """Draw one of the page's tables: its grids alone."""
    runs, metric = TABLES[name]
    blocks = build_table(read_rows()[runs], metric=metric).to_markdown().split("\n\n")
    return "\n\n".join(block for block in blocks if block.startswith("|"))


def marks(name: str) -> tuple[str, str]:
    """Return what stands before and after a table."""
    return f"<!-- {name}, by .ci/findings -->\n", "\n<!-- end -->"


def take(page: Path, name: str) -> str:
    """Return a table as it stands on a page."""
    before, after = marks(name)
    return page.read_text(encoding="utf-8").partition(before)[2].partition(after)[0].strip()


def put(page: Path, name: str, table: str) -> None:
    """Put a table in its place on a page."""
    before, after = marks(name)
    head, start, rest = page.read_text(encoding="utf-8").partition(before)
    _, end, tail = rest.partition(after)
    assert start, f"{page.name} has no place for the table {name!r}"
    assert end, f"the table {name!r} of {page.name} has no end"
    page.write_text(f"{head}{start}\n{table}\n{end}{tail}", encoding="utf-8")
