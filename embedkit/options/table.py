"""The options of `table`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from embedkit.options.option import option


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """What a table shows, and how."""

    metric: Literal["ua", "wa", "f1", "nll", "ece", "ccc", "rmse", "all"] | None = option(
        panel="Data",
        metavar="METRIC",
        help="ua, uar: unweighted average recall (UAR); wa, acc: accuracy; f1: macro-F1; nll: negative log-likelihood; "
        "ece: calibration error; ccc, rmse: of runs that predict emotional attributes; all: a table each.",
        usual="ua, and ccc for attributes",
        synonyms={"uar": "ua", "acc": "wa"},
    )
    format: Literal["text", "markdown", "latex", "html", "csv", "json"] = option(
        "text", panel="Data", metavar="FORMAT", help="text, markdown, latex, html, csv or json."
    )
    published: bool = option(
        False, panel="Data", help="Show published results (study, SUPERB, EmoBox) with notes, in tables of their own."
    )
    compare: bool = option(True, panel="Data", help="Test and mark which runs differ in UAR (or CCC).")
    runs: Path = option(Path("runs"), panel="Data", help="Folder that holds the runs.", on_command_line=False)
