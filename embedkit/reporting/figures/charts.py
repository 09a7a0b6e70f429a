"""The four kinds of figures: lines over numbers, dots in rows, matrices, maps of points."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import isfinite
from typing import Any, TypeAlias

import altair as alt
import numpy as np
from numpy.typing import NDArray

from embedkit.reporting.figures.theme import HEAT_TURN, LIGHT, Chart, Figure, fade, specify, tell_apart

Spread: TypeAlias = tuple[float, float]
"""Mean and standard deviation."""

SIDE = 400
"""Of maps; points lie between 0 and it."""

_CROWDED, _WRITTEN, _CROWD = 16, 12, 1500
"""Lines with more places have smaller points, matrices with more classes no numbers, maps with more points smaller
ones."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What one figure of a kind shows: by series and place a mean with its standard deviation.

    Attributes:
        title: What is shown.
        series: The numbers; those that are none are left out.
        chance: Value and name of what stands for guessing.
        spans: Words at a span of places that is shaded, from the first place to the one given.
        diagonal: Words at the line on which value and place are the same, both from 0 to 100.
    """

    title: str
    series: Mapping[str, Mapping[Any, Spread]]
    chance: tuple[float, str] | None = None
    spans: Mapping[str, float] = field(default_factory=dict)
    diagonal: str = ""

    def __post_init__(self) -> None:
        finite = {
            name: {at: (mean, std if isfinite(std) else 0.0) for at, (mean, std) in points.items() if isfinite(mean)}
            for name, points in self.series.items()
        }
        object.__setattr__(self, "series", {name: points for name, points in finite.items() if points})

    @property
    def places(self) -> list[Any]:
        """All places, in order of appearance."""
        return list(dict.fromkeys(place for points in self.series.values() for place in points))


@dataclass(frozen=True, kw_only=True)
class Axes:
    """What figures that are compared have in common.

    Attributes:
        place, value: Titles of the axes, with units.
        decimals: Of values in words.
        bounds: Ends of what values can be.
        log: Whether values stand on a logarithmic axis.
    """

    place: str
    value: str
    decimals: int = 1
    bounds: Spread | None = None
    log: bool = False

    def scale(self, drafts: Collection[Draft]) -> alt.Scale:
        """Return the scale of values that all drafts fit in."""
        pairs = [pair for one in drafts for points in one.series.values() for pair in points.values()]
        ends = [one.chance[0] for one in drafts if one.chance]
        ends += [self.clip(mean + sign * std) for mean, std in pairs for sign in (-1, 1)]
        ends += [0, 100] if any(one.diagonal for one in drafts) else []
        if self.log:
            ends = [mean for mean, _ in pairs if mean > 0]
            return alt.Scale(domain=[min(ends) / 1.1, max(ends) * 1.1], type="log", nice=False, clamp=True)
        return alt.Scale(domain=[min(ends), max(ends)], nice=True, zero=False)

    def clip(self, value: float) -> float:
        """Return a value within the bounds."""
        low, high = self.bounds or (-np.inf, np.inf)
        return float(np.clip(value, low, high))


def draw_lines(drafts: Mapping[str, Draft], axes: Axes) -> dict[str, Figure]:
    """Draw series over numbers, with bands of one standard deviation."""
    drafts = {name: one for name, one in drafts.items() if one.series}
    if not drafts:
        return {}
    every = [place for one in drafts.values() for place in [*one.places, *([0, 100] if one.diagonal else [])]]
    marked = range(0, 101, 20) if any(one.diagonal for one in drafts.values()) else every
    x = alt.X(
        "at:Q",
        title=axes.place,
        scale=alt.Scale(domain=[min(every), max(max(every), min(every) + 1)], nice=False, zero=False),
        axis=alt.Axis(grid=False, format="~f", values=sorted(set(marked))[:: -(-len(set(marked)) // 13)]),
    )
    y = axes.scale(drafts.values())
    return {
        name: _finish(one, axes, _lines(one, axes, x, y), _rows(one, axes, runs=True)) for name, one in drafts.items()
    }


def _lines(draft: Draft, axes: Axes, x: alt.X, scale: alt.Scale) -> Chart:
    base = alt.Chart().encode(x=x, y=alt.Y("mean:Q", title=axes.value, scale=scale))
    kinds = tell_apart(list(draft.series))
    crowded = len(draft.places) > _CROWDED
    around = {"y": alt.Y("low:Q", title=axes.value, scale=scale), "y2": "high:Q", "color": kinds["color"]}
    layers = [_span(draft, axes), base.mark_area(opacity=0.15).encode(**around, detail="run:N")]
    layers.append(base.mark_line(strokeWidth=2).encode(color=kinds["color"], detail="run:N"))
    dots = base.mark_point(filled=True, size=20 if crowded else 50, opacity=1)
    layers.append(dots.encode(**kinds, tooltip=_told(axes)))
    return alt.layer(
        *_guess(draft, alt.Y("chance:Q", title=axes.value, scale=scale)), *filter(None, layers)
    ).properties(width=320, height=210)


def _span(draft: Draft, axes: Axes) -> Chart | None:
    if not draft.spans:
        return None
    first = min(draft.places)
    data = [{"from": first, "to": end, "words": words} for words, end in draft.spans.items() if end > first]
    base = alt.Chart(alt.InlineData(values=data))
    shade = base.mark_rect(color=LIGHT["soft"], opacity=0.12).encode(x=alt.X("from:Q", title=axes.place), x2="to:Q")
    words = base.mark_text(align="left", baseline="top", dx=3, color=LIGHT["soft"], fontSize=11)
    return alt.layer(shade, words.encode(x=alt.X("from:Q", title=axes.place), y=alt.value(3), text="words:N"))


def draw_dots(drafts: Mapping[str, Draft], axes: Axes, role: str) -> dict[str, Figure]:
    """Draw a row for each place, with bars of one standard deviation; `role` says what rows are for a page's choice."""
    drafts = {name: one for name, one in drafts.items() if one.series}
    scale = axes.scale(drafts.values()) if drafts else alt.Scale()
    return {
        name: _finish(one, axes, _dots(one, axes, scale, role), [{**row, role: row["at"]} for row in _rows(one, axes)])
        for name, one in drafts.items()
    }


