"""How all figures look: colours and shapes that names keep, a specification with its numbers, and files of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import altair as alt
import vl_convert

from embedkit import system
from embedkit.errors import RunError
from embedkit.losses import LOSSES
from embedkit.training.runs import ZERO_SHOT
from embedkit.wording import escape_all, escape_controls, format_bytes

COLOURS = (
    "#1a6e9d",
    "#b24f3d",
    "#28756e",
    "#ba8c00",
    "#3f178b",
    "#851700",
    "#1c9ea3",
    "#e053fe",
    "#1c2533",
    "#5c3f3d",
    "#979381",
)
"""Found by search, in light and dark: any two differ by CIEDE2000 of 15 at least, also for readers with protanopia or
deuteranopia as Machado, Oliveira and Fernandes (2009) simulate them, and all stand out from the page by 3:1. The last
is for all names for which no colour is left."""

DARK_COLOURS = (
    "#3d97f8",
    "#b45b6b",
    "#4aaf4a",
    "#ffd70b",
    "#7a4dc7",
    "#ffc8a1",
    "#85bbb2",
    "#ffbfff",
    "#f8f8f8",
    "#955b1e",
    "#79879e",
)
SHAPES = (
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "cross",
    "triangle-down",
    "triangle-right",
    "triangle-left",
    "M-1-.4H-.4V-1H.4V-.4H1V.4H.4V1H-.4V.4H-1Z",
    "M-1-1L1 1H-1L1-1Z",
    "circle",
)

ADDRESS_SPACE = 70 * 10**9
"""Bytes that V8 reserves: with vl-convert 1.9 on Linux a process that draws has 67.5 GB."""

_LIGHT = {"paper": "#ffffff", "ink": "#1f2328", "soft": "#57606a", "grid": "#d8dee4", "heat": "#003e82"}
_DARK = {"paper": "#14171c", "ink": "#e6e9ed", "soft": "#a3acb7", "grid": "#353c45", "heat": "#64a2e3"}
LIGHT: Mapping[str, str] = {
    **_LIGHT,
    "low": "#000000",
    "high": "#fffffe",
    **{f"s{place}": colour for place, colour in enumerate(COLOURS)},
}
DARK: Mapping[str, str] = {
    **_DARK,
    "low": "#fffffe",
    "high": "#000000",
    **{f"s{place}": colour for place, colour in enumerate(DARK_COLOURS)},
}
"""Specifications hold the light colours; a page has those of the same name take their place (see `write_styles`).
Cells of `heat` that are more opaque than `HEAT_TURN` take text of `high`."""

HEAT_TURN = 0.7
COUNTS = "showsCounts"
"""What a page sets to have matrices show counts in place of shares."""

_EMOTIONS = (
    "sadness anger disgust happiness fear surprise calm boredom neutral contempt",
    "- - - - - - frustration excitement",
)
_LOSSES = (" ".join(name for name in LOSSES if name != "soft-ce"), f"- - - - - - - soft-ce {ZERO_SHOT}")
_PLACES = {name: place for row in (*_EMOTIONS, *_LOSSES) for place, name in enumerate(row.split()) if name != "-"}
"""Emotions and losses that have the same colour in every figure; two names share one where corpora have one of them, or
where they seldom stand together: a loss of ratings and one of votes for classes, of both and a published classifier."""


Chart: TypeAlias = alt.Chart | alt.LayerChart | alt.FacetChart
"""What Altair calls a chart that is drawn as one; the last is never made here, and only part of its types."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A specification of Vega-Lite, what it is called, and its numbers.

    Attributes:
        title: What is shown.
        chart: The specification, without data; its fields have fixed names, so that names of corpora are data alone.
        data: Its rows, by the fields' names.
        headers, rows: The numbers drawn, as a table.
    """

    title: str
    chart: Mapping[str, Any]
    data: Sequence[Mapping[str, Any]]
    headers: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()

    @property
    def specification(self) -> dict[str, Any]:
        """Return the whole specification; characters that are no text, which end vl-convert's process, are escaped."""
        told: dict[str, Any] = escape_all(
            {**self.chart, "datasets": {**self.chart.get("datasets", {}), "rows": self.data}}
        )
        return told

    def render(self, format: str) -> bytes:
        """Draw as the content of a file with the title: "svg", "png" (two dots a pixel) or "pdf"."""
        whole = {**self.specification, "title": escape_controls(self.title)}
        if format == "png":
            return bytes(converter().vegalite_to_png(whole, scale=2))
        return bytes(converter().vegalite_to_pdf(whole)) if format == "pdf" else write_svg(whole).encode()


