"""The command `embedkit table`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from embedkit.cli.options import choose_options, takes_options
from embedkit.cli.output import show, writes_bold
from embedkit.config import read_config
from embedkit.options.table import TableOptions


@takes_options(TableOptions)
def table(
    runs: Annotated[
        Path | None,
        typer.Argument(metavar="RUNS", help="Folder that holds the runs. [default: embedkit.toml's, else runs]"),
    ] = None,
    **given: Any,
) -> None:
    """Show encoders by losses, one table for each protocol.

    Examples:

        embedkit table
        embedkit table --metric all --format latex > table.tex
        embedkit table --metric wa --published
        embedkit table --cross

    The best loss of each row is starred. Paired tests over speakers mark which differences are significant. Random
    splits are marked as speaker-dependent.
    """
    config = read_config()
    options = choose_options(TableOptions, "table", config, given)
    folder = options.pop("runs", None) or config.options("fit").get("runs", "runs")
    from embedkit.workflows.table import tabulate_runs

    show(tabulate_runs(runs or folder, **options).render(bold=writes_bold()))
