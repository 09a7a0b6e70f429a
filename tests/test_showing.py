"""In a notebook objects are small tables, and what came from data is text there."""

from pathlib import Path
from typing import Any

import pytest

from embedkit.checking.findings import Finding
from embedkit.corpora import Corpus, Utterance
from embedkit.reporting.table import build_table
from embedkit.showing import MOST_ROWS, draw_facts
from embedkit.store import open_store
from embedkit.training.runs import RunRecord, Runs
from embedkit.workflows.check import CorpusCheck
from embedkit.workflows.study import StudyResult

EVIL = "<script>alert('x')</script>\x1b[2J"
GOLDEN = Path(__file__).parent / "training" / "golden"


def make_corpus(count: int = 3000) -> Corpus:
    utterances = tuple(Utterance(id=f"{n}", path=f"{n}.wav", label=EVIL, speaker=EVIL) for n in range(count))
    return Corpus(name=EVIL, kind="manifest", root=Path(EVIL), utterances=utterances, notes=(EVIL,))


def make_check() -> CorpusCheck:
    corpus = make_corpus(3)
    finding = Finding(kind="labels", severity="problem", message=EVIL)
    labels = {one.id: one.label for one in corpus.utterances}
    return CorpusCheck(corpus=corpus, labels=labels, left_out={}, folds=EVIL, measures=(), findings=(finding,))


def make_runs(count: int = 80) -> Runs:
    row: dict[str, Any] = {"corpus": EVIL, "encoder": EVIL, "head": EVIL, "loss": EVIL, "folds": EVIL, "ua": 0.5}
    row |= {"classes": [EVIL], "seeds": 1, "utterances": 3, "wa": 0.5, "f1": 0.5}
    return Runs(RunRecord(folder=Path(f"runs/{EVIL}/{n}"), config={}, metrics=row) for n in range(count))


OBJECTS = {
    "corpus": make_corpus,
    "check": make_check,
    "run": lambda: make_runs()[0],
    "runs": make_runs,
    "table": lambda: build_table([one.metrics for one in make_runs(3)]),
    "study": lambda: StudyResult(
        table=build_table([make_runs(1)[0].metrics]), records=tuple(make_runs()), missing={}, seconds={}
    ),
    "store": lambda: open_store(GOLDEN / "tiny.h5"),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_notebooks_show_small_tables_of_escaped_text(name: str) -> None:
    shown = OBJECTS[name]()
    html = shown._repr_html_()
    assert "<script" not in html
    assert "\x1b" not in html
    assert name == "store" or "&lt;script&gt;" in html
    assert html.startswith(("<table>", "<pre>", '<div class="wide">'))
    assert len(html) < 30_000


@pytest.mark.parametrize("name", [name for name in OBJECTS if name != "runs"])
def test_a_prompt_shows_one_line(name: str) -> None:
    shown = repr(OBJECTS[name]())
    assert len(shown) < 250
    assert "\n" not in shown


def test_of_many_rows_the_first_are_shown() -> None:
    html = make_runs(MOST_ROWS + 7)._repr_html_()
    assert html.count("<tr>") == MOST_ROWS + 1
    assert "and 7 more" in html


def test_what_is_empty_is_left_out() -> None:
    assert draw_facts("title", {"a": "", "b": 0}) == (
        "<table><caption>title</caption><tbody><tr><td>b</td><td>0</td></tr></tbody></table>"
    )
