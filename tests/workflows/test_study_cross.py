"""A cross-corpus study: every corpus trained on and tested, each once, and what was seen is marked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

import embedkit
from embedkit.cli import app
from embedkit.errors import FitError
from embedkit.reporting.cross import lay_out_cross
from embedkit.reporting.figures.cross import draw_cross
from embedkit.reporting.figures.panels import plan_panels
from embedkit.reporting.report.board import Board
from embedkit.reporting.report.page import lay_out_matrices

RATE = 16_000
QUICK: dict[str, Any] = {"seeds": 1, "epochs": 1, "lr": (1e-2,), "threads": 1, "head": ["linear"], "progress": False}
CORPORA = ("one", "two", "three")


def write_corpus(name: str, seed: int, classes: tuple[str, ...]) -> None:
    """Write twelve clips of three speakers, of which the first two classes are in every corpus."""
    generator = np.random.default_rng(seed)
    Path(name).mkdir()
    rows = ["path,label,speaker"]
    for number in range(12):
        label = classes[number % len(classes)]
        clip = np.sin(np.arange(RATE // 10) * (0.05 + 0.2 * (label == "low"))) + generator.normal(0, 0.3, RATE // 10)
        soundfile.write(f"{name}/{number:02d}.wav", 0.2 * clip, RATE)
        rows.append(f"{number:02d}.wav,{label},s{number // 4}")
    Path(name, f"{name}.csv").write_text("\n".join(rows) + "\n")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cross")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for seed, name in enumerate(CORPORA):
            write_corpus(name, seed, ("low", "high", "odd") if name == "two" else ("low", "high"))
        yield folder


def study(told: list[str] | None = None, **options: Any) -> Any:
    corpora = options.pop("corpora", [f"{name}/{name}.csv" for name in CORPORA])
    tell = [].append if told is None else told.append
    return embedkit.run_study(corpora, "mfcc", **{**QUICK, "cross": True, "all_others": True, "tell": tell, **options})


@pytest.fixture(scope="module")
def told() -> list[str]:
    return []


@pytest.fixture(scope="module")
def found(place: Path, told: list[str]) -> Any:
    return study(told, foresee=False)


def test_every_corpus_is_trained_on_and_tested(found: Any, told: list[str]) -> None:
    assert "All corpora have high and low; utterances of other classes are left out." in told
    cells = {(row["corpus"], row.get("test_corpus")) for row in found.table.rows}
    pairs = {(first, second) for first in CORPORA for second in CORPORA if first != second}
    assert cells == pairs | {(name, None) for name in CORPORA} | {("one+three+two", None)}
    assert not found.missing
    assert {row["folds"] for row in found.table.rows} == {"speaker", "other corpus", "corpus"}


def test_the_matrix_fits_a_terminal_and_marks_what_was_seen(found: Any) -> None:
    lines = str(found.table).splitlines()
    assert lines[0].startswith("Cross-corpus UAR in %, mfcc, linear")
    assert max(map(len, lines)) <= 80
    text = " ".join(str(found.table).split())
    assert (
        "s: the test corpus was seen in training: other speakers of it (folds), copies, or another part of it." in text
    )
    assert "one, three and two: folds by speaker; one+three+two: folds by corpus." in text
    (grid,) = grids(found)
    labels = [line.labels for line in grid.lines]
    assert (labels[0], labels[-1][0]) == (("one", "3"), "all others")
    marks = [[cell.mark for cell in line.cells] for line in grid.lines]
    assert grid.columns == ("one", "three", "two")
    assert marks == [["s", "", ""], ["", "s", ""], ["", "", "s"], ["", "", ""]]
    told = {(row["corpus"], row.get("test_corpus") or row["corpus"]): row["ua"] for row in found.table.rows}
    for line in grid.lines[:3]:
        for column, cell in zip(grid.columns, line.cells, strict=True):
            assert cell.mean == pytest.approx(100 * told[line.labels[0], column])
    pooled = next(row for row in found.table.rows if row.get("pooled"))
    assert [cell.mean for cell in grid.lines[3].cells] == pytest.approx(
        [100 * pooled["by_corpus"][name]["ua"] for name in grid.columns]
    )


def grids(found: Any) -> list[Any]:
    return lay_out_cross(found.table.rows, None, "interval")


def test_the_same_study_again_has_nothing_to_do(found: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    again: list[str] = []
    assert str(study(again).table) == str(found.table)
    assert "Nothing to do but the table." in again
    told: list[str] = []
    monkeypatch.setattr("embedkit.study.forecast.training_seconds", lambda *_: 1.0)
    plan = study(told, dry_run=True, where=["speaker!=s9"], all_others=False).plan
    assert len(plan) == 9
    assert "one tested on two mfcc, linear:pool=mean+std, ce: to train" in plan
    # Three folds with two inner ones for each corpus, and heads that are trained once for both others.
    once = next(line for line in told if line.startswith("  to train: 9 configurations"))
    assert f" {3 * 3 * (2 + 1) + 3 * (3 + 1)} heads" in once


def test_parts_of_it_are_the_whole(found: Any) -> None:
    made: list[tuple[str, str]] = []
    corpora = ["one/one.csv", "three/three.csv"]
    for number in (1, 2):
        part = study(part=f"{number}/2", runs="parts", foresee=False, corpora=corpora, all_others=False)
        assert len(part.records) == 2
        made += [(record.metrics["corpus"], record.metrics.get("test_corpus", "")) for record in part.records]
    assert sorted(made) == [("one", ""), ("one", "three"), ("three", ""), ("three", "one")]
    names = {record.folder.name for record in found.records}
    assert {path.parent.name for path in Path("parts").rglob("metrics.json")} <= names


def test_the_table_and_the_report_of_the_runs_show_it(found: Any) -> None:
    result = CliRunner().invoke(app, ["table", "--cross", "--metric", "wa", "--brief"], prog_name="embedkit")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Cross-corpus accuracy (WA) in %, mfcc")
    (figure,) = draw_cross([record.metrics for record in found.records]).values()
    assert figure.headers == ("trained on", "one", "three", "two")
    assert [row[0] for row in figure.rows] == ["one", "three", "two", "all others"]
    assert len(figure.data) == 12
    names = {panel.name for panel in plan_panels(found.records)}
    assert len(names) == 10
    assert {"two: mfcc, linear, trained on one", "two: mfcc, linear, folds by speaker"} < names
    (path,) = embedkit.write_figures("runs", "cross", out="drawn")
    assert path == Path("drawn/cross-1.svg")
    across = lay_out_matrices(found.records, Board())
    assert across is not None
    assert "Cross-corpus UAR in %, mfcc" in across.table
    assert across.opening.svg.startswith("<svg")
    assert [note.split(": ")[1] for note in across.notes] == ["the test corpus was seen in training"]
    pairs = [100 * row["ua"] for row in found.table.rows if row.get("test_corpus")]
    assert f"has a mean UAR of {np.mean(pairs):.1f} %, on corpora" in across.conclusion
    assert "Trained on all other corpora it has " in across.conclusion
    own = [record for record in found.records if record.metrics["folds"] == "speaker"]
    for given, words in (
        (["--format", "csv"], "which has no matrix"),
        (["--published"], "leave one out"),
        (["--metric", "nll"], "No runs make a cross-corpus matrix"),
    ):
        result = CliRunner().invoke(app, ["table", "--cross", *given], prog_name="embedkit")
        assert result.exit_code == 1
        assert words in " ".join(result.stderr.split())
    assert lay_out_matrices(own, Board()) is None
    with pytest.raises(embedkit.EmbedkitError, match="No runs make a cross-corpus matrix"):
        embedkit.table(own, cross=True)


def refused() -> list[tuple[dict[str, Any], str]]:
    return [
        ({"corpora": "one/one.csv"}, "--all-others needs at least 3 corpora, found 1"),
        ({"corpora": "one/one.csv", "all_others": False}, "--cross needs at least 2 corpora, found 1"),
        ({"cross": False}, "give both"),
        ({"merge": {"odd": "low"}}, "Found --merge beside --cross"),
        ({"test_on": "x.h5"}, "Found --test-on beside --cross"),
        ({"mode": ["frozen"]}, "--cross means nothing with --mode frozen"),
    ]


@pytest.mark.parametrize(("options", "words"), refused())
def test_what_makes_no_matrix_is_told(place: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(FitError, match=words):
        study(**options)


def test_corpora_whose_labels_do_not_meet_are_listed(place: Path) -> None:
    write_corpus("apart", 9, ("joy", "rage"))
    with pytest.raises(FitError, match=r"share 0 labels.*one has high, low; apart has joy, rage"):
        study(corpora=["one/one.csv", "apart/apart.csv"], all_others=False)
