"""The command `embedkit table`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from embedkit.cli.options import choose_options
from embedkit.cli.output import show, writes_bold
from embedkit.config import read_config


def table(
    runs: Annotated[
        Path | None,
        typer.Argument(metavar="RUNS", help="Folder that holds the runs. [default: embedkit.toml's, else runs]"),
    ] = None,
    metric: Annotated[
        Literal["ua", "wa", "f1", "nll", "ece", "ccc", "rmse", "all"] | None,
        typer.Option(
            metavar="METRIC",
            help="ua: mean recall; wa: accuracy; f1: macro-F1; nll: negative log-likelihood; ece: calibration error; "
            "ccc, rmse: of runs that predict dimensions; all: a table each. [default: ua, and ccc for dimensions]",
        ),
    ] = None,
    format: Annotated[
        Literal["text", "markdown", "latex", "html", "csv", "json"] | None,
        typer.Option(metavar="FORMAT", help="text, markdown, latex, html, csv or json. [default: text]"),
    ] = None,
    published: Annotated[
        bool | None,
        typer.Option("--published", help="Set the figures of the study, SUPERB and EmoBox, with notes, beside."),
    ] = None,
    compare: Annotated[
        bool | None,
        typer.Option(
            "--compare/--no-compare", help="Test and mark which runs differ in UA (or CCC). [default: compare]"
        ),
    ] = None,
) -> None:
    """Show encoders by losses, one table for each protocol.

    Examples:

        embedkit table
        embedkit table --metric all --format latex > table.tex
        embedkit table --metric wa --published

    The best loss of each row is marked, and by paired tests over speakers what differs and what does not; a random
    split is named as what it is.
    """
    given = locals().copy()
    config = read_config()
    options = choose_options("table", config, given)
    folder = options.pop("runs", None) or config.options("fit").get("runs", "runs")
    from embedkit.workflows.table import tabulate_runs

    show(tabulate_runs(folder, **options).render(bold=writes_bold()))
