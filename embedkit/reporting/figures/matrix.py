"""Confusion matrices: rows are true classes, columns predicted ones."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from embedkit.reporting.figures.chart import HEAT_TURN, Chart, text, text_width

_SIDE, _TOP, _WRITTEN = 280, 8, 12
"""Cells of more than `_WRITTEN` classes are too small for numbers."""


def draw_matrix(title: str, names: Sequence[str], counts: NDArray[np.float64]) -> Chart:
    """Draw the share of every true class that was predicted as each class, from counts `[true, predicted]`."""
    totals = counts.sum(1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    short = [name if len(name) <= 14 else f"{name[:13]}…" for name in names]
    room = max(map(text_width, short))
    left, cell = 30 + room, _SIDE / len(names)
    bottom = _TOP + _SIDE
    parts = [
        f'<g transform="translate(14 {_TOP + _SIDE / 2:.0f}) rotate(-90)">{text(0, 0, "true class", "middle")}</g>'
    ]
    for row, name in enumerate(names):
        y = _TOP + cell * row
        parts.append(text(left - 6, y + cell / 2 + 4, short[row], "end"))
        for column, other in enumerate(names):
            share = shares[row, column]
            told = f"{name} predicted as {other}: {100 * share:.1f} % ({counts[row, column]:.1f} of {totals[row, 0]:g})"
            parts.append(
                f'<g><title>{escape(told)}</title><rect class="grid" fill="none" x="{left + cell * column:.1f}" '
                f'y="{y:.1f}" width="{cell:.1f}" height="{cell:.1f}"/><rect class="heat" fill-opacity="{share:.3f}" '
                f'x="{left + cell * column:.1f}" y="{y:.1f}" width="{cell:.1f}" height="{cell:.1f}"/>'
            )
            if len(names) <= _WRITTEN:
                kind = "middle high" if share > HEAT_TURN else "middle low"
                parts.append(text(left + cell * (column + 0.5), y + cell / 2 + 4, f"{100 * share:.0f}", kind))
            parts.append("</g>")
    for column, name in enumerate(short):
        place = f"translate({left + cell * (column + 0.5) + 3:.1f} {bottom + 10:.1f}) rotate(-40)"
        parts.append(f'<g transform="{place}">{text(0, 0, name, "end")}</g>')
    height = bottom + 30 + 0.66 * room
    parts.append(text(left + _SIDE / 2, height - 4, "predicted (row-normalised, %)", "middle"))
    return Chart(
        title=title,
        body="".join(parts),
        width=left + _SIDE + 8,
        height=height,
        headers=("true class", *names),
        rows=tuple((name, *(f"{100 * share:.1f}" for share in row)) for name, row in zip(names, shares, strict=True)),
    )
