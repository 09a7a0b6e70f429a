"""Figures of finished runs, written as files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.errors import ConfigError, RunError
from embedkit.options.option import declared
from embedkit.options.table import TableOptions
from embedkit.registry import unknown_name
from embedkit.reporting.figures import draw_layers
from embedkit.reporting.figures.calibration import draw_calibration
from embedkit.reporting.figures.cross import draw_cross
from embedkit.reporting.figures.forest import draw_forest, draw_shares, find_families
from embedkit.reporting.figures.learning import draw_curves, draw_weights
from embedkit.reporting.figures.maps import build_map, draw_maps
from embedkit.reporting.figures.panels import Panel, plan_panels, tested_stores
from embedkit.reporting.figures.recall import Read, draw_classes, draw_confusions, draw_speakers
from embedkit.reporting.figures.theme import Figure
from embedkit.reporting.figures.timeline import draw_timelines, read_timelines
from embedkit.reporting.predictions import read_predictions
from embedkit.writing import write_file

if TYPE_CHECKING:
    from embedkit.training.runs import RunRecord

FORMATS = ("svg", "pdf", "png")
_Draw = Callable[[Sequence[Panel], Read], Mapping[str, Figure]]

_KINDS: Mapping[str, tuple[_Draw, str]] = {
    "cross": (
        lambda panels, read: draw_cross([one.metrics for panel in panels for one in panel.runs.values()]),
        "none was tested on another corpus than it was trained on; train some with embedkit study --cross",
    ),
    "forest": (lambda panels, read: draw_forest(panels), "none has a score"),
    "confusion": (draw_confusions, "none predicts classes"),
    "classes": (draw_classes, "none predicts classes"),
    "speakers": (draw_speakers, "none predicts classes of utterances whose speakers are known"),
    "calibration": (draw_calibration, "none predicts classes"),
    "shares": (
        lambda panels, read: draw_shares(find_families([one for panel in panels for one in panel.runs.values()])),
        "none is on a share of the training speakers, beside others; train some with embedkit fit --train-share 0.3,1",
    ),
    "curves": (lambda panels, read: draw_curves(panels), "none keeps its learning curves; fit again with --overwrite"),
    "weights": (lambda panels, read: draw_weights(panels), "no head weighs several layers"),
    "map": (
        lambda panels, read: draw_maps([build_map(one, read(one)) for _, one in tested_stores(panels)]),
        "none is on a store for all folds",
    ),
}
KINDS = ("layers", *_KINDS, "timeline")
SYNONYMS = {"tsne": "map"}


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
        runs: The folder that holds the runs; of "timeline" a file that `predict` wrote of windows.
        kind: "layers" (a metric by layer, from `fit --layers each`), "forest" (scores with intervals), "cross" (scores
            by corpora trained on and tested), "confusion", "classes" and "speakers" (recall), "calibration"
            (reliability and NLL), "shares" (a score by the number of training speakers, from `fit --train-share`),
            "curves" (validation score and training loss by epoch), "weights" (of the layers), "map" or "tsne"
            (embeddings), "timeline" (probabilities or ratings over the time of each recording).
        metric: Of "layers": "ua" or "uar", "wa" or "acc", "f1", "nll", "brier", "ece", "kl", "js", or "ccc" (the
            mean over the emotional attributes).
        format: "svg", "pdf" or "png".
        out: The folder to write to; made where it is missing, files of the same names are replaced.

    Returns:
        The files.

    Raises:
        RunError: no run has what is to be drawn, a store is gone, or files cannot be written.
        ConfigError: an unknown kind, metric or format.
    """
    from embedkit.training.runs import find_runs

    kind = SYNONYMS.get(kind, kind)
    for what, name, known in (("figure", kind, KINDS), ("format", format, FORMATS)):
        if name not in known:
            raise ConfigError(unknown_name(what, name, known))
    metric = declared(TableOptions)["metric"].canonical(metric, "metric")
    if kind == "timeline":
        figures: Mapping[str, Figure] = draw_timelines(read_timelines(Path(runs)))
    else:
        records = find_runs(runs)
        rows = [one.metrics for one in records]
        figures = draw_layers(rows, metric) if kind == "layers" else _draw(kind, records, runs)
    folder = Path(out)
    paths = []
    for name, figure in _file_names(figures).items():
        paths.append(folder / f"{name}.{format}")
        write_file(paths[-1], figure.render(format), otherwise="choose another --out")
    return paths


def _draw(kind: str, records: Sequence[RunRecord], runs: str | Path) -> Mapping[str, Figure]:
    draw, why = _KINDS[kind]
    panels = plan_panels(records)
    figures = draw(panels, read_predictions) if panels else {}
    if not figures:
        found = why if panels else "all are of single layers"
        raise RunError(f"No run below {runs} can be drawn as {kind}: {found}.")
    return figures


def _file_names(figures: Mapping[str, Figure]) -> dict[str, Figure]:
    """Make harmless file names, without an ending, of the names of figures."""
    found: dict[str, Figure] = {}
    for name, figure in figures.items():
        safe = "".join(letter if letter.isalnum() or letter in "-_+.@=" else "-" for letter in name)
        number = next(number for number in count(1) if (safe if number == 1 else f"{safe}-{number}") not in found)
        found[safe if number == 1 else f"{safe}-{number}"] = figure
    return found