def converter() -> Any:
    """Return vl-convert, where the address space that is allowed is large enough: its V8 ends the process in any less.

    Raises:
        RunError: says what is needed and allowed.
    """
    allowed = system.address_space()
    if allowed is not None and allowed < ADDRESS_SPACE:
        raise RunError(
            f"Figures take {format_bytes(ADDRESS_SPACE)} of address space, though little memory; "
            f"{format_bytes(allowed)} are allowed (ulimit -v): raise or lift this limit."
        )
    return vl_convert


def specify(chart: Chart) -> dict[str, Any]:
    """Give a chart the theme, its data's name, and what a page may choose: a speaker, a class, counts."""
    axis = alt.AxisConfig(
        labelColor=LIGHT["ink"],
        titleColor=LIGHT["ink"],
        gridColor=LIGHT["grid"],
        domainColor=LIGHT["soft"],
        tickColor=LIGHT["soft"],
        labelFontSize=12,
        titleFontSize=12,
        titleFontWeight="normal",
        labelLimit=130,
    )
    legend = alt.LegendConfig(
        orient="bottom",
        title=None,
        columns=3,
        labelColor=LIGHT["ink"],
        labelFontSize=12,
        labelLimit=150,
        symbolLimit=0,
        symbolOpacity=1,
    )
    title = alt.TitleConfig(anchor="start", fontSize=13, color=LIGHT["ink"], offset=12)
    chosen = [alt.param(name=name, value="") for name in ("chosenSpeaker", "chosenClass", COUNTS)]
    whole = chart.properties(data=alt.NamedData(name="rows")).add_params(*chosen)
    found: dict[str, Any] = whole.configure(
        background=LIGHT["paper"],
        font="Helvetica, Arial, Liberation Sans, sans-serif",
        aria=False,
        axis=axis,
        legend=legend,
        title=title,
        view=alt.ViewConfig(stroke=None),
        text=alt.MarkConfig(color=LIGHT["ink"], fontSize=12),
        # Whether it is Vega-Lite depends on no data, so that tests tell; asking takes a quarter of a report's time.
    ).to_dict(validate=False)
    return found


def write_svg(specification: Mapping[str, Any]) -> str:
    """Draw a whole specification as SVG."""
    return str(converter().vegalite_to_svg(dict(specification)))


def write_styles() -> str:
    """Write the style sheet that has figures follow the choice of light or dark, and print in light colours."""
    light, dark = ("".join(f"--{name}:{colour};" for name, colour in theme.items()) for theme in (LIGHT, DARK))
    rules = "".join(
        f"figure [{kind}='{colour}']{{{kind}:var(--{name})}}"
        for name, colour in LIGHT.items()
        for kind in ("fill", "stroke")
    )
    screen = f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    return f":root{{color-scheme:light dark;{light}}}{screen}{rules}"


def assign_places(names: Sequence[str]) -> dict[str, int]:
    """Give every name a place in the palette: its own, else the first that is free, else the last.

    Options that are written behind a loss's name do not matter, unless two in a figure have the same.
    """
    free = list(range(len(COLOURS) - 1))
    found = {}
    for name in names:
        place = _PLACES.get(name.partition(":")[0])
        if place in free:
            free.remove(place)
            found[name] = place
    rest = len(COLOURS) - 1
    return {name: found[name] if name in found else free.pop(0) if free else rest for name in names}


def tell_apart(names: Sequence[str], field: str = "series") -> dict[str, Any]:
    """Return the channels that give the names in a field their colours and shapes, with one legend for both."""
    places = assign_places(names)
    own = [name for name in names if places[name] < len(COLOURS) - 1]
    legend = alt.Legend(values=own) if len(own) > 1 else None
    known = list(places)
    return {
        kind: channel(
            f"{field}:N",
            scale=alt.Scale(domain=known, range=[looks[places[name]] for name in known]),
            legend=legend,
        )
        for kind, channel, looks in (("color", alt.Color, COLOURS), ("shape", alt.Shape, SHAPES))
    }


def fade(*, speaker: bool = False, classes: Sequence[str] = ()) -> Any:
    """Return the channel that fades what is not chosen: by its field `speaker`, and by fields that hold a class."""
    tests = ["!chosenSpeaker || datum.speaker === chosenSpeaker"] if speaker else []
    if classes:
        tests.append(" || ".join(["!chosenClass", *(f"datum.{field} === chosenClass" for field in classes)]))
    test = " && ".join(f"({one})" for one in tests) or "true"
    return alt.condition(test, alt.value(1), alt.value(0.12))
