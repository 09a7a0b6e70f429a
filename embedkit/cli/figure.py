"""The command `embedkit figure`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from embedkit.config import read_config


def figure(
    kind: Annotated[
        Literal["layers"], typer.Argument(metavar="KIND", help="layers: a metric over the layers of each encoder.")
    ],
    runs: Annotated[
        Path | None,
        typer.Argument(metavar="RUNS", help="Folder that holds the runs. [default: embedkit.toml's, else runs]"),
    ] = None,
    metric: Annotated[
        Literal["ua", "wa", "f1", "nll", "ece", "ccc"], typer.Option(help="ua, wa, f1, nll, ece or ccc.")
    ] = "ua",
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("figures"),
) -> None:
    """Draw single figures for papers, as SVG.

    Examples:

        embedkit fit embeddings/emodb/hubert.h5 --layers each --loss all
        embedkit figure layers

    Points are means over seeds, bars one standard deviation.
    """
    folder = runs or read_config().options("fit").get("runs", "runs")
    from embedkit.workflows.figure import write_layer_figures

    for path in write_layer_figures(folder, metric=metric, out=out):
        typer.echo(path)
