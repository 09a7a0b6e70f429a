"""The four kinds of figures: lines over numbers, dots in rows, matrices, maps of points."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import isfinite
from typing import Any, TypeAlias

import altair as alt
import numpy as np
from numpy.typing import NDArray

from embedkit.reporting.figures.theme import COUNTS, HEAT_TURN, LIGHT, Chart, Figure, fade, specify, tell_apart
from embedkit.reporting.grid import Cell

Spread: TypeAlias = tuple[float, float]
"""Mean and standard deviation."""

SIDE = 400
"""Of maps; points lie between 0 and it."""

SOFT = LIGHT["soft"]
SMALL: Mapping[str, Any] = {"color": SOFT, "fontSize": 11}
_CROWDED, _WRITTEN, _CROWD, _LONG = 16, 12, 1500, 260
"""Lines with more places have smaller points, matrices with more classes no numbers, maps with more points smaller
ones, and names of configurations are cut that are longer, in pixels."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What one figure of a kind shows: by series and place a mean with its standard deviation.

    Attributes:
        title: What is shown.
        series: The numbers; those that are none leave a gap.
        guess: A dashed line: its values at the first and the last place, and its name.
        spans: Words at a span of places that is shaded, from the first place to the one given.
        intervals: What is drawn about a mean in place of the deviation, by series and place; None where unknown.
    """

    title: str
    series: Mapping[str, Mapping[Any, Spread]]
    guess: tuple[float, float, str] | None = None
    spans: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, Mapping[Any, Spread | None]] | None = None


@dataclass(frozen=True, kw_only=True)
class Axes:
    """What figures that are compared have in common.

    Attributes:
        place, value: Titles of the axes, with units.
        decimals: Of values in words.
        bounds: Ends of what values can be.
        ends: First and last place; those of the numbers where there are none.
        log: Whether values stand on a logarithmic axis.
    """

    place: str
    value: str
    decimals: int = 1
    bounds: Spread = (-np.inf, np.inf)
    ends: Spread | None = None
    log: bool = False


def draw_lines(drafts: Mapping[str, Draft], axes: Axes) -> dict[str, Figure]:
    """Draw series over numbers, with bands of one standard deviation."""
    return _draw(drafts, axes, _lines)


def draw_dots(drafts: Mapping[str, Draft], axes: Axes, role: str) -> dict[str, Figure]:
    """Draw a row for each place, with bars of one standard deviation; `role` says what rows are for a page's choice."""
    return _draw(drafts, axes, partial(_dots, role=role), role)


def _draw(
    drafts: Mapping[str, Draft],
    axes: Axes,
    draw: Callable[[Draft, Axes, alt.Scale, list[Any]], Chart],
    role: str = "at",
) -> dict[str, Figure]:
    """Draw figures whose values stand on one axis, and whose places too."""
    data = {name: rows for name, one in drafts.items() if (rows := _rows(one, axes, role))}
    ends = [row[end] for rows in data.values() for row in rows for end in ("low", "high") if row["mean"] is not None]
    ends += [value for name in data if (guess := drafts[name].guess) for value in guess[:2]]
    if not ends:
        return {}
    kind = {"type": "log", "nice": False} if axes.log else {"nice": True, "zero": False}
    scale = alt.Scale(domain=[min(ends), max(ends)], **kind)
    places = list(dict.fromkeys(row["at"] for rows in data.values() for row in rows))
    return {
        name: Figure(
            title=drafts[name].title,
            chart=specify(draw(drafts[name], axes, scale, places)),
            data=rows,
            headers=(axes.place, *drafts[name].series),
            rows=_tabulate(drafts[name], axes),
        )
        for name, rows in data.items()
    }


def _rows(draft: Draft, axes: Axes, role: str) -> list[dict[str, Any]]:
    data = []
    for name, points in draft.series.items():
        for at, (mean, std) in points.items():
            std = std if isfinite(std) else 0.0
            if axes.log:
                # Losses are kept to five digits.
                mean = max(mean, 1e-5)
            ends = [max(mean - std, mean / 10) if axes.log else mean - std, mean + std]
            if draft.intervals is not None:
                ends = list(draft.intervals[name].get(at) or (mean, mean))
            low, high = np.clip(ends, *axes.bounds)
            numbers = {"mean": mean, "std": std, "low": low, "high": high}
            known = {key: round(float(value), 5) if isfinite(mean) else None for key, value in numbers.items()}
            data.append({"series": name, "at": at, role: at, **known})
    return data if any(row["mean"] is not None for row in data) else []


