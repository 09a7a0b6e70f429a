"""The command `embedkit figure`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from embedkit.cli.output import show
from embedkit.config import read_config


def figure(
    kind: Annotated[
        Literal[
            "layers",
            "forest",
            "cross",
            "confusion",
            "classes",
            "speakers",
            "calibration",
            "shares",
            "curves",
            "weights",
            "map",
            "tsne",
            "timeline",
        ],
        typer.Argument(
            metavar="KIND",
            show_choices=False,
            help="layers: a metric over the layers of each encoder; forest: scores with intervals; cross: scores by "
            "corpora trained on and tested; confusion: matrices; classes, speakers: recall of each; calibration: "
            "reliability and NLL; shares: a score by the number of training speakers (`embedkit fit --train-share`); "
            "curves: validation score and training loss; weights: of the layers; map, tsne: of the embeddings; "
            "timeline: probabilities or ratings over the time of each recording (`embedkit predict --window`).",
        ),
    ],
    runs: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUNS",
            help="Folder that holds the runs; of timeline the file of `embedkit predict --out`. [default: "
            "embedkit.toml's, else runs]",
        ),
    ] = None,
    metric: Annotated[
        Literal["ua", "uar", "wa", "acc", "f1", "nll", "brier", "ece", "kl", "js", "ccc"],
        typer.Option(metavar="METRIC", help="Of layers: ua (uar), wa (acc), f1, nll, brier, ece, kl, js or ccc."),
    ] = "ua",
    format: Annotated[Literal["svg", "pdf", "png"], typer.Option(metavar="FORMAT", help="svg, pdf or png.")] = "svg",
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("figures"),
) -> None:
    """Draw single figures for papers, as SVG, PDF or PNG.

    Examples:

        embedkit fit embeddings/emodb/hubert.h5 --layers each --loss all
        embedkit figure layers
        embedkit figure confusion --format pdf --out paper/figures
        embedkit figure timeline call.csv --format png

    Points are means over seeds, bars and bands one standard deviation.
    """
    folder = runs or read_config().options("fit").get("runs", "runs")
    from embedkit.workflows.figure import write_figures

    for path in write_figures(folder, kind, metric=metric, format=format, out=out):
        show(path)
