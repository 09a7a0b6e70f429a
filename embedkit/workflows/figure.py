"""Figures of finished runs, written as files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.errors import ConfigError, RunError
from embedkit.options.option import declared
from embedkit.options.table import TableOptions
from embedkit.registry import unknown_name
from embedkit.reporting.figures import draw_layers
from embedkit.reporting.figures.chart import Chart, file_names
from embedkit.reporting.figures.learning import draw_curves, draw_weights
from embedkit.reporting.figures.maps import build_map, draw_maps
from embedkit.reporting.figures.panels import Panel, plan_panels, tested_stores
from embedkit.reporting.figures.pdf import convert_to_pdf
from embedkit.reporting.figures.recall import Read, draw_classes, draw_confusions, draw_speakers
from embedkit.reporting.predictions import read_predictions
from embedkit.writing import write_file

if TYPE_CHECKING:
    from embedkit.training.runs import RunRecord

FORMATS = ("svg", "pdf")
_Draw = Callable[[Sequence[Panel], Read], Mapping[str, Chart]]

_KINDS: Mapping[str, tuple[_Draw, str]] = {
    "confusion": (draw_confusions, "none predicts classes"),
    "classes": (draw_classes, "none predicts classes"),
    "speakers": (draw_speakers, "none predicts classes of utterances whose speakers are known"),
    "curves": (lambda panels, read: draw_curves(panels), "none keeps its learning curves; fit again with --overwrite"),
    "weights": (lambda panels, read: draw_weights(panels), "no head weighs several layers"),
    "map": (
        lambda panels, read: draw_maps([build_map(one, read(one)) for _, one in tested_stores(panels)]),
        "none is on a store for all folds",
    ),
}
KINDS = ("layers", *_KINDS)


def write_figures(
    runs: str | Path = "runs",
    kind: str = "layers",
    *,
    metric: str = "ua",
    format: str = "svg",
    out: str | Path = "figures",
) -> list[Path]:
    """Write all figures of one kind, one file each.

    Args:
        runs: The folder that holds the runs.
        kind: "layers" (a metric by layer, from `fit --layers each`), "confusion", "classes" and "speakers" (recall),
            "curves" (validation score and training loss by epoch), "weights" (of the layers), "map" (embeddings).
        metric: Of "layers": "ua" or "uar", "wa" or "acc", "f1", "nll", "ece", or "ccc" (the mean over the emotional
            attributes).
        format: "svg" or "pdf"; the latter needs the extra `pdf`.
        out: The folder to write to; made where it is missing, files of the same names are replaced.

    Returns:
        The files.

    Raises:
        RunError: no run has what is to be drawn, a store is gone, or files cannot be written.
        ConfigError: an unknown kind, metric or format, or PDF without what it needs.
    """
    from embedkit.training.runs import find_runs

    for what, name, known in (("figure", kind, KINDS), ("format", format, FORMATS)):
        if name not in known:
            raise ConfigError(unknown_name(what, name, known))
    metric = declared(TableOptions)["metric"].canonical(metric, "metric")
    records = find_runs(runs)
    charts = draw_layers([one.metrics for one in records], metric) if kind == "layers" else _draw(kind, records, runs)
    folder = Path(out)
    paths = []
    for name, chart in file_names(charts).items():
        svg = chart.standalone()
        paths.append(folder / f"{name}.{format}")
        drawn = svg.encode() if format == "svg" else convert_to_pdf(svg)
        write_file(paths[-1], drawn, otherwise="choose another --out")
    return paths


def _draw(kind: str, records: Sequence[RunRecord], runs: str | Path) -> Mapping[str, Chart]:
    draw, why = _KINDS[kind]
    panels = plan_panels(records)
    charts = draw(panels, read_predictions) if panels else {}
    if not charts:
        found = why if panels else "all are of single layers"
        raise RunError(f"No run below {runs} can be drawn as {kind}: {found}.")
    return charts
