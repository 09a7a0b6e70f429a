"""The options of `table`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from embedkit.options.option import option
from embedkit.registry import Part, Registry
from embedkit.wording import list_words

FORMATS = Registry(
    "format",
    [
        ("text", Part("embedkit.reporting.render:render_text", "for a terminal")),
        ("markdown", Part("embedkit.reporting.render:render_markdown", "for a README")),
        ("latex", Part("embedkit.reporting.render:render_latex", "for a paper, with booktabs")),
        ("html", Part("embedkit.reporting.html:render_html", "for a page")),
        ("csv", Part("embedkit.reporting.records:render_csv", "a line for each run")),
        ("json", Part("embedkit.reporting.records:render_json", "an object for each run")),
    ],
)
"""How a table is drawn: by a function of its document, or of its rows."""

OF_ROWS = ("csv", "json")
"""Formats of the rows as they are, without notes."""


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """What a table shows, and how."""

    metric: Literal["ua", "wa", "f1", "nll", "brier", "ece", "kl", "js", "ccc", "rmse", "all"] | None = option(
        panel="Data",
        metavar="METRIC",
        help="ua, uar: unweighted average recall (UAR); wa, acc: accuracy; f1: macro-F1; nll: negative log-likelihood; "
        "brier: Brier score; ece: calibration error; kl, js: distance to annotators' votes; ccc, rmse: of runs that "
        "predict emotional attributes; all: a table each.",
        usual="ua, and ccc for attributes",
        synonyms={"uar": "ua", "acc": "wa"},
    )
    format: str = option(
        "text",
        panel="Data",
        metavar="FORMAT",
        help=f"{list_words(FORMATS, 'or')}.",
        catalogue="embedkit.options.table:FORMATS",
    )
    published: bool = option(
        False, panel="Data", help="Show published results (study, SUPERB, EmoBox) with notes, in tables of their own."
    )
    spread: Literal["interval", "seeds"] = option(
        "interval",
        panel="Data",
        metavar="SPREAD",
        help="What stands beside numbers: interval: 95 % intervals over speakers; seeds: ± the standard deviation over "
        "seeds.",
    )
    by: str | None = option(
        panel="Data",
        metavar="COLUMN",
        help="Score each value of a column of the store as well, such as gender, in a table of its own.",
        usual="none",
    )
    cross: bool = option(
        False,
        panel="Data",
        help="Show the cross-corpus matrix, the corpora trained on by those tested, of runs by `embedkit study "
        "--cross` or `embedkit fit --test-on`.",
    )
    compare: bool = option(True, panel="Data", help="Test and mark which runs differ in UAR (or CCC).")
    brief: bool = option(False, panel="Data", help="Show the numbers and one line below them.")
    explain: bool = option(False, panel="Data", help="Say below how each score is defined.")
    runs: Path = option(Path("runs"), panel="Data", help="Folder that holds the runs.", on_command_line=False)
