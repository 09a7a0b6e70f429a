"""The command `embedkit report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from embedkit.cli.output import show, tell
from embedkit.config import read_config


def report(
    runs: Annotated[
        Path | None,
        typer.Argument(metavar="RUNS", help="Folder that holds the runs. [default: embedkit.toml's, else runs]"),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The HTML file to write.")] = Path("report.html"),
) -> None:
    """Write a report of all runs as one HTML file that opens without a network.

    Examples:

        embedkit report
        embedkit report runs/emodb --out emodb.html

    It holds the table with intervals and marks, confusion matrices, recall by class and speaker, calibration, learning
    curves, weights of layers, scores by layer, maps of the embeddings, the hardest utterances, protocol, versions, and
    the commands that lead there.
    """
    folder = runs or read_config().options("fit").get("runs", "runs")
    from embedkit.workflows.report import write_report

    show(write_report(folder, out, tell=tell))
