"""Which runs a cross-corpus matrix shows, and how its cells are marked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from embedkit.reporting.cross import build_matrices, lay_out_cross

ROW: dict[str, Any] = {
    "encoder": "mfcc",
    "head": "linear",
    "loss": "ce",
    "classes": ["anger", "joy"],
    "seeds": 2,
    "utterances": 20,
    "ua_std": 0.0,
}


def row(corpus: str, ua: float, folds: str = "speaker", **changes: Any) -> dict[str, Any]:
    return {**ROW, "corpus": corpus, "ua": ua, "folds": folds, **changes}


def pooled(
    names: str, folds: str, ua: float, untrained: bool | None, seen: Mapping[str, bool] = {}, **changes: Any
) -> dict[str, Any]:
    known = {} if untrained is None else {"untrained": untrained}
    own = {name: {"ua": ua, "ua_std": 0.0, **known, **seen} for name in names}
    return row("+".join(names), ua, folds, pooled=list(names), by_corpus=own, **changes)


def test_of_several_runs_for_a_cell_the_usual_folds_are_shown_and_the_others_named() -> None:
    rows = [
        row("a", 0.1, "gender"),
        row("a", 0.9, "random", speaker_dependent=True),
        row("a", 0.5),
        row("a", 0.4, "other corpus", test_corpus="b"),
        row("a", 0.2, "other corpus", test_corpus="b", where=["gender=m"]),
    ]
    for given in (rows, rows[::-1]):
        both = {matrix.title: matrix for matrix in build_matrices(given)}
        assert set(both) == {"mfcc, linear, ce", "mfcc, linear, ce, gender=m"}
        matrix = both["mfcc, linear, ce"]
        assert {place: one.row["ua"] for place, one in matrix.entries.items()} == {("a", "a"): 0.5, ("a", "b"): 0.4}
        assert set(matrix.left_out.split("; ")) == {"a (folds by gender)", "a (random folds, SPEAKER-DEPENDENT)"}
        notes = next(grid.notes for grid in lay_out_cross(given, None, "seeds") if "gender=m" not in grid.title)
        assert notes[-1].startswith("Not shown, for each number is that of one run")


def test_what_the_others_are_is_told_where_pools_differ() -> None:
    rows = [pooled("abc", "corpus", 0.3, True), pooled("ab", "corpus", 0.2, True), pooled("ab", "speaker", 0.4, False)]
    (matrix,) = build_matrices(rows)
    assert matrix.rows == ["a+b", "all others of a+b", "all others of a+b+c"]
    assert matrix.entries["all others of a+b", "a"].row["ua"] == 0.2
    (matrix,) = build_matrices(rows[1:])
    assert matrix.rows == ["a+b", "all others"]


OWN = {"transductive": True, "standardise_by": "corpus"}


@pytest.mark.parametrize(
    ("run", "tested", "mark"),
    [
        (row("a", 0.5, "other corpus", test_corpus="b"), "b", ""),
        (row("a", 0.5, "other corpus", test_corpus="a (0123abcd)"), "a (0123abcd)", "s"),
        (row("a+b", 0.5, "other corpus", test_corpus="b (0123abcd)", pooled=["a", "b"]), "b (0123abcd)", "s"),
        (row("a", 0.5, "other corpus", test_corpus="b", copied=True), "b", "s"),
        (row("a", 0.5, "other corpus", test_corpus="b", **OWN), "b", "t"),
        (row("a", 0.5, "other corpus", test_corpus="b", leak=True), "b", "l"),
        (pooled("ab", "speaker", 0.5, False), "a", "s"),
        (pooled("ab", "corpus", 0.5, True, leak=True), "a", "l"),
        (pooled("ab", "corpus", 0.5, True, {"leak": False}, leak=True), "a", ""),
        (pooled("ab", "speaker", 0.5, False, **OWN), "a", "s"),
        (pooled("ab", "speaker", 0.5, True, **OWN), "a", "t"),
        (pooled("ab", "speaker", 0.5, False, transductive=True, normalise="speaker"), "a", "s t"),
        (pooled("ab", "corpus", 0.5, None, **OWN), "a", "t"),
    ],
)
def test_cells_are_marked_by_what_was_seen(run: dict[str, Any], tested: str, mark: str) -> None:
    pair = row("a", 0.5, "other corpus", test_corpus="z", **{name: run.get(name) for name in ("normalise", *OWN)})
    (matrix,) = build_matrices([run, pair])
    assert [one.mark for (_, column), one in matrix.entries.items() if column == tested] == [mark]