def _dots(draft: Draft, axes: Axes, scale: alt.Scale, role: str) -> Chart:
    names = list(draft.series)
    kinds = tell_apart(names)
    chosen = fade(speaker=role == "speaker", classes=("label",) if role == "label" else ())
    base = alt.Chart().encode(
        x=alt.X("mean:Q", title=axes.value, scale=scale),
        y=alt.Y("at:N", title=axes.place, sort=list(map(str, draft.places)), axis=alt.Axis(grid=True)),
        yOffset=alt.YOffset("series:N", sort=names, scale=alt.Scale(paddingOuter=0.4)),
        opacity=chosen,
    )
    bars = base.mark_rule(strokeWidth=1.5).encode(
        x=alt.X("low:Q", title=axes.value, scale=scale), x2="high:Q", color=kinds["color"]
    )
    dots = base.mark_point(filled=True, size=45).encode(**kinds, tooltip=_told(axes))
    height = alt.Step(max(24, 9 * len(names)), **{"for": "position"})
    return alt.layer(*_guess(draft, alt.X("chance:Q", title=axes.value, scale=scale)), bars, dots).properties(
        width=300, height=height
    )


def _told(axes: Axes) -> list[alt.Tooltip]:
    number = f".{axes.decimals}f"
    return [
        alt.Tooltip("series:N", title="series"),
        alt.Tooltip("at:N", title=axes.place),
        alt.Tooltip("mean:Q", title=axes.value, format=number),
        alt.Tooltip("std:Q", title="standard deviation", format=number),
    ]


def _guess(draft: Draft, along: alt.X | alt.Y) -> list[Chart]:
    """Draw a dashed line where guessing would be, or where value and place are the same."""
    looks: dict[str, Any] = {"color": LIGHT["soft"]}
    if draft.diagonal:
        ends = [{"at": 0, "chance": 0, "words": draft.diagonal}, {"at": 100, "chance": 100, "words": ""}]
        line = alt.Chart().mark_line(strokeDash=[5, 4], **looks)
        words = alt.Chart().mark_text(align="left", dx=24, dy=-6, fontSize=11, **looks)
        place: dict[str, Any] = {"x": alt.X("at:Q", title=None)}
    elif draft.chance:
        ends = [{"chance": draft.chance[0], "words": draft.chance[1]}]
        line = alt.Chart().mark_rule(strokeDash=[5, 4], **looks)
        sideways = isinstance(along, alt.X)
        words = alt.Chart().mark_text(align="left" if sideways else "right", dy=-6, fontSize=11, **looks)
        place = {"y": alt.value(0)} if sideways else {"x": alt.value("width")}
    else:
        return []
    channel = "x" if isinstance(along, alt.X) else "y"
    line = line.encode(**{channel: along}, **(place if draft.diagonal else {}))
    return [
        alt.layer(line, words.encode(**{channel: along}, **place, text="words:N"), data=alt.InlineData(values=ends))
    ]


