"""Scores with their intervals: of every run of a protocol together, and by the number of training speakers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.reporting.figures.charts import Axes, Draft, Spread, draw_dots, draw_lines
from embedkit.reporting.figures.panels import Panel, plan_panels
from embedkit.reporting.figures.theme import Figure
from embedkit.reporting.labels import shorten_names
from embedkit.reporting.metrics import METRICS, SCORES, task_of
from embedkit.reporting.protocol import describe_marks, protocol_keys
from embedkit.reporting.published import last_part

if TYPE_CHECKING:
    from embedkit.training.runs import RunRecord

_WIDTH = 40


def draw_forest(panels: Sequence[Panel]) -> dict[str, Figure]:
    """Draw a score of every run with its 95 % interval by speaker: UAR, or CCC of emotional attributes.

    Panels of one protocol share a figure; what predicts classes and what does not have axes of their own.
    """
    together: dict[int, list[Panel]] = {}
    for panel in panels:
        together.setdefault(panel.protocol, []).append(panel)
    names = [f"forest-{own[0].corpus}{f'-{number}' if number else ''}" for number, own in enumerate(together.values())]
    drawn = draw_forests(list(together.values()))
    return {name: one for name, one in zip(names, drawn, strict=True) if one is not None}


def draw_forests(protocols: Sequence[Sequence[Panel]]) -> list[Figure | None]:
    """Draw a figure for the panels of each protocol, all of one score on the same axis; None where there are none."""
    metrics = [_metric(next(iter(own[0].runs.values()))) if own else "" for own in protocols]
    figures: dict[str, Figure] = {}
    for metric in filter(None, dict.fromkeys(metrics)):
        drafts = {
            f"{number}": _draft(own, metric)
            for number, (own, other) in enumerate(zip(protocols, metrics, strict=True))
            if other == metric
        }
        figures |= draw_dots(drafts, _axes("encoder, head", metric), "configuration")
    return [figures.get(f"{number}") for number in range(len(protocols))]


def _metric(record: RunRecord) -> str:
    return SCORES[task_of(record.metrics)][0]


def _axes(place: str, metric: str) -> Axes:
    shown = METRICS[metric]
    value = f"{shown.label} {shown.unit}, 95 % interval by speaker".replace(" ,", ",")
    bounds = (0.0, shown.factor) if shown.task == "classes" else (-shown.factor, shown.factor)
    return Axes(place=place, value=value, decimals=shown.decimals, bounds=bounds)


def _draft(panels: Sequence[Panel], metric: str) -> Draft:
    factor = METRICS[metric].factor
    losses = dict.fromkeys(loss for panel in panels for loss in panel.runs)
    short = shorten_names([panel.encoder for panel in panels], _WIDTH)
    places = {f"{short[panel.encoder]}, {panel.head}": panel.runs for panel in panels}
    rows = {loss: {at: runs[loss].metrics for at, runs in places.items() if loss in runs} for loss in losses}
    chance = panels[0].chance
    return Draft(
        title=f"{panels[0].corpus}{panels[0].marks}: {METRICS[metric].label} with intervals",
        series={
            loss: {at: (factor * row[metric], factor * (row.get(f"{metric}_std") or 0.0)) for at, row in own.items()}
            for loss, own in rows.items()
        },
        intervals={loss: {at: read_interval(row, metric) for at, row in own.items()} for loss, own in rows.items()},
        guess=chance if metric == "ua" else (0.0, 0.0, "chance"),
    )


def read_interval(row: Mapping[str, Any], metric: str) -> Spread | None:
    """Return the interval of a run's metric in the metric's unit; None where it has none."""
    ends = row.get(f"{metric}_ci")
    return (METRICS[metric].factor * ends[0], METRICS[metric].factor * ends[1]) if ends else None


_UNCOUNTED = ("split", "random")
"""Folds of which older runs do not say how many speakers they train on."""


def find_families(records: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """Group runs that differ in their share of the training speakers alone, where there are several; largest last."""
    families: dict[str, list[RunRecord]] = defaultdict(list)
    clean = [record for record in records if record.metrics.get("noise_snr") is None]
    whole = [record for record in clean if record.metrics.get("layer") is None and _count(record)]
    keys = protocol_keys([{**record.metrics, "train_share": None} for record in whole])
    for record, key in zip(whole, keys, strict=True):
        families[key].append(record)
    found = [sorted(own, key=_share) for own in families.values()]
    return [own for own in found if len({*map(_share, own)}) > 1]


def draw_shares(families: Sequence[Sequence[RunRecord]]) -> dict[str, Figure]:
    """Draw a score of every encoder, head and loss by the mean number of training speakers, with 95 % intervals."""
    figures: dict[str, Figure] = {}
    for metric in dict.fromkeys(_metric(own[0]) for own in families):
        drafts: dict[str, Draft] = {}
        for number, family in enumerate(families):
            if _metric(family[0]) == metric:
                drafts |= _share_drafts(family, metric, f"-{number + 1}" if number else "")
        figures |= draw_lines(drafts, _axes("training speakers", metric))
    return figures


def _share_drafts(family: Sequence[RunRecord], metric: str, ending: str) -> dict[str, Draft]:
    factor = METRICS[metric].factor
    series: dict[str, dict[str, dict[float, Spread]]] = defaultdict(lambda: defaultdict(dict))
    intervals: dict[str, dict[str, dict[float, Spread | None]]] = defaultdict(lambda: defaultdict(dict))
    titles, chance = {}, None
    for panel in plan_panels(family):
        encoder = last_part(panel.encoder)
        name = f"shares-{panel.corpus}-{encoder}-{panel.head}{ending}"
        for loss, record in panel.runs.items():
            row, at = record.metrics, _count(record)
            titles[name] = (
                f"{panel.corpus}: {encoder}, {panel.head}{describe_marks(row)}, by the number of training speakers"
            )
            chance = panel.chance if metric == "ua" else None
            series[name][loss][at] = (factor * row[metric], factor * (row.get(f"{metric}_std") or 0.0))
            intervals[name][loss][at] = read_interval(row, metric)
    return {
        name: Draft(title=titles[name], series=own, intervals=intervals[name], guess=chance)
        for name, own in series.items()
        if len({at for points in own.values() for at in points}) > 1
    }


def _share(record: RunRecord) -> float:
    return float(record.metrics.get("train_share") or 1.0)


def _count(record: RunRecord) -> float:
    """Return the mean number of training speakers over folds; 0 where it is unknown.

    Older runs do not keep it: where folds rotate over groups that share no speakers, each is trained on in all folds
    but one.
    """
    row = record.metrics
    if kept := row.get("train_speakers"):
        return round(float(np.mean(kept)), 1)
    folds = len(record.config.get("folds", {}).get("names") or ())
    crossed = row["folds"] in _UNCOUNTED or row["folds"].startswith("speaker+")
    if row.get("speaker_dependent") or row.get("test_corpus") or crossed or not folds:
        return 0.0
    return round((row.get("speakers") or 0) * (folds - 1) / folds, 1)
