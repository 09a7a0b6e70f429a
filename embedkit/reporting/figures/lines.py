"""Lines over whole numbers: layers, epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from embedkit.reporting.figures.chart import COLOURS, Axis, Chart, line, mark, round_ticks, text, text_width

_WIDTH, _HEIGHT, _TOP, _BOTTOM, _RIGHT = 400, 260, 12, 40, 12


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line: its name, and the mean and the standard deviation at every place."""

    name: str
    points: Mapping[int, tuple[float, float]]


def draw_lines(title: str, series: Sequence[Series], *, x_label: str, y_label: str, decimals: int = 1) -> Chart:
    """Draw series with bars, or with bands where there are many points, of one standard deviation."""
    places = sorted({place for one in series for place in one.points})
    ends = [mean + sign * std for one in series for mean, std in one.points.values() for sign in (-1, 1)]
    ticks = round_ticks(min(ends), max(ends))
    labels = [f"{tick:.6g}" for tick in ticks]
    left = 30 + max(map(text_width, labels))
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    x = Axis(places[0], max(places[-1], places[0] + 1), left, right)
    y = Axis(ticks[0], ticks[-1], bottom, _TOP)
    parts = [line(left, y(tick), right, y(tick), "grid") for tick in ticks]
    parts += [text(left - 6, y(tick) + 4, label, "end") for tick, label in zip(ticks, labels, strict=True)]
    parts.append(line(left, bottom, right, bottom, "axis"))
    step = -(-len(places) // 13)
    parts += [text(x(place), bottom + 16, str(place), "middle") for place in places[::step]]
    parts.append(text((left + right) / 2, bottom + 34, x_label, "middle"))
    parts.append(
        f'<g transform="translate(14 {(bottom + _TOP) / 2:.0f}) rotate(-90)">{text(0, 0, y_label, "middle")}</g>'
    )
    crowded = len(places) > 16
    for number, one in enumerate(series):
        told = f"{one.name}, {x_label}"
        parts.append(f'<g class="s{number % len(COLOURS)}">')
        parts += [_spread(run, x, y, crowded=crowded) + _path(run, x, y, number) for run in _runs(one.points)]
        parts += [
            mark(
                x(place),
                y(mean),
                number,
                f"{told} {place}: {mean:.{decimals}f} ±{std:.{decimals}f}",
                2 if crowded else 3.5,
            )
            for place, (mean, std) in one.points.items()
        ]
        parts.append("</g>")
    rows = []
    for place in places:
        found = [one.points.get(place) for one in series]
        rows.append((str(place), *("-" if pair is None else f"{pair[0]:.{decimals}f}" for pair in found)))
    return Chart(
        title=title,
        body="".join(parts),
        width=_WIDTH,
        height=_HEIGHT,
        legend=tuple(one.name for one in series),
        headers=(x_label, *(one.name for one in series)),
        rows=tuple(rows),
    )


_Run = list[tuple[int, tuple[float, float]]]


def _runs(points: Mapping[int, tuple[float, float]]) -> list[_Run]:
    """Split where a layer or an epoch is missing between two that are there in steps of the smallest distance."""
    ordered = sorted(points.items())
    smallest = min((after[0] - before[0] for before, after in pairwise(ordered)), default=1)
    runs: list[_Run] = [[]]
    for point in ordered:
        if runs[-1] and point[0] - runs[-1][-1][0] > smallest:
            runs.append([])
        runs[-1].append(point)
    return runs


def _path(run: _Run, x: Axis, y: Axis, number: int) -> str:
    dashed = " dashed" if number >= len(COLOURS) else ""
    points = " ".join(f"{x(place):.1f},{y(mean):.1f}" for place, (mean, _) in run)
    return f'<polyline class="line{dashed}" points="{points}"/>' if len(run) > 1 else ""


def _spread(run: _Run, x: Axis, y: Axis, *, crowded: bool) -> str:
    if not any(std for _, (_, std) in run):
        return ""
    if not crowded:
        return "".join(line(x(place), y(mean - std), x(place), y(mean + std)) for place, (mean, std) in run)
    above = [f"{x(place):.1f},{y(mean + std):.1f}" for place, (mean, std) in run]
    below = [f"{x(place):.1f},{y(mean - std):.1f}" for place, (mean, std) in reversed(run)]
    return f'<polygon class="band" points="{" ".join(above + below)}"/>'