def _rows(draft: Draft, axes: Axes, *, runs: bool = False) -> list[dict[str, Any]]:
    """Write the data; with `runs`, points between which a place of the smallest distance is missing are kept apart."""
    data = []
    for name, points in draft.series.items():
        keys = sorted(points) if runs else list(points)
        gaps = [after - before for before, after in pairwise(keys)] if runs else []
        run = 0
        for at, gap in zip(keys, [0, *gaps] if runs else [0] * len(keys), strict=True):
            mean, std = points[at]
            run += not draft.diagonal and gap > 1.01 * min(gaps, default=0)
            numbers = {"mean": mean, "std": std, "low": axes.clip(mean - std), "high": axes.clip(mean + std)}
            data.append({"series": name, "at": at, "run": run, **{key: round(one, 4) for key, one in numbers.items()}})
    return data


def _finish(draft: Draft, axes: Axes, chart: Chart, data: Sequence[Mapping[str, Any]]) -> Figure:
    def told(pair: Spread | None) -> str:
        return "-" if pair is None else f"{pair[0]:.{axes.decimals}f}"

    places = draft.places
    if all(isinstance(place, int | float) for place in places):
        places = sorted(places)
    return Figure(
        title=draft.title,
        chart=specify(chart),
        data=data,
        headers=(axes.place, *draft.series),
        rows=tuple((f"{at}", *(told(points.get(at)) for points in draft.series.values())) for at in places),
    )


def draw_matrix(title: str, names: Sequence[str], counts: NDArray[np.float64]) -> Figure:
    """Draw the share of every true class that was predicted as each class, from counts `[true, predicted]`."""
    totals = counts.sum(1, keepdims=True)
    shares = 100 * np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    data = [
        {"label": one, "predicted": other, "share": round(float(shares[row, column]), 2), "of": float(totals[row, 0])}
        for row, one in enumerate(names)
        for column, other in enumerate(names)
    ]
    order = list(names)
    base = alt.Chart().encode(
        x=alt.X(
            "predicted:N",
            title="predicted class, in % of the true class",
            sort=order,
            axis=alt.Axis(labelAngle=-40, labelLimit=100),
        ),
        y=alt.Y("label:N", title="true class", sort=order, axis=alt.Axis(labelLimit=100)),
        opacity=fade(classes=("label", "predicted")),
        tooltip=[
            alt.Tooltip("label:N", title="true class"),
            alt.Tooltip("predicted:N", title="predicted class"),
            alt.Tooltip("share:Q", title="% of the true class", format=".1f"),
            alt.Tooltip("of:Q", title="utterances of the true class"),
        ],
    )
    heat = alt.FillOpacity("share:Q", scale=alt.Scale(domain=[0, 100], range=[0, 1]), legend=None)
    cells = base.mark_rect(fill=LIGHT["heat"], stroke=LIGHT["grid"]).encode(fillOpacity=heat)
    turn = alt.condition(f"datum.share > {100 * HEAT_TURN}", alt.value(LIGHT["high"]), alt.value(LIGHT["low"]))
    numbers = base.mark_text().encode(text=alt.Text("share:Q", format=".0f"), color=turn)
    chart = alt.layer(cells, *([numbers] if len(names) <= _WRITTEN else [])).properties(width=270, height=270)
    rows = tuple((name, *(f"{share:.1f}" for share in row)) for name, row in zip(names, shares, strict=True))
    return Figure(title=title, chart=specify(chart), data=data, headers=("true class", *names), rows=rows)


def draw_points(
    title: str,
    data: Sequence[Mapping[str, Any]],
    *,
    by: str,
    places: tuple[str, str],
    axes: tuple[str, str],
    fields: Mapping[str, str],
) -> Figure:
    """Draw a map of points.

    Args:
        title: Of what.
        data: Of every point its places, from 0 to `SIDE`, and what is known.
        by: The field whose names have colours.
        places: The fields of the places.
        axes: Titles of the axes.
        fields: What is told of a point: titles of fields.
    """
    together = ("label", "predicted") if by in ("label", "predicted") else (by,)
    names = sorted({str(row[name]) for row in data for name in together if name in row})
    speaker = "speaker" in fields
    scale = alt.Scale(domain=[0, SIDE], nice=False)
    bare = alt.Axis(labels=False, ticks=False, grid=False)
    chart = (
        alt.Chart()
        .mark_point(filled=True, size=30 if len(data) <= _CROWD else 9)
        .encode(
            x=alt.X(f"{places[0]}:Q", title=axes[0], scale=scale, axis=bare),
            y=alt.Y(f"{places[1]}:Q", title=axes[1], scale=scale, axis=bare),
            **tell_apart(names, by),
            opacity=fade(speaker=speaker, classes=("label",)),
            tooltip=[alt.Tooltip(f"{name}:N", title=words) for name, words in fields.items()],
        )
        .properties(width=SIDE, height=SIDE)
    )
    return Figure(title=title, chart=specify(chart), data=data)
