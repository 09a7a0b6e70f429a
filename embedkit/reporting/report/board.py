"""All figures of a page: drawn, and as data of its script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from embedkit.reporting.figures.theme import Figure, write_svg

MOST_DRAWN = 1500
"""Figures of more rows are drawn by the page's script alone: their SVG would be large."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A figure as it is first shown, its number among what the script draws anew, and its numbers as a table."""

    title: str
    number: int
    svg: str
    headers: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Figures under one heading, with what they show."""

    heading: str
    note: str
    charts: Sequence[Drawn]


class Board:
    """Each figure's rows by column, and its specifications."""

    def __init__(self) -> None:
        self.data: list[Mapping[str, Any]] = []

    def add(self, variants: Mapping[str, Figure], *, title: str = "", note: str = "") -> Drawn:
        """Take figures of the same rows, of which the reader sees one."""
        first = next(iter(variants.values()))
        names = list(dict.fromkeys(name for row in first.data for name in row))
        specs = {
            key: {name: part for name, part in one.chart.items() if name != "$schema"} for key, one in variants.items()
        }
        self.data.append({"specs": specs, "data": {name: [row.get(name) for row in first.data] for name in names}})
        return Drawn(
            title=title or first.title,
            number=len(self.data) - 1,
            svg=Markup(write_svg(first.specification)) if len(first.data) <= MOST_DRAWN else "",
            headers=first.headers,
            rows=first.rows,
            note=note,
        )
