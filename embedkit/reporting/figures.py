"""Figures of finished runs as SVG."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from embedkit.errors import ConfigError, RunError
from embedkit.registry import unknown_name
from embedkit.reporting.labels import Row, label_parts
from embedkit.reporting.metrics import METRICS
from embedkit.reporting.protocol import describe_title, split_by_protocol

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""The palette of Okabe and Ito (2008), which colour-blind readers can tell apart."""

_WIDTH, _HEIGHT = 640, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 150, 44, 48
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#222}.title{font-weight:600}.grid{stroke:#ddd}.axis{stroke:#222}"
    "polyline{fill:none;stroke-width:2}"
)


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line of a figure: its name, and per layer the mean and the standard deviation over seeds."""

    name: str
    points: Mapping[int, tuple[float, float]]


def draw_layers(rows: Iterable[Row], metric: str = "ua") -> dict[str, str]:
    """Draw a metric over an encoder's layers, one line per loss, from runs of `fit --layers each`.

    Args:
        rows: Rows of runs, as in `metrics.json`; those that are not of a single layer are left out.
        metric: "ua", "wa", "f1", "nll", "ece", or "ccc" (the mean over the dimensions).

    Returns:
        SVG by name, one for each corpus, encoder, head and protocol.

    Raises:
        RunError: no run is of a single layer.
        ConfigError: an unknown metric.
    """
    if metric not in METRICS:
        raise ConfigError(unknown_name("metric", metric, METRICS))
    single = [row for row in rows if row.get("layer") is not None and row.get(metric) is not None]
    if not single:
        raise RunError(f"No run of a single layer has {metric!r}; train some with embedkit fit --layers each.")
    figures: dict[str, str] = {}
    for group in split_by_protocol(single):
        heads = label_parts(group, "head")
        kinds = [(str(row["encoder"]), head) for row, head in zip(group, heads, strict=True)]
        for encoder, head in dict.fromkeys(kinds):
            own = [row for row, kind in zip(group, kinds, strict=True) if kind == (encoder, head)]
            name = f"layers-{own[0]['corpus']}-{encoder}-{head}-{metric}"
            number = sum(other == name or other.startswith(f"{name}-") for other in figures)
            title = f"{describe_title(own[0], metric)}: {encoder}, {head}"
            unique = name if not number else f"{name}-{number + 1}"
            figures[unique] = _draw(title, _series(own, metric), METRICS[metric].decimals)
    return figures


def _series(rows: Sequence[Row], metric: str) -> list[Series]:
    factor = METRICS[metric].factor
    names = label_parts(rows, "loss")
    return [
        Series(
            name=name,
            points={
                int(row["layer"]): (factor * row[metric], factor * (row.get(f"{metric}_std") or 0.0))
                for row, own in sorted(zip(rows, names, strict=True), key=lambda pair: int(pair[0]["layer"]))
                if own == name
            },
        )
        for name in dict.fromkeys(names)
    ]


def _draw(title: str, series: Sequence[Series], decimals: int) -> str:
    layers = sorted({layer for one in series for layer in one.points})
    ends = [mean + sign * std for one in series for mean, std in one.points.values() for sign in (-1, 1)]
    ticks = _ticks(min(ends), max(ends))

    def x(layer: float) -> float:
        span = max(layers[-1] - layers[0], 1)
        return _LEFT + (layer - layers[0]) / span * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (value - ticks[0]) / (ticks[-1] - ticks[0]) * (_HEIGHT - _TOP - _BOTTOM)

    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = [_text(_LEFT, 24, title, 'class="title"')]
    for tick in ticks:
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(_text(_LEFT - 8, y(tick) + 4, f"{tick:.{decimals}f}", 'text-anchor="end"'))
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    step = -(-len(layers) // 13)
    parts += [_text(x(layer), bottom + 20, str(layer), 'text-anchor="middle"') for layer in layers[::step]]
    parts.append(_text((_LEFT + right) / 2, bottom + 40, "layer", 'text-anchor="middle"'))
    for place, one in enumerate(series):
        colour = COLOURS[place % len(COLOURS)]
        dashes = "" if place < len(COLOURS) else ' stroke-dasharray="5 3"'
        line = " ".join(f"{x(layer):.1f},{y(mean):.1f}" for layer, (mean, _) in one.points.items())
        parts.append(f'<g stroke="{colour}" fill="{colour}"><polyline points="{line}"{dashes}/>')
        for layer, (mean, std) in one.points.items():
            told = f"{one.name}, layer {layer}: {mean:.{decimals}f} ±{std:.{decimals}f}"
            parts.append(
                f'<line x1="{x(layer):.1f}" x2="{x(layer):.1f}" y1="{y(mean - std):.1f}" y2="{y(mean + std):.1f}"/>'
                f'<circle cx="{x(layer):.1f}" cy="{y(mean):.1f}" r="3.5"><title>{escape(told)}</title></circle>'
            )
        height = _TOP + 12 + 20 * place
        parts.append(
            f'<line x1="{right + 12}" x2="{right + 32}" y1="{height}" y2="{height}" stroke-width="2"{dashes}/>'
        )
        parts.append(f"</g>{_text(right + 38, height + 4, one.name)}")
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" role="img" aria-label="{escape(title)}">\n<style>{_STYLE}</style>\n'
        f'<rect width="100%" height="100%" fill="#fff"/>\n{body}\n</svg>\n'
    )


def _text(x: float, y: float, text: str, attributes: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {attributes}>{escape(text)}</text>'


def _ticks(low: float, high: float) -> list[float]:
    """Return four to eight round numbers that span a range."""
    span = max(high - low, 1e-3)
    power = 10.0
    while power > span:
        power /= 10
    step = next(power * factor for factor in (0.2, 0.5, 1, 2, 5, 10, 20) if span / (power * factor) <= 6)
    first = int(low // step)
    ticks: list[Any] = [first * step]
    while ticks[-1] < high:
        ticks.append((first + len(ticks)) * step)
    return ticks if len(ticks) > 1 else [ticks[0], ticks[0] + step]
