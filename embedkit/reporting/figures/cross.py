"""The cross-corpus matrices as heat maps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from embedkit.reporting.cross import Matrix, build_matrices
from embedkit.reporting.figures.charts import draw_heat
from embedkit.reporting.figures.theme import Figure
from embedkit.reporting.grid import Cell
from embedkit.reporting.labels import Row
from embedkit.reporting.metrics import METRICS, SCORES, task_of


def draw_cross(rows: Sequence[Row]) -> dict[str, Figure]:
    """Draw the first score of every matrix, with its intervals and marks in the numbers beside."""
    return {f"cross-{number}": one for number, one in enumerate(draw_matrices(build_matrices(rows)), 1)}


def draw_matrices(matrices: Sequence[Matrix]) -> list[Figure]:
    """Draw matrices, shaded alike where they are of one score."""
    metrics = [SCORES[task_of(next(iter(one.entries.values())).row)][0] for one in matrices]
    cells = [one.cells(metric, "interval") for one, metric in zip(matrices, metrics, strict=True)]
    values: dict[str, list[float]] = defaultdict(list)
    for metric, own in zip(metrics, cells, strict=True):
        values[metric] += [cell.mean for line in own for cell in line if cell is not None]
    return [
        _draw(matrix, metric, own, (min(values[metric]), max(values[metric])))
        for matrix, metric, own in zip(matrices, metrics, cells, strict=True)
    ]


def _draw(matrix: Matrix, metric: str, cells: Sequence[Sequence[Cell | None]], ends: tuple[float, float]) -> Figure:
    unit = f"{METRICS[metric].label} {METRICS[metric].unit}".strip()
    return draw_heat(f"{unit}, {matrix.title}", matrix.rows, matrix.columns, cells, unit, ends)
