"""The forest plot: every score with its interval, all encoders, heads and losses of a protocol together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from embedkit.reporting.figures.charts import Axes, Draft, Spread, draw_dots
from embedkit.reporting.figures.panels import Panel
from embedkit.reporting.figures.theme import Figure
from embedkit.reporting.labels import shorten_names
from embedkit.reporting.metrics import METRICS, SCORES, task_of

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
    metrics = [_metric(own) if own else "" for own in protocols]
    figures: dict[str, Figure] = {}
    for metric in filter(None, dict.fromkeys(metrics)):
        shown = METRICS[metric]
        drafts = {
            f"{number}": _draft(own, metric)
            for number, (own, other) in enumerate(zip(protocols, metrics, strict=True))
            if other == metric
        }
        value = f"{shown.label} {shown.unit}, 95 % interval by speaker".replace(" ,", ",")
        bounds = (0.0, shown.factor) if shown.task == "classes" else (-shown.factor, shown.factor)
        axes = Axes(place="encoder, head", value=value, decimals=shown.decimals, bounds=bounds)
        figures |= draw_dots(drafts, axes, "configuration")
    return [figures.get(f"{number}") for number in range(len(protocols))]


def _metric(panels: Sequence[Panel]) -> str:
    return SCORES[task_of(next(iter(panels[0].runs.values())).metrics)][0]


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
