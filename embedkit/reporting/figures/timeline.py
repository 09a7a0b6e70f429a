"""Probabilities, or ratings, over the time of a recording, from what `predict` wrote of its windows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Any

import altair as alt

from embedkit.cells import read_cell
from embedkit.corpora.delimited import read_delimited
from embedkit.errors import RunError
from embedkit.received import MOST_JSON, parse_json, read_json, read_text
from embedkit.reporting.figures.charts import SMALL, SOFT
from embedkit.reporting.figures.theme import Chart, Figure, specify, tell_apart

_TIMES = ("path", "start", "end")
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
_TICKS = 9
_FEW = 60
"""Windows of which each has a mark."""
_MANY = 360
"""Windows from which on lines of several classes would hide each other: each class has a panel of its own."""
_TOUCH_SECONDS = 1e-3
_MINUTES = "floor(datum.value / 60) + ':' + format(datum.value % 60, '02d')"


@dataclass(frozen=True)
class Timeline:
    """What was predicted of a recording.

    Attributes:
        path: Its file, as it was given.
        rates: Whether the values are ratings.
        windows: Start, end, and the values by class or attribute, in the order of starts.
    """

    path: str
    rates: bool
    windows: list[tuple[float, float, Mapping[str, float]]] = field(default_factory=list)


def read_timelines(file: Path) -> list[Timeline]:
    """Read what `predict` wrote with start and end, as CSV, JSON or JSONL.

    Raises:
        RunError, CorpusError: it cannot be read, is something else, or is of whole files.
    """
    read = {".csv": _read_csv, ".json": _read_json, ".jsonl": _read_json}.get(file.suffix.lower())
    if read is None or not file.is_file():
        raise RunError(
            f"{str(file)!r} is no file of predictions; expected a .csv, .json or .jsonl of embedkit predict --window."
        )
    found: dict[str, Timeline] = {}
    try:
        for number, (path, start, end, rates, values) in enumerate(read(file), start=1):
            span = (float(start), float(end))
            numbers = {str(name): float(value) for name, value in values.items()}
            if not (numbers and span[0] < span[1] and all(map(isfinite, (*span, *numbers.values())))):
                raise ValueError(f"prediction {number} is not a stretch of time with numbers")
            found.setdefault(str(path), Timeline(str(path), rates)).windows.append((*span, numbers))
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        why = f"it lacks {error}" if isinstance(error, LookupError) else str(error)
        raise RunError(
            f"{str(file)!r} cannot be drawn over time ({why}); expected what embedkit predict --window writes, with "
            "start and end."
        ) from error
    if len({(one.rates, *values) for one in found.values() for _, _, values in one.windows}) != 1:
        raise RunError(f"{str(file)!r} holds no predictions, or those of several runs; write one file for each run.")
    for one in found.values():
        one.windows.sort(key=lambda window: window[:2])
    return list(found.values())


def _read_csv(file: Path) -> Iterable[tuple[Any, ...]]:
    def check(header: Sequence[str]) -> None:
        if missing := [name for name in _TIMES if name not in header]:
            raise LookupError(", ".join(missing))

    table = read_delimited(file, "file of predictions", lambda header: "path" in header, check)
    for _, fields in table.rows:
        row = dict(zip(map(read_cell, table.header), fields, strict=True))
        path, start, end = (row.pop(name) for name in _TIMES)
        yield read_cell(path), start, end, row.pop("label", None) is None, row


def _read_json(file: Path) -> Iterable[tuple[Any, ...]]:
    whole = file.suffix.lower() == ".json"
    rows = read_json(file) if whole else map(parse_json, read_text(file, MOST_JSON).splitlines())
    for row in rows:
        rates = "dimensions" in row
        yield *(row[name] for name in _TIMES), rates, row["dimensions" if rates else "probabilities"]


def draw_timelines(timelines: Sequence[Timeline]) -> dict[str, Figure]:
    """Draw a figure for each recording, its values on the same axis and in the same colours in all."""
    values = [value for one in timelines for *_, own in one.windows for value in own.values()]
    scale = (
        alt.Scale(domain=[min(values), max(values)], nice=True, zero=False)
        if timelines[0].rates
        else alt.Scale(domain=[0, 1])
    )
    names = Counter(Path(one.path).name for one in timelines)
    return {
        f"timeline-{name if names[name := Path(one.path).name] == 1 else one.path}": Figure(
            title=f"{name}, {'ratings' if one.rates else 'probabilities'} over time",
            chart=specify(_draw(one, scale)),
            data=_rows(one),
        )
        for one in timelines
    }


def _rows(timeline: Timeline) -> list[dict[str, Any]]:
    """Return a row for each window and value; windows that touch are of one part, whose points are joined."""
    windows = timeline.windows
    breaks = [0, *(after[0] > before[1] + _TOUCH_SECONDS for before, after in pairwise(windows)), 1]
    part, rows = 0, []
    for place, (start, end, values) in enumerate(windows):
        part += breaks[place]
        alone = bool(breaks[place + 1] and (place == 0 or breaks[place]))
        rows += [
            {
                "series": name,
                "at": round((start + end) / 2, 3),
                "start": start,
                "end": end,
                "value": round(value, 5),
                "part": part,
                "alone": alone,
                "dot": alone or len(windows) <= _FEW,
            }
            for name, value in values.items()
        ]
    return rows


def _draw(timeline: Timeline, scale: alt.Scale) -> Chart:
    windows = timeline.windows
    names = list(windows[0][2])
    first, last = windows[0][0], max(end for _, end, _ in windows)
    step = next((step for step in _STEPS if last - first <= _TICKS * step), _STEPS[-1])
    ticks = [round(number * step, 1) for number in range(int(first / step), int(last / step) + 1)]
    minutes = last >= 60 and step >= 1
    x = partial(
        alt.X,
        title="time in min:s" if minutes else "time in s",
        scale=alt.Scale(domain=[first, last], nice=False, zero=False),
        axis=alt.Axis(
            grid=False,
            values=[tick for tick in ticks if first <= tick <= last],
            labelExpr=_MINUTES if minutes else "format(datum.value, '~f')",
        ),
    )
    what = "rating" if timeline.rates else "probability"
    dense = len(windows) > _MANY and len(names) > 1
    y, kinds = alt.Y("value:Q", title=None if dense else what, scale=scale), tell_apart(names)
    base = alt.Chart().encode(x=x("at:Q"), y=y)
    chance = (
        [] if timeline.rates else [{"at": end, "value": 1 / len(names), "words": "chance"} for end in (first, last)]
    )
    guess = base.properties(data=alt.InlineData(values=chance))
    told = {"series:N": "of", "start:Q": "from s", "end:Q": "to s", "value:Q": what}
    lines = [
        guess.mark_line(strokeDash=[5, 4], strokeWidth=1, color=SOFT),
        guess.mark_text(align="left", dx=4, **SMALL)
        .encode(text="words:N")
        .properties(data=alt.InlineData(values=chance[1:])),
        base.mark_line(strokeWidth=0.8 if dense else 1.5).encode(color=kinds["color"], detail="part:N"),
        base.mark_rule(strokeWidth=1.5)
        .encode(x=x("start:Q"), x2="end:Q", color=kinds["color"])
        .transform_filter("datum.alone"),
        base.mark_point(filled=True, size=30, opacity=1)
        .encode(**kinds, tooltip=[alt.Tooltip(name, title=title) for name, title in told.items()])
        .transform_filter("datum.dot"),
    ]
    if not dense:
        return alt.layer(*lines).properties(width=720, height=240)
    # Chance is drawn by data of its own, which stands in every panel.
    panel = alt.layer(*lines, data=alt.NamedData(name="rows")).properties(width=640, height=70)
    header = alt.Header(title=None, labelOrient="left", labelAngle=0, labelAlign="left", labelFontSize=12)
    return panel.facet(row=alt.Row("series:N", header=header, sort=names), spacing=8)
