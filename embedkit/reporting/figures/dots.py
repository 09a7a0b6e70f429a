"""Dots in rows: a number of every class or speaker, by series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from embedkit.reporting.figures.chart import COLOURS, Axis, Chart, line, mark, round_ticks, text, text_width

_WIDTH, _TOP, _BOTTOM, _ROW, _RIGHT = 400, 8, 40, 26, 16


@dataclass(frozen=True, kw_only=True)
class DotSeries:
    """One colour: its name, and the mean and the standard deviation in every row; None where there is none."""

    name: str
    values: Sequence[tuple[float, float] | None]


def draw_dots(title: str, names: Sequence[str], series: Sequence[DotSeries], *, x_label: str) -> Chart:
    """Draw one row per name, with bars of one standard deviation; numbers are percentages."""
    known = [pair for one in series for pair in one.values if pair is not None]
    ticks = round_ticks(
        min(max(mean - std, 0) for mean, std in known), max(min(mean + std, 100) for mean, std in known)
    )
    short = [name if len(name) <= 18 else f"{name[:8]}…{name[-9:]}" for name in names]
    left, right = 10 + max(map(text_width, short)), _WIDTH - _RIGHT
    bottom = _TOP + _ROW * len(names)
    x = Axis(ticks[0], ticks[-1], left, right)
    parts = [line(x(tick), _TOP, x(tick), bottom, "grid") for tick in ticks]
    parts += [text(x(tick), bottom + 16, f"{tick:g}", "middle") for tick in ticks]
    parts.append(text((left + right) / 2, bottom + 34, x_label, "middle"))
    between = min(4.5, (_ROW - 6) / max(len(series), 1))
    for row, name in enumerate(short):
        y = _TOP + _ROW * (row + 0.5)
        parts += [line(left, y, right, y, "grid"), text(left - 6, y + 4, name, "end")]
    for number, one in enumerate(series):
        parts.append(f'<g class="s{number % len(COLOURS)}">')
        for row, pair in enumerate(one.values):
            if pair is None:
                continue
            mean, std = pair
            y = _TOP + _ROW * (row + 0.5) + between * (number - (len(series) - 1) / 2)
            low, high = max(mean - std, ticks[0]), min(mean + std, ticks[-1])
            parts.append(line(x(low), y, x(high), y) if std else "")
            parts.append(mark(x(mean), y, number, f"{one.name}, {names[row]}: {mean:.1f} ±{std:.1f} %", 3))
        parts.append("</g>")
    values = [[one.values[row] for one in series] for row in range(len(names))]
    return Chart(
        title=title,
        body="".join(parts),
        width=_WIDTH,
        height=bottom + _BOTTOM,
        legend=tuple(one.name for one in series),
        headers=("", *(one.name for one in series)),
        rows=tuple(
            (name, *("-" if pair is None else f"{pair[0]:.1f}" for pair in found))
            for name, found in zip(names, values, strict=True)
        ),
    )
