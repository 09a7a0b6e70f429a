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
from embedkit.reporting.protocol import describe_folds, describe_marks, describe_matrix, is_zero_shot

OTHERS = "all others"
"""What a run is trained on that tests each of several corpora by what was learned of the others."""

SEEN, OWN, LEAK = "s", "t", "l"
MARKS: Mapping[str, str] = {
    SEEN: "the test corpus was seen in training: other speakers of it (folds), copies, or another part of it",
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

    @property
    def crossed(self) -> bool:
        """Whether another corpus, or another part of one, was tested than those trained on."""
        return bool(self.row.get("test_corpus")) or self.of_others

    @property
    def of_others(self) -> bool:
        """Whether the tested corpus alone was left out of training."""
        return _by_corpus(self.row)

    @property
    def leaks(self) -> bool:
        """Whether what is tested was trained on."""
        return bool(self.row.get("leak") and self.scores.get("leak", True))

    @property
    def name(self) -> str:
        """What was trained and tested, in words."""
        return f"{self.trained} ({describe_folds(self.row)}{describe_marks(self.row)})"

    @property
    def seen(self) -> bool:
        """Whether the test corpus was trained on: other speakers of it, or recordings that another corpus has."""
        parts = (f"{name} (" for name in self.row.get("pooled") or [self.row["corpus"]])
        known = self.scores.get("copied") or self.tested.startswith(tuple(parts))
        return bool(known or not self.scores.get("untrained", self.crossed))

    @property
    def transductive(self) -> bool:
        """Whether the test corpus, or its speakers, were standardised by what is tested."""
        alone = bool(self.row.get("normalise")) or self.scores.get("untrained", True)
        return bool(self.row.get("transductive") and alone)

    @property
    def mark(self) -> str:
        """How the test corpus took part."""
        own = (SEEN, self.seen), (OWN, self.transductive), (LEAK, self.leaks)
        return " ".join(sign for sign, holds in own if holds)


@dataclass(frozen=True)
class Matrix:
    """The runs of one encoder, head and loss that differ in the corpora, and those that found no cell."""

    title: str
    entries: Mapping[tuple[str, str], Entry]
    left_out: str

    @property
    def rows(self) -> list[str]:
        """What was trained on: corpora, pooled ones after them, and last all others."""
        kinds = {one.trained: (_by_corpus(one.row), bool(one.row.get("pooled"))) for one in self.entries.values()}
        return sorted(kinds, key=lambda name: (kinds[name], name))

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
    known = [row for row in rows if not (is_zero_shot(row) or row.get("train_share"))]
    known = [row for row in known if row.get("noise_snr") is None and row.get("layer") is None]
    groups: dict[str, list[tuple[Row, str]]] = defaultdict(list)
    for row, head, loss in zip(known, label_parts(known, "head"), label_parts(known, "loss"), strict=True):
        predicted = sorted(row.get("dimensions") or row["classes"])
        key = json.dumps([predicted, head, loss, *map(row.get, _SAME)], sort_keys=True, default=str)
        words = [name_encoder(row), head, loss, *map(str, row.get("where") or ())]
        words += [f"normalised by {row['normalise']}"] if row.get("normalise") else []
        groups[key].append((row, ", ".join(words)))
    return [matrix for group in groups.values() for matrix in _arrange(group)]


_SAME = ("encoder", "seeds", "budget", "normalise", "mode", "precision", "store_fingerprint", "where")
"""What numbers of one matrix have in common, beside what is predicted, head and loss."""

_USUAL = ("session", "speaker", "split")
"""The folds of a corpus by itself that are shown first where there are several."""


def _arrange(group: Sequence[tuple[Row, str]]) -> Iterator[Matrix]:
    """Yield a matrix for each way of standardising; what is trained on one corpus alone stands in all of them."""
    others = {str(row["corpus"]) for row, _ in group if _by_corpus(row)}
    found = [entry for row, _ in group for entry in _read(row, "" if len(others) < 2 else f" of {row['corpus']}")]
    entries = sorted((one for one in found if not one.row.get("speaker_dependent")), key=_rank)
    for how in dict.fromkeys(str(one.row.get("standardise_by") or "") for one in entries if one.crossed):
        told: dict[tuple[str, str], Entry] = {}
        for entry in entries:
            if str(entry.row.get("standardise_by") or "") == how or entry.trained == entry.tested:
                told.setdefault((entry.trained, entry.tested), entry)
        shown = {id(one.row) for one in told.values()}
        lost = [one for one in found if str(one.row.get("standardise_by") or "") == how and id(one.row) not in shown]
        yield Matrix(
            f"{group[0][1]}{', standardised by corpus' if how else ''}",
            told,
            "; ".join(dict.fromkeys(one.name for one in lost)),
        )


def _by_corpus(row: Row) -> bool:
    return row["folds"] == "corpus" and bool(row.get("pooled"))


def _rank(entry: Entry) -> int:
    """Sort runs on a corpus alone by their folds, the usual ones first."""
    return _USUAL.index(entry.row["folds"]) if entry.row["folds"] in _USUAL else len(_USUAL)


def _read(row: Row, apart: str) -> Iterator[Entry]:
    """Yield the numbers of a run; `apart` tells which others all others are, where there are several."""
    corpus = str(row["corpus"])
    if row.get("test_corpus"):
        yield Entry(corpus, str(row["test_corpus"]), row, row)
    elif row.get("pooled"):
        for name, scores in (row.get("by_corpus") or {}).items():
            yield Entry(f"{OTHERS}{apart}" if _by_corpus(row) else corpus, name, row, scores)
    else:
        yield Entry(corpus, corpus, row, row)


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
    left_out = f"Not shown, for each number is that of one run, on unknown speakers: {matrix.left_out}."
    return Grid(
        title=f"Cross-corpus {unit}, {matrix.title}: trained on rows, tested on columns",
        label_headers=("trained on", "speakers"),
        columns=tuple(matrix.columns),
        lines=tuple(lines),
        legend=matrix.legend,
        notes=(*describe_matrix([one.row for one in entries]), *([left_out] if matrix.left_out else [])),
    )


def _count_speakers(entries: Sequence[Entry], trained: str) -> str:
    """Say how many speakers were trained on: of a corpus as a whole where another one was tested."""
    own = sorted((one for one in entries if one.trained == trained), key=lambda one: one.seen)
    counts = sorted({count for one in own if one.seen == own[0].seen for count in one.row.get("train_speakers") or ()})
    return " to ".join(dict.fromkeys(map(str, (counts[0], counts[-1])))) if counts else ""
