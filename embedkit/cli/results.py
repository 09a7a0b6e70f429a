"""The commands on finished runs: `embedkit table`, `figure`, `report` and `cite`."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from embedkit.cli.options import choose_options, takes_options
from embedkit.cli.output import show, tell, writes_bold
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
    folder = options.pop("runs", config.runs)
    from embedkit.workflows.table import tabulate_runs

    show(tabulate_runs(runs or folder, **options).render(bold=writes_bold()))


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
    from embedkit.workflows.figure import write_figures

    for path in write_figures(runs or read_config().runs, kind, metric=metric, format=format, out=out):
        show(path)


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
    from embedkit.workflows.report import write_report

    path = write_report(runs or read_config().runs, out, audio=audio, tell=tell)
    show(path)
    if open_page and not webbrowser.open_new_tab(path.resolve().as_uri()):
        tell(f"No browser was found here; open {path} in one yourself.")


def cite(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, as `embedkit fit` prints it.")],
) -> None:
    """Write the BibTeX of what a run is made of: corpus, encoder, head, loss, statistics.

    Examples:

        embedkit cite runs/emodb/hubert/linear/focal-1a2b3c4d > used.bib

    Parts for which no reference is known, such as corpora of your own, are named in a comment.
    """
    from embedkit.workflows.cite import cite_run

    show(cite_run(run))
