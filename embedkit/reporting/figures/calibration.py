"""How far probabilities can be believed: reliability diagrams, and NLL beside that of guessing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from embedkit.evaluation.calibration import BINS, place_in_bins
from embedkit.reporting.figures.charts import Axes, Draft, Spread, draw_dots, draw_lines
from embedkit.reporting.figures.panels import Panel
from embedkit.reporting.figures.recall import Read
from embedkit.reporting.figures.theme import Figure
from embedkit.reporting.predictions import Predictions


def draw_calibration(panels: Sequence[Panel], read: Read) -> dict[str, Figure]:
    """Draw accuracy by confidence, before and after temperature scaling, and the NLL of every loss."""
    reliability, likelihood = {}, {}
    for panel in panels:
        found = {loss: read(record) for loss, record in panel.runs.items() if panel.classes}
        rows = {loss: record.metrics for loss, record in panel.runs.items() if record.metrics.get("nll") is not None}
        if found:
            known = any("nll_calibrated" in row for row in rows.values())
            for name in ("uncalibrated", "calibrated")[: 1 + known]:
                reliability[f"calibration-{name}-{panel.file_name}"] = Draft(
                    title=f"{panel.name}, reliability, {name}",
                    series={loss: _bins(own, calibrated=name == "calibrated") for loss, own in found.items()},
                    guess=(0, 100, "as sure as right"),
                )
        if found and rows:
            chance = math.log(panel.classes)
            likelihood[f"calibration-nll-{panel.file_name}"] = Draft(
                title=f"{panel.name}, NLL",
                series={
                    name: own
                    for name, key in (("uncalibrated", "nll"), ("calibrated", "nll_calibrated"))
                    if (own := _spreads(rows, key))
                },
                guess=(chance, chance, "chance"),
            )
    axes = Axes(place=f"confidence in %, {BINS} bins", value="accuracy in %", bounds=(0, 100), ends=(0, 100))
    return draw_lines(reliability, axes) | draw_dots(
        likelihood, Axes(place="loss", value="NLL in nats, lower is better", decimals=3), "loss"
    )


def _spreads(rows: Mapping[str, Mapping[str, Any]], key: str) -> dict[str, Spread]:
    known = {loss: row for loss, row in rows.items() if row.get(key) is not None}
    return {loss: (row[key], row.get(f"{key}_std") or 0.0) for loss, row in known.items()}


def _bins(found: Predictions, *, calibrated: bool) -> dict[float, Spread]:
    """Return accuracy and its deviation over seeds by the middles of bins, in percent, of bins that every seed has."""
    confidence = found.calibrated if calibrated else found.confidence
    inside = np.stack([place_in_bins(confidence) == number for number in range(BINS)])
    counts = inside.sum(-1)
    accuracy = 100 * (inside & found.hits).sum(-1) / np.maximum(counts, 1)
    std = accuracy.std(1, ddof=1) if len(found.hits) > 1 else np.zeros(BINS)
    return {
        round(100 * (number + 0.5) / BINS, 1): (float(accuracy[number].mean()), float(std[number]))
        for number in np.flatnonzero(counts.all(1))
    }
