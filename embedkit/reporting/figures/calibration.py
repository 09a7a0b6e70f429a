"""How far probabilities can be believed: reliability diagrams, and NLL beside that of guessing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from embedkit.evaluation.calibration import BINS, place_in_bins
from embedkit.reporting.figures.charts import Axes, Draft, Spread, draw_dots, draw_lines
from embedkit.reporting.figures.panels import Panel
from embedkit.reporting.figures.recall import Read
from embedkit.reporting.figures.theme import Figure
from embedkit.reporting.predictions import Predictions


def draw_calibration(panels: Sequence[Panel], read: Read) -> dict[str, Figure]:
    """Draw accuracy by confidence, in the bins of the ECE, and the NLL of every loss."""
    reliability, likelihood = {}, {}
    for panel in panels:
        found = {loss: read(record) for loss, record in panel.runs.items()}
        series = {loss: _bins(own) for loss, own in found.items() if len(own.truth)}
        if series:
            reliability[f"calibration-{panel.file_name}"] = Draft(
                title=f"{panel.name}, reliability", series=series, diagonal="as sure as right"
            )
        rows = {loss: record.metrics for loss, record in panel.runs.items()}
        scores = {
            "NLL": {loss: (row["nll"], row.get("nll_std") or 0.0) for loss, row in rows.items() if row.get("nll")}
        }
        if scores["NLL"] and panel.chance:
            likelihood[f"calibration-nll-{panel.file_name}"] = Draft(
                title=f"{panel.name}, NLL", series=scores, chance=(math.log(100 / panel.chance[0]), "chance")
            )
    axes = Axes(place=f"confidence in %, {BINS} bins", value="accuracy in %", bounds=(0, 100))
    return draw_lines(reliability, axes) | draw_dots(
        likelihood, Axes(place="loss", value="NLL in nats, less is better", decimals=3), "loss"
    )


def _bins(found: Predictions) -> dict[float, Spread]:
    """Return accuracy and its deviation over seeds by the middles of bins, in percent, of bins that every seed has."""
    places = place_in_bins(found.confidence)
    points = {}
    for number in range(BINS):
        inside = places == number
        if inside.any(axis=1).all():
            own = np.array([hits[row].mean() for hits, row in zip(found.hits, inside, strict=True)])
            std = 100 * float(own.std(ddof=1)) if len(own) > 1 else 0.0
            points[round(100 * (number + 0.5) / BINS, 1)] = (100 * float(own.mean()), std)
    return points
