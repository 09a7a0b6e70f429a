"""The numbers of docs/emodb.md: rows of tables as `.ci/findings` kept them, and the tables made of them."""

from __future__ import annotations

import json
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from embedkit.reporting.table import build_table

ROOT = Path(__file__).resolve().parent.parent
PAGE, README, ROWS = ROOT / "docs" / "emodb.md", ROOT / "README.md", ROOT / "docs" / "emodb.json"
TUTORIAL = ROOT / "docs" / "tutorial.md"

TABLES = {"uar": ("speaker", "ua"), "default": ("default", "ua"), "nll": ("speaker", "nll"), "words": ("words", "ua")}
"""Which runs each table of the page shows, and by what."""


ENCODERS = {"mfcc": "MFCC", "whisper-base": "Whisper-base"}
LOSSES = {"ce": "cross-entropy", "focal": "focal loss", "ccc": "CCC loss"}
"""Rows and columns of the README's table, and what they are called there."""
FAMILIES = {"encoders": {True}, "losses": {False}}
"""What its sentence says of the tests: which of them find a difference."""


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


def find_shown() -> dict[tuple[str, str], dict[str, Any]]:
    """Return the rows of the README's table by encoder and loss."""
    found = {(row["encoder"], row["loss"]): row for row in read_rows()["speaker"] if row["head"] == "linear"}
    return {key: found[key] for key in product(ENCODERS, LOSSES)}


def render_summary() -> str:
    """Draw the README's table: scores with intervals, and in words what they are and what differs."""
    rows = find_shown()
    lines = [["UAR in % (95 % interval)", *LOSSES.values()], ["---"] * (1 + len(LOSSES))]
    lines += [[told, *(_write_score(rows[name, loss]) for loss in LOSSES)] for name, told in ENCODERS.items()]
    tests = [test for row in rows.values() for test in row["tests"]]
    shown = [test for test in tests if (test["against"]["encoder"], test["against"]["loss"]) in rows]
    differs = {family: {test["differs"] for test in shown if test["family"] == family} for family in FAMILIES}
    assert differs == FAMILIES, "the sentence below is no longer what the tests say: rewrite it"
    count = len(rows["mfcc", "ce"]["classes"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + (
        f"\n\nUAR, unweighted average recall, is the mean of the recalls of the {count} emotions; guessing reaches "
        f"{100 / count:.1f} %. Each\nspeaker is tested by linear classifiers trained on the others; CCC is the "
        "concordance correlation between the probability\nof each emotion and its presence. Whisper-base is "
        "significantly better than MFCC under every loss; no loss differs\nsignificantly from cross-entropy."
    )


def _write_score(row: dict[str, Any]) -> str:
    low, high = row["ua_ci"]
    return f"{100 * row['ua']:.1f} ({100 * low:.1f} to {100 * high:.1f})"


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
