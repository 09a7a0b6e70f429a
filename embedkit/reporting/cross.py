"""The cross-corpus matrix: trained on the corpus of a row, tested on that of a column."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from embedkit.reporting.grid import Cell, Grid, Line
from embedkit.reporting.labels import Row, label_parts, name_encoder
from embedkit.reporting.metrics import METRICS, SCORES, Spread, choose_spread, read_cell, task_of
from embedkit.reporting.protocol import describe_matrix, is_zero_shot

OTHERS = "all others"
"""What a run is trained on that tests each of several corpora by what was learned of the others."""

SEEN, OWN, LEAK = "s", "t", "l"
MARKS: Mapping[str, str] = {
    SEEN: "the test corpus was seen in training: other speakers of it (folds)",
    OWN: "TRANSDUCTIVE: the test corpus was standardised, or its speakers normalised, by its own test utterances",
    LEAK: "LEAK: what is tested was trained on",
}


@dataclass(frozen=True)
class Entry:
    """One number of a matrix: what was trained on and tested, the run's row, and its scores there."""

    trained: str
    tested: str
    row: Row
    scores: Mapping[str, Any]
    seen: bool

    @property
    def mark(self) -> str:
        """How the test corpus took part."""
        own = (SEEN, self.seen), (OWN, self.row.get("transductive")), (LEAK, self.row.get("leak"))
        return " ".join(sign for sign, holds in own if holds)


@dataclass(frozen=True)
class Matrix:
    """The runs of one encoder, head and loss that differ in the corpora."""

    title: str
    entries: Mapping[tuple[str, str], Entry]

    @property
    def rows(self) -> list[str]:
        """What was trained on: corpora, pooled ones after them, and last all others."""
        names = dict.fromkeys(one.trained for one in self.entries.values())
        pooled = {one.trained for one in self.entries.values() if one.row.get("pooled")}
        return sorted(names, key=lambda name: (name == OTHERS, name in pooled, name))

    @property
    def columns(self) -> list[str]:
        """What was tested, those first that were trained on as well."""
        return sorted(dict.fromkeys(one.tested for one in self.entries.values()))

    @property
    def legend(self) -> tuple[str, ...]:
        """What the marks mean that occur."""
        marks = {sign for one in self.entries.values() for sign in one.mark.split()}
        return tuple(f"{sign}: {words}." for sign, words in MARKS.items() if sign in marks)

    def cells(self, metric: str, spread: Spread) -> list[list[Cell | None]]:
        """Return the cells, row by row; None where there is no run."""
        shown = choose_spread([one.scores for one in self.entries.values()], [metric], spread)

        def read(one: Entry | None) -> Cell | None:
            if one is None:
                return None
            return read_cell({"seeds": one.row["seeds"], **one.scores}, metric, METRICS[metric], shown, one.mark)

        return [[read(self.entries.get((row, column))) for column in self.columns] for row in self.rows]


def build_matrices(rows: Sequence[Row]) -> list[Matrix]:
    """Arrange runs on clean recordings and all layers, of speakers that are not trained on; nothing without a pair."""
    known = [row for row in rows if not (is_zero_shot(row) or row.get("speaker_dependent") or row.get("train_share"))]
    known = [row for row in known if row.get("noise_snr") is None and row.get("layer") is None]
    groups: dict[str, list[tuple[Row, str]]] = defaultdict(list)
    for row, head, loss in zip(known, label_parts(known, "head"), label_parts(known, "loss"), strict=True):
        predicted = sorted(row.get("dimensions") or row["classes"])
        parts = [row.get(name) for name in ("seeds", "budget", "normalise", "mode", "precision", "store_fingerprint")]
        key = json.dumps([predicted, row["encoder"], head, loss, *parts], sort_keys=True, default=str)
        groups[key].append((row, f"{name_encoder(row)}, {head}, {loss}"))
    return [matrix for group in groups.values() for matrix in _arrange(group)]


def _arrange(group: Sequence[tuple[Row, str]]) -> Iterator[Matrix]:
    """Yield a matrix for each way of standardising; what is trained on one corpus alone stands in all of them."""
    entries = [(entry, title) for row, title in group for entry in _read(row)]
    pairs = [entry for entry, _ in entries if not entry.seen]
    for how in dict.fromkeys(str(one.row.get("standardise_by") or "") for one in pairs):
        told: dict[tuple[str, str], Entry] = {}
        for entry, _ in entries:
            if str(entry.row.get("standardise_by") or "") == how or entry.trained == entry.tested:
                told.setdefault((entry.trained, entry.tested), entry)
        yield Matrix(f"{entries[0][1]}{', standardised by corpus' if how else ''}", told)


def _read(row: Row) -> Iterator[Entry]:
    corpus, own = str(row["corpus"]), row.get("by_corpus") or {}
    if row.get("test_corpus"):
        yield Entry(corpus, str(row["test_corpus"]), row, row, seen=False)
    elif row.get("pooled"):
        others = row["folds"] == "corpus"
        for name, scores in own.items():
            yield Entry(OTHERS if others else corpus, name, row, scores, seen=not others)
    else:
        yield Entry(corpus, corpus, row, row, seen=True)


def lay_out_cross(rows: Sequence[Row], metric: str | None, spread: Spread) -> list[Grid]:
    """Lay out every matrix, in a score of classes or in CCC: a line for each corpus trained on."""
    grids = []
    for matrix in build_matrices(rows):
        first = next(iter(matrix.entries.values())).row
        scores = SCORES[task_of(first)]
        wanted = scores[:1] if metric is None else scores if metric == "all" else [metric]
        grids += [_lay_out(matrix, name, spread) for name in wanted if name in scores]
    return grids


def _lay_out(matrix: Matrix, metric: str, spread: Spread) -> Grid:
    entries = list(matrix.entries.values())
    cells = matrix.cells(metric, spread)
    unit = f"{METRICS[metric].label} {METRICS[metric].unit}".strip()
    lines = [
        Line(labels=(name, _count_speakers(entries, name)), cells=tuple(own))
        for name, own in zip(matrix.rows, cells, strict=True)
    ]
    return Grid(
        title=f"Cross-corpus {unit}, {matrix.title}: trained on rows, tested on columns",
        label_headers=("trained on", "speakers"),
        columns=tuple(matrix.columns),
        lines=tuple(lines),
        legend=matrix.legend,
        notes=tuple(describe_matrix([one.row for one in entries])),
    )


def _count_speakers(entries: Sequence[Entry], trained: str) -> str:
    """Say how many speakers were trained on: of a corpus as a whole where another one was tested."""
    own = sorted((one for one in entries if one.trained == trained), key=lambda one: one.seen)
    counts = sorted({count for one in own if one.seen == own[0].seen for count in one.row.get("train_speakers") or ()})
    return " to ".join(dict.fromkeys(map(str, (counts[0], counts[-1])))) if counts else ""
