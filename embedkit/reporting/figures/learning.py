"""How heads learned: training loss and validation score by epoch, and the weights they gave to layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embedkit.reporting.figures.chart import Chart
from embedkit.reporting.figures.lines import Series, draw_lines
from embedkit.reporting.figures.panels import Panel


def draw_curves(panels: Sequence[Panel]) -> dict[str, Chart]:
    """Draw validation score and training loss of what was chosen, from runs that keep them.

    Losses are shown as a share of what they were in the first epoch: those of different kinds have different units.
    """
    charts = {}
    for panel in panels:
        scores, losses, name = [], [], ""
        for loss, record in panel.runs.items():
            curves = record.load_curves() or {}
            dev, train = (np.array(curves.get(key) or [], dtype=np.float64) for key in ("dev", "loss"))
            if dev.size:
                name = str(curves["score"])
                scores += _series(loss, dev * (100 if name == "UA" else 1))
            if train.size and np.all(train[:, 0] > 0):
                losses += _series(loss, 100 * train / train[:, :1])
        if scores:
            unit, decimals = ("UAR (UA) in %", 1) if name == "UA" else (name, 3)
            charts[f"curves-dev-{panel.file_name}"] = draw_lines(
                f"{panel.name}, validation", scores, x_label="epoch", y_label=unit, decimals=decimals
            )
        if losses:
            charts[f"curves-loss-{panel.file_name}"] = draw_lines(
                f"{panel.name}, training", losses, x_label="epoch", y_label="loss in % of the first epoch's"
            )
    return charts


def draw_weights(panels: Sequence[Panel]) -> dict[str, Chart]:
    """Draw the share of every layer in the learned weighted sum of layers, over folds and seeds."""
    charts = {}
    for panel in panels:
        series = []
        for loss, record in panel.runs.items():
            found = [
                value.flatten().double().softmax(0).numpy()
                for name, value in record.load_heads().items()
                if name.endswith("layer_weights")
            ]
            layers = record.config["store"]["encoder"]["layers"]
            if found:
                series += _series(loss, 100 * np.stack(found), layers)
        if series:
            charts[f"weights-{panel.file_name}"] = draw_lines(
                f"{panel.name}, weights of the layers", series, x_label="layer", y_label="weight in %"
            )
    return charts


def _series(name: str, values: NDArray[np.float64], places: Sequence[int] | None = None) -> list[Series]:
    """Take mean and standard deviation over the first dimension; a place where nothing is known is left out."""
    known = np.isfinite(values.sum(axis=0))
    means: NDArray[np.float64] = values.mean(axis=0)
    deviations = values.std(0, ddof=1) if len(values) > 1 else np.zeros(len(means))
    numbers = places or range(1, len(means) + 1)
    points = {
        int(number): (float(mean), float(std))
        for number, mean, std, kept in zip(numbers, means, deviations, known, strict=True)
        if kept
    }
    return [Series(name=name, points=points)] if points else []
