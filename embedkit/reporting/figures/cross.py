"""The cross-corpus matrices as heat maps."""

from __future__ import annotations

from collections.abc import Sequence

from embedkit.reporting.cross import build_matrices
from embedkit.reporting.figures.charts import draw_heat
from embedkit.reporting.figures.theme import Figure
from embedkit.reporting.labels import Row
from embedkit.reporting.metrics import METRICS, SCORES, task_of


def draw_cross(rows: Sequence[Row]) -> dict[str, Figure]:
    """Draw the first score of every matrix, with its intervals and marks in the numbers beside."""
    charts = {}
    for number, matrix in enumerate(build_matrices(rows), 1):
        metric = SCORES[task_of(next(iter(matrix.entries.values())).row)][0]
        unit = f"{METRICS[metric].label} {METRICS[metric].unit}".strip()
        cells = matrix.cells(metric, "interval")
        charts[f"cross-{number}"] = draw_heat(f"{unit}, {matrix.title}", matrix.rows, matrix.columns, cells, unit)
    return charts
