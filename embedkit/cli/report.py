"""The command `embedkit report`."""

from __future__ import annotations

import webbrowser
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
    audio: Annotated[
        bool,
        typer.Option(
            "--audio", help="Embed short clips of the utterances; mind the corpus's licence before handing it on."
        ),
    ] = False,
    open_page: Annotated[bool, typer.Option("--open", help="Open the report in the browser.")] = False,
) -> None:
    """Write a report of all runs as one HTML file that opens without a network.

    Examples:

        embedkit report
        embedkit report runs/emodb --out emodb.html
        embedkit report --audio --open

    It opens with what the tests come to, scores with intervals and the best configuration's confusion matrix. Folded
    below are the table with marks, all matrices, recall by class and speaker, calibration, learning curves, weights of
    layers, scores by layer, maps of the embeddings, the hardest utterances, protocol, versions, and the commands that
    lead there.
    """
    folder = runs or read_config().options("fit").get("runs", "runs")
    from embedkit.workflows.report import write_report

    path = write_report(folder, out, audio=audio, tell=tell)
    show(path)
    if open_page and not webbrowser.open_new_tab(path.resolve().as_uri()):
        tell(f"No browser was found here; open {path} in one yourself.")
