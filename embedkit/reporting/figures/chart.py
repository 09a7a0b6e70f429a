"""A chart as SVG, for a page that styles it or as a file of its own; colours, axes and text that all charts share.

Shapes carry classes instead of colours, so that a page can draw them light or dark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

COLOURS = ("#0072b2", "#d55e00", "#008f68", "#b8578f", "#a66f00", "#3d8fc4", "#1f2328")
"""After the palette of Okabe and Ito (2008), which colour-blind readers can tell apart; its bright colours darkened,
so that all stand out from white (contrast of at least 3)."""

DARK_COLOURS = ("#4aa3df", "#f0803c", "#2fc296", "#dd8fbb", "#e6a72a", "#9ad4f7", "#f2f2f2")
"""The same for a dark page."""

LIGHT = {
    "paper": "#ffffff",
    "ink": "#1f2328",
    "soft": "#57606a",
    "grid": "#d8dee4",
    "heat": "#003e82",
    "low": "#000000",
    "high": "#ffffff",
    **{f"s{place}": colour for place, colour in enumerate(COLOURS)},
}
DARK = {
    "paper": "#14171c",
    "ink": "#e6e9ed",
    "soft": "#a3acb7",
    "grid": "#353c45",
    "heat": "#64a2e3",
    "low": "#ffffff",
    "high": "#000000",
    **{f"s{place}": colour for place, colour in enumerate(DARK_COLOURS)},
}
"""What the classes of shapes look like. Cells of `heat` that are more opaque than `HEAT_TURN` take text of `high`."""

HEAT_TURN = 0.7
FONT = 12
_LETTER = 0.56 * FONT
"""Usual width of a letter, for room beside axes."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A drawing, what it is called, and its numbers.

    Attributes:
        title: What is shown.
        body: Shapes as SVG.
        width, height: Of the drawing.
        legend: Names of the series, in the order of their colours.
        kinds: How points look, in the order in which they are used up; none where they are circles.
        headers, rows: The numbers drawn, as a table.
    """

    title: str
    body: str
    width: float
    height: float
    legend: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()

    def inline(self) -> str:
        """Draw for a page that has the styles, the title and the legend."""
        return _svg(self.title, self.width, self.height, self.body)

    def standalone(self) -> str:
        """Draw as a file, in light colours, with title and legend."""
        head = 32.0
        beside = 34 + _LETTER * max((len(name) for name in self.legend), default=-5)
        width, height = max(self.width + beside, _LETTER * 1.1 * len(self.title) + 16), self.height + head
        keys = [
            f'<g class="s{place % len(COLOURS)}">{self.key(self.width + 12, head + 14 + 20 * place, place)}</g>'
            + text(self.width + 22, head + 18 + 20 * place, name)
            for place, name in enumerate(self.legend)
        ]
        style = f"<style>{write_styles(LIGHT.__getitem__)}</style>"
        paper = f'<rect width="{width:.0f}" height="{height:.0f}" fill="{LIGHT["paper"]}"/>'
        title = text(8, 20, self.title, "title")
        body = f'{style}{paper}{title}<g transform="translate(0 {head:.0f})">{self.body}</g>{"".join(keys)}'
        return _svg(self.title, width, max(height, head + 20 * len(self.legend) + 8), body) + "\n"

    def key(self, x: float, y: float, place: int) -> str:
        """Draw a point of the series at a place, as it looks in the legend."""
        if not self.kinds:
            return mark(x, y, place)
        kind = self.kinds[place // len(COLOURS) % len(self.kinds)]
        return f'<path class="{kind}" d="{points_path([(x, y)], kind)}"/>'


def points_path(points: Iterable[Sequence[float]], kind: str) -> str:
    """Write the path of points that look alike: a few letters each, where circles would take many."""
    return "".join(
        f"M{x:.1f} {y:.1f}{'m-2-2l4 4m0-4l-4 4' if kind.startswith('crosses') else 'h.01'}" for x, y in points
    )


def write_styles(colour: Callable[[str], str]) -> str:
    """Write the style sheet of charts; `colour` gives the value of a name of `LIGHT`."""
    rules = [
        f"svg text{{font-family:Helvetica,Arial,sans-serif;font-size:{FONT}px;fill:{colour('ink')};stroke:none}}",
        "svg .title{font-weight:bold;font-size:13px}svg .end{text-anchor:end}svg .middle{text-anchor:middle}",
        f"svg .grid{{stroke:{colour('grid')}}}svg .axis{{stroke:{colour('soft')}}}svg .heat{{fill:{colour('heat')}}}",
        f"svg .low{{fill:{colour('low')}}}svg .high{{fill:{colour('high')}}}",
        "svg .line{fill:none;stroke-width:2}svg .dashed{stroke-dasharray:5 3}svg .band{stroke:none;fill-opacity:.15}",
        "svg .dots{fill:none;stroke-width:5;stroke-linecap:round;stroke-opacity:.8}",
        "svg .squares{fill:none;stroke-width:4.5;stroke-linecap:square;stroke-opacity:.8}",
        "svg .crosses{fill:none;stroke-width:1.4}svg .small{stroke-width:2.6}",
        *(f"svg .s{place}{{fill:{colour(f's{place}')};stroke:{colour(f's{place}')}}}" for place in range(len(COLOURS))),
        f"svg .hollow{{fill:{colour('paper')}}}",
    ]
    return "".join(rules)


def mark(x: float, y: float, place: int, told: str = "", radius: float = 3.5) -> str:
    """Draw a point of the series at a place; those that take a colour again are hollow."""
    hollow = ' class="hollow" stroke-width="1.5"' if place >= len(COLOURS) else ""
    title = f"<title>{escape(told)}</title>" if told else ""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"{hollow}>{title}</circle>'


def text(x: float, y: float, words: str, kind: str = "") -> str:
    """Write words; `kind` names classes."""
    name = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{name}>{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str = "") -> str:
    """Draw a straight line; `kind` names classes."""
    name = f' class="{kind}"' if kind else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"{name}/>'


def text_width(words: str) -> float:
    """Return about how wide words are."""
    return _LETTER * len(words)


@dataclass(frozen=True)
class Axis:
    """Maps values from `low` to `high` to places from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / ((self.high - self.low) or 1) * (self.end - self.start)


def round_ticks(low: float, high: float) -> list[float]:
    """Return two to eight round numbers that span a range."""
    span = max(high - low, 1e-3)
    power = 10.0
    while power > span:
        power /= 10
    while power * 10 <= span:
        power *= 10
    step = next(power * factor for factor in (0.2, 0.5, 1, 2, 5, 10, 20) if span / (power * factor) <= 6)
    first = int(low // step)
    ticks: list[Any] = [first * step]
    while ticks[-1] < high - 1e-9 * step:
        ticks.append((first + len(ticks)) * step)
    return ticks if len(ticks) > 1 else [ticks[0], ticks[0] + step]


def file_names(charts: Mapping[str, Chart]) -> dict[str, Chart]:
    """Make harmless file names, without an ending, of the names of charts."""
    safe = {
        name: "".join(letter if letter.isalnum() or letter in "-_+.@=" else "-" for letter in name) for name in charts
    }
    found: dict[str, Chart] = {}
    for name, chart in charts.items():
        number = sum(other == safe[name] or other.startswith(f"{safe[name]}-#") for other in found)
        found[safe[name] if not number else f"{safe[name]}-#{number + 1}"] = chart
    return {name.replace("#", ""): chart for name, chart in found.items()}


def _svg(title: str, width: float, height: float, body: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" aria-label="{escape(title)}">{body}</svg>'
    )