def _tabulate(draft: Draft, axes: Axes) -> tuple[tuple[str, ...], ...]:
    places = dict.fromkeys(place for points in draft.series.values() for place in points)

    def write(name: str, at: Any) -> str:
        mean = draft.series[name].get(at, (np.nan, 0.0))[0]
        ends = (draft.intervals or {}).get(name, {}).get(at)
        told = f" [{', '.join(f'{end:.{axes.decimals}f}' for end in ends)}]" if ends else ""
        return f"{mean:.{axes.decimals}f}{told}" if isfinite(mean) else "-"

    return tuple((f"{at}", *(write(name, at) for name in draft.series)) for at in places)


def _lines(draft: Draft, axes: Axes, scale: alt.Scale, places: list[Any]) -> Chart:
    first, last = axes.ends or (min(places), max(max(places), min(places) + 1))
    marked = sorted(places)[:: -(-len(places) // 13)] if axes.ends is None else list(np.linspace(first, last, 6))
    x = alt.X(
        "at:Q",
        title=axes.place,
        scale=alt.Scale(domain=[first, last], nice=False, zero=False),
        axis=alt.Axis(grid=False, format="~f", values=marked),
    )
    y, kinds = partial(alt.Y, title=axes.value, scale=scale), tell_apart(list(draft.series))
    base = alt.Chart().encode(x=x, y=y("mean:Q"))
    spans = [{"at": first, "to": end, "words": words} for words, end in draft.spans.items() if end > first]
    value, final, name = draft.guess or (0.0, 0.0, "")
    guess = [{"at": first, "mean": value, "words": name}, {"at": last, "mean": final, "words": ""}] if name else []
    aside = alt.Chart().encode(x=x, text="words:N")
    return alt.layer(
        alt.Chart(alt.InlineData(values=spans)).mark_rect(color=SOFT, opacity=0.12).encode(x=x, x2="to:Q"),
        aside.mark_text(align="left", baseline="top", dx=3, **SMALL)
        .encode(y=alt.value(3))
        .properties(data=alt.InlineData(values=spans)),
        base.mark_line(strokeDash=[5, 4], strokeWidth=1, color=SOFT).properties(data=alt.InlineData(values=guess)),
        aside.mark_text(align="left", dx=24 if value != final else 4, dy=-6, **SMALL)
        .encode(y=y("mean:Q"))
        .properties(data=alt.InlineData(values=guess)),
        base.mark_area(opacity=0.15).encode(y=y("low:Q"), y2="high:Q", color=kinds["color"]),
        base.mark_line(strokeWidth=2).encode(color=kinds["color"]),
        base.mark_point(filled=True, size=20 if len(places) > _CROWDED else 50, opacity=1).encode(
            **kinds, tooltip=_told(draft, axes)
        ),
    ).properties(width=320, height=210)


def _dots(draft: Draft, axes: Axes, scale: alt.Scale, places: list[Any], role: str) -> Chart:
    names = list(draft.series)
    x, kinds = partial(alt.X, title=axes.value, scale=scale, axis=alt.Axis(tickCount=6)), tell_apart(names)
    order, limit = [str(place) for place in places], _LONG if role == "configuration" else alt.Undefined
    base = alt.Chart().encode(
        x=x("mean:Q"),
        y=alt.Y("at:N", title=axes.place, sort=order, axis=alt.Axis(grid=True, labelLimit=limit)),
        yOffset=alt.YOffset("series:N", sort=names, scale=alt.Scale(paddingOuter=0.4)),
        opacity=fade(speaker=role == "speaker", classes=("label",) if role == "label" else ()),
    )
    guess = alt.InlineData(values=[{"mean": draft.guess[0], "words": draft.guess[2]}] if draft.guess else [])
    aside = alt.Chart(guess).encode(x=x("mean:Q"))
    return alt.layer(
        aside.mark_rule(strokeDash=[5, 4], color=SOFT),
        aside.mark_text(align="left", dy=-6, **SMALL).encode(y=alt.value(0), text="words:N"),
        base.mark_rule(strokeWidth=1.5).encode(x=x("low:Q"), x2="high:Q", color=kinds["color"]),
        base.mark_point(filled=True, size=45).encode(**kinds, tooltip=_told(draft, axes)),
    ).properties(width=300, height=alt.Step(max(24, 9 * len(names)), **{"for": "position"}))


def _told(draft: Draft, axes: Axes) -> list[alt.Tooltip]:
    fields = {"series:N": "series", "at:N": axes.place, "mean:Q": axes.value}
    fields |= {"std:Q": "standard deviation"} if draft.intervals is None else {"low:Q": "from", "high:Q": "to"}
    return [
        alt.Tooltip(name, title=title, format=f".{axes.decimals}f" if name.endswith("Q") else alt.Undefined)
        for name, title in fields.items()
    ]


def draw_matrix(title: str, names: Sequence[str], counts: NDArray[np.float64]) -> Figure:
    """Draw the share of every true class that was predicted as each class, from counts `[true, predicted]`."""
    totals = counts.sum(1, keepdims=True)
    shares = 100 * np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    data = [
        {
            "label": one,
            "predicted": other,
            "share": round(float(shares[row, column]), 2),
            "count": round(float(counts[row, column]), 2),
            "of": float(totals[row, 0]),
        }
        for row, one in enumerate(names)
        for column, other in enumerate(names)
    ]
    order = list(names)
    base = alt.Chart().encode(
        x=alt.X(
            "predicted:N",
            title="predicted class",
            sort=order,
            axis=alt.Axis(labelAngle=-40, labelLimit=100),
        ),
        y=alt.Y("label:N", title="true class", sort=order, axis=alt.Axis(labelLimit=100)),
        opacity=fade(classes=("label", "predicted")),
        tooltip=[
            alt.Tooltip("label:N", title="true class"),
            alt.Tooltip("predicted:N", title="predicted class"),
            alt.Tooltip("share:Q", title="% of the true class", format=".1f"),
            alt.Tooltip("count:Q", title="utterances, mean over seeds", format=".1~f"),
            alt.Tooltip("of:Q", title="utterances of the true class"),
        ],
    )
    heat = alt.FillOpacity("share:Q", scale=alt.Scale(domain=[0, 100], range=[0, 1]), legend=None)
    cells = base.mark_rect(fill=LIGHT["heat"], stroke=LIGHT["grid"]).encode(fillOpacity=heat)
    turn = alt.condition(f"datum.share > {100 * HEAT_TURN}", alt.value(LIGHT["high"]), alt.value(LIGHT["low"]))
    written = f"{COUNTS} ? format(datum.count, '.1~f') : format(datum.share, '.0f')"
    numbers = base.transform_calculate(written=written).mark_text().encode(text="written:N", color=turn)
    units = alt.Chart(alt.InlineData(values=[{}])).mark_text(align="left", **SMALL)
    unit = units.transform_calculate(written=f"{COUNTS} ? 'utterances, mean over seeds' : 'in % of the true class'")
    above = unit.encode(x=alt.value(0), y=alt.value(-9), text="written:N")
    shown = [cells, numbers] if len(names) <= _WRITTEN else [cells]
    chart = alt.layer(*shown, above).properties(width=270, height=270)
    rows = tuple(
        (name, *(f"{share:.1f} ({count:.1f})" for share, count in zip(*row, strict=True)))
        for name, *row in zip(names, shares, counts, strict=True)
    )
    return Figure(title=title, chart=specify(chart), data=data, headers=("true class", *names), rows=rows)


def draw_heat(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Sequence[Sequence[Cell | None]],
    unit: str,
    ends: Spread,
) -> Figure:
    """Draw the numbers of a table, `[rows][columns]`, as a map, shaded from the lower end to the higher one.

    What is not there stays empty.
    """
    data = [
        {
            "trained": row,
            "tested": column,
            "mean": cell.mean,
            "words": f"{cell.number} {cell.mark}".strip(),
            "told": told,
        }
        for row, own in zip(rows, cells, strict=True)
        for column, cell in zip(columns, own, strict=True)
        if cell is not None
        for told in (f"{cell.number} {cell.spread} {cell.mark}".strip(),)
    ]
    low, high = ends[0], max(ends[1], ends[0] + 1e-9)
    base = alt.Chart().encode(
        x=alt.X("tested:N", title="tested on", sort=list(columns), axis=alt.Axis(labelAngle=-40, labelLimit=140)),
        y=alt.Y("trained:N", title="trained on", sort=list(rows), axis=alt.Axis(labelLimit=140)),
        tooltip=[
            alt.Tooltip("trained:N", title="trained on"),
            alt.Tooltip("tested:N", title="tested on"),
            alt.Tooltip("told:N", title=unit),
        ],
    )
    heat = alt.FillOpacity("mean:Q", scale=alt.Scale(domain=[low, high], range=[0.1, 1]), legend=None)
    squares = base.mark_rect(fill=LIGHT["heat"], stroke=LIGHT["grid"]).encode(fillOpacity=heat)
    turn = low + (HEAT_TURN - 0.1) / 0.9 * (high - low)
    colour = alt.condition(f"datum.mean > {turn}", alt.value(LIGHT["high"]), alt.value(LIGHT["low"]))
    numbers = base.mark_text().encode(text="words:N", color=colour)
    chart = alt.layer(squares, numbers).properties(width=alt.Step(70), height=alt.Step(40))
    known = {(one["trained"], one["tested"]): str(one["told"]) for one in data}
    listed = tuple((row, *(known.get((row, column), "-") for column in columns)) for row in rows)
    return Figure(title=title, chart=specify(chart), data=data, headers=("trained on", *columns), rows=listed)


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
