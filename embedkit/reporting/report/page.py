"""Lay out the report: what stands in it, in which order; the template draws it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import vl_convert
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from embedkit.errors import RunError
from embedkit.progress import Tell
from embedkit.reporting.figures.calibration import draw_calibration
from embedkit.reporting.figures.layers import draw_layers
from embedkit.reporting.figures.learning import draw_curves, draw_weights
from embedkit.reporting.figures.maps import METHODS, build_map, draw_map
from embedkit.reporting.figures.panels import Panel, is_on_one_store, plan_panels, split_runs, tested_stores
from embedkit.reporting.figures.recall import MOST_SPEAKERS, Read, draw_classes, draw_confusions, draw_speakers
from embedkit.reporting.figures.theme import Figure, write_styles, write_svg
from embedkit.reporting.metrics import METRICS, SCORES, task_of
from embedkit.reporting.predictions import Predictions, read_predictions
from embedkit.reporting.protocol import describe_protocol
from embedkit.reporting.published import last_part
from embedkit.reporting.report.commands import list_commands
from embedkit.reporting.report.hardest import Tally, list_hardest, tally_utterances
from embedkit.reporting.report.listings import Listing, list_intervals, list_stores, list_versions
from embedkit.reporting.table import build_table
from embedkit.wording import count_noun, escape_controls

if TYPE_CHECKING:
    from embedkit.training.runs import RunRecord


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
    """Figures under one heading, or why there are none."""

    heading: str
    note: str
    charts: Sequence[Drawn] = ()
    missing: str = ""


class Board:
    """All figures of a page, drawn and as data of its script: each with its rows by column, and its specifications."""

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


@dataclass(frozen=True, kw_only=True)
class Study:
    """Runs of one protocol."""

    title: str
    notes: Sequence[str]
    table: str
    intervals: Listing
    figures: Sequence[Figures]
    hardest: Listing | None = None


def render_report(records: Sequence[RunRecord], *, runs: str, tell: Tell = lambda _: None) -> str:
    """Draw the page.

    Args:
        records: The runs.
        runs: Their folder, as commands name it.
        tell: Receives what takes long.

    Raises:
        RunError: a run is damaged.
    """
    known: dict[str, Predictions] = {}

    def read(record: RunRecord) -> Predictions:
        key = str(record.folder)
        if key not in known:
            known[key] = read_predictions(record)
        return known[key]

    groups = split_runs(records)
    titles = _titles(groups)
    panels = [plan_panels(group) for group in groups]
    tallies = [tally_utterances(own, read) for own in panels]
    board = Board()
    studies = [
        _study(title, group, own, read, tally, board)
        for title, group, own, tally in zip(titles, groups, panels, tallies, strict=True)
    ]
    maps, gone, by = _maps([one for own in panels for one in own], read, tallies, board, tell)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_escape
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    place = files(__package__)
    texts = {name: place.joinpath(name).read_text(encoding="utf-8") for name in ("page.html", "page.css", "page.js")}
    return environment.from_string(texts["page.html"]).render(
        title=" and ".join(dict.fromkeys(str(record.metrics["corpus"]) for record in records)),
        studies=studies,
        maps=maps,
        gone=gone,
        stores=list_stores(records),
        versions=list_versions(records),
        commands=list_commands(records, runs),
        styles=Markup(write_styles() + texts["page.css"]),
        library=Markup(_bundle_library()),
        script=Markup(texts["page.js"]),
        data=board.data,
        methods=METHODS,
        colour_by=by,
        speakers=sorted({one.speaker for tally in tallies for one in tally.values()} - {""}),
        classes=sorted({one.label for tally in tallies for one in tally.values()}),
        count=len(records),
    )


def _escape(value: Any) -> Any:
    """Escape what texts would steer the page by; what is markup already is left alone."""
    return escape_controls(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _bundle_library() -> str:
    """Return Vega, Vega-Lite and vega-embed as one script, which sets `vegaEmbed`."""
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def _titles(groups: Sequence[Sequence[RunRecord]]) -> list[str]:
    """Name the protocols; those that would be called the same are numbered."""
    names = []
    for group in groups:
        row = group[0].metrics
        told = f"tested on {row['test_corpus']}" if row.get("test_corpus") else f"folds by {row['folds']}"
        names.append(f"{row['corpus']}, {told}, {count_noun(row['seeds'], 'seed')}")
    return [
        name if names.count(name) == 1 else f"{name}, protocol {names[: place + 1].count(name)}"
        for place, name in enumerate(names)
    ]


def _study(
    title: str,
    group: Sequence[RunRecord],
    panels: Sequence[Panel],
    read: Read,
    tallies: dict[str, Tally],
    board: Board,
) -> Study:
    whole = [record for record in group if record.metrics.get("layer") is None] or list(group)
    table = build_table([one.metrics for one in whole], predictions=[one.predictions_path for one in whole])
    return Study(
        title=title,
        notes=describe_protocol([record.metrics for record in group]),
        table=Markup(_cut_body(table.render("html"))),
        intervals=list_intervals(panels),
        figures=_draw_figures(group, panels, read, board),
        hardest=list_hardest(tallies) if tallies else None,
    )


def _cut_body(page: str) -> str:
    return page.partition("<body>")[2].partition("</body>")[0]


def _draw_figures(group: Sequence[RunRecord], panels: Sequence[Panel], read: Read, board: Board) -> list[Figures]:
    metric = SCORES[task_of(group[0].metrics)][0]
    no_classes = "No run here predicts classes."
    try:
        layers = draw_layers([record.metrics for record in group], metric)
    except RunError:
        layers = {}
    drawn = [
        (
            "Confusion matrices",
            "Mean over seeds, in percent of the true class.",
            draw_confusions(panels, read),
            no_classes,
        ),
        (
            "Recall of every class",
            "Dots are means over seeds, bars one standard deviation; the dashed line is chance.",
            draw_classes(panels, read),
            no_classes,
        ),
        (
            "UAR (UA) of every speaker",
            "Mean recall over the classes that the speaker has; bars are one standard deviation over seeds. "
            f"At most {MOST_SPEAKERS} speakers are drawn, those with the lowest.",
            draw_speakers(panels, read),
            "No run here predicts classes of utterances whose speakers are known.",
        ),
        (
            "Calibration",
            "How often heads are right by how sure they are: means over seeds, bands one standard deviation; below the "
            "dashed line they are too sure. And the NLL of every loss, beside that of guessing.",
            draw_calibration(panels, read),
            no_classes,
        ),
        (
            "Learning curves",
            "What was chosen, on the inner folds it was chosen on: means over folds, bands one standard deviation over "
            "seeds. Losses of different units have figures of their own; epochs in which a margin grows are shaded.",
            draw_curves(panels),
            "The runs here keep no learning curves.",
        ),
        (
            "Weights of the layers",
            "Shares of the encoder's layers in the learned weighted sum of layers; bands are one standard deviation "
            "over folds and seeds.",
            draw_weights(panels),
            "No head here weighs several layers.",
        ),
        (
            f"{METRICS[metric].label} by layer",
            "Heads on one layer alone; the best of them is chosen on test data and is no result of a system.",
            layers,
            "There are no runs of single layers: embedkit fit --layers each trains them.",
        ),
    ]
    return [
        Figures(
            heading=heading,
            note=note,
            charts=[board.add({"": one}) for one in charts.values()],
            missing="" if charts else missing,
        )
        for heading, note, charts, missing in drawn
        if charts or panels
    ]


def _maps(
    panels: Sequence[Panel], read: Read, tallies: Sequence[dict[str, Tally]], board: Board, tell: Tell
) -> tuple[list[Drawn], list[str], list[str]]:
    """Draw the embeddings of every store that is still there; say of the others why not, and what colours mean."""
    drawn, gone = [], []
    coloured: dict[str, None] = {}
    stored = tested_stores(panels)
    shown = {(record.metrics["encoder"], "frozen") for _, record in stored}
    others = [record for panel in panels for record in panel.runs.values() if not is_on_one_store(record)]
    live = {(record.metrics["encoder"], record.config["mode"]): None for record in others}
    if without := [f"{encoder} ({mode})" for encoder, mode in live if (encoder, mode) not in shown]:
        gone.append(
            f"There is no map of {', '.join(without)}: only runs on a store for all folds have embeddings to draw. "
            "`embedkit extract` writes one of the encoder, or of one that was trained and kept by --save-encoder."
        )
    for panel, record in stored:
        encoder = last_part(panel.encoder)
        tell(f"map of {encoder}: t-SNE of {len(read(record).ids):,} utterances")
        try:
            found = build_map(record, read(record))
        except RunError as error:
            gone.append(f"There is no map of {encoder}. {error}")
            continue
        heard = [next((one[name] for one in tallies if name in one), None) for name in found.columns["id"]]
        right = tuple(f"{one.right[encoder]} of {one.asked[encoder]}" if one else "" for one in heard)
        found = replace(found, columns={**found.columns, **({"right": right} if any(right) else {})})
        coloured |= dict.fromkeys(found.coloured_by)
        variants = {f"{method}, {by}": draw_map(found, method, by) for method in METHODS for by in found.coloured_by}
        drawn.append(board.add(variants, title=found.title, note=found.note))
    return drawn, gone, list(coloured)
