"""Lay out the report: what stands in it, in which order; the template draws it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from embedkit.progress import Tell
from embedkit.reporting.cross import build_matrices
from embedkit.reporting.figures.cross import draw_matrices
from embedkit.reporting.figures.forest import draw_forests, find_families
from embedkit.reporting.figures.maps import METHODS
from embedkit.reporting.figures.panels import Panel, plan_panels, split_runs, tested_stores
from embedkit.reporting.figures.recall import Read
from embedkit.reporting.figures.theme import Figure, converter, write_styles
from embedkit.reporting.predictions import Predictions, read_predictions
from embedkit.reporting.protocol import describe_marks, describe_protocol, tell_protocols_apart
from embedkit.reporting.report.across import choose_matrix, conclude_across
from embedkit.reporting.report.board import Board, Drawn, Figures
from embedkit.reporting.report.clips import Clips
from embedkit.reporting.report.commands import list_commands
from embedkit.reporting.report.conclusion import conclude
from embedkit.reporting.report.hardest import Tally, list_hardest, tally_utterances
from embedkit.reporting.report.listings import (
    Listing,
    list_differences,
    list_intervals,
    list_recalls,
    list_stores,
    list_versions,
)
from embedkit.reporting.report.sections import draw_maps, draw_openings, draw_sections
from embedkit.reporting.table import build_table
from embedkit.wording import count_noun, escape_all, escape_controls

if TYPE_CHECKING:
    from embedkit.training.runs import RunRecord


@dataclass(frozen=True, kw_only=True)
class Study:
    """Runs of one protocol: what their part of the page opens with, and what is folded."""

    title: str
    conclusion: str
    opening: Sequence[Drawn]
    notes: Sequence[str]
    table: str
    intervals: Listing
    recalls: Listing | None
    differences: Listing | None
    figures: Sequence[Figures]
    hardest: Listing | None


@dataclass(frozen=True, kw_only=True)
class Across:
    """The cross-corpus matrices: what they come to, the best one, and what is folded."""

    conclusion: str
    notes: Sequence[str]
    opening: Drawn
    others: Sequence[Drawn]
    table: str


def render_report(records: Sequence[RunRecord], *, runs: str, audio: bool = False, tell: Tell = lambda _: None) -> str:
    """Draw the page.

    Args:
        records: The runs.
        runs: Their folder, as commands name it.
        audio: Whether clips of the utterances stand in the page.
        tell: Receives what takes long, and of clips how many play.

    Raises:
        RunError: a run is damaged, or clips cannot be written here.
    """
    known: dict[str, Predictions] = {}
    corpora = {name for record in records for name in _tested(record)}

    def read(record: RunRecord) -> Predictions:
        key = str(record.folder)
        if key not in known:
            found = read_predictions(record)
            known[key] = replace(found, speakers=_qualify(record, found)) if len(corpora) > 1 else found
        return known[key]

    clips = Clips() if audio else None
    groups = split_runs(records)
    panels = [plan_panels(group) for group in groups]
    tallies = [tally_utterances(own, read) for own in panels]
    families = find_families(records)
    board = Board()
    studies = [
        _study(title, group, own, forest, families, read, tally, board, clips)
        for title, group, own, forest, tally in zip(
            _titles(groups), groups, panels, draw_forests(panels), tallies, strict=True
        )
    ]
    maps = draw_maps(list(zip(panels, tallies, strict=True)), read, board, clips, tell)
    # What is chosen stands out in figures of classes, and in maps.
    shown = [one for one in known.values() if len(one.truth) or maps.drawn]
    heard = clips.describe() if clips else []
    for sentence in heard:
        tell(sentence)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_escape
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    place = files(__package__)
    texts = {name: place.joinpath(name).read_text(encoding="utf-8") for name in ("page.html", "page.css", "page.js")}
    return environment.from_string(texts["page.html"]).render(
        title=" and ".join(dict.fromkeys(str(record.metrics["corpus"]) for record in records)),
        studies=studies,
        cross=lay_out_matrices(records, board),
        maps=maps,
        stores=list_stores(records),
        versions=list_versions(records),
        commands=list_commands(records, runs),
        styles=Markup(write_styles() + texts["page.css"]),
        library=Markup(_bundle_library()),
        script=Markup(texts["page.js"]),
        data=escape_all(board.data),
        clips=clips.data if clips else None,
        heard=heard,
        methods=METHODS,
        speakers=sorted({name for one in shown for name in one.speakers} - {""}),
        classes=sorted({name for one in shown for name in one.labels} - {""}),
        counted=any(tally.places for tally in tallies),
        count=len(records),
    )


def _tested(record: RunRecord) -> list[str]:
    """Name the corpora that a run was tested on."""
    row = record.metrics
    return list(map(str, row.get("pooled") or [row.get("test_corpus") or row["corpus"]]))


def _qualify(record: RunRecord, found: Predictions) -> tuple[str, ...]:
    """Name speakers with their corpus, as runs on several corpora do, so that each is chosen in all figures."""
    if record.metrics.get("pooled") or record.metrics.get("test_corpus"):
        return found.speakers
    return tuple(f"{record.metrics['corpus']}/{name}" if name else "" for name in found.speakers)


def lay_out_matrices(records: Sequence[RunRecord], board: Board) -> Across | None:
    """Lay out the cross-corpus matrices, the best one first; None where there are none."""
    rows = [escape_all(record.metrics) for record in records]
    matrices = build_matrices(rows)
    if not matrices:
        return None
    best = choose_matrix(matrices)
    matrices.sort(key=lambda one: one is not best)
    opening, *others = [board.add({"": one}) for one in draw_matrices(matrices)]
    table = build_table([record.metrics for record in records], cross=True)
    return Across(
        conclusion=conclude_across(matrices),
        notes=list(dict.fromkeys(note for one in matrices for note in one.legend)),
        opening=opening,
        others=others,
        table=Markup(_cut_body(table.render("html"))),
    )


def _escape(value: Any) -> Any:
    """Escape what texts would steer the page by; what is markup already is left alone."""
    return escape_controls(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _bundle_library() -> str:
    """Return Vega, Vega-Lite and vega-embed as one script, which sets `vegaEmbed`."""
    return str(converter().javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def _titles(groups: Sequence[Sequence[RunRecord]]) -> list[str]:
    """Name the protocols, and in what those of a corpus differ."""
    apart = tell_protocols_apart([[one.metrics for one in group] for group in groups], _TITLED)
    return [f"{_title(group[0].metrics)}{difference}" for group, difference in zip(groups, apart, strict=True)]


_TITLED = ("test_corpus", "folds", "seeds")


def _title(row: Mapping[str, Any]) -> str:
    told = f"tested on {row['test_corpus']}" if row.get("test_corpus") else f"folds by {row['folds']}"
    return f"{row['corpus']}, {told}, {count_noun(row['seeds'], 'seed')}{describe_marks(row)}"


def _study(
    title: str,
    group: Sequence[RunRecord],
    panels: Sequence[Panel],
    forest: Figure | None,
    families: Sequence[Sequence[RunRecord]],
    read: Read,
    tally: Tally,
    board: Board,
    clips: Clips | None,
) -> Study:
    whole = [record for record in group if record.metrics.get("layer") is None] or list(group)
    table = build_table([one.metrics for one in whole], predictions=[one.predictions_path for one in whole])
    opening, matrices = draw_openings(panels, read)
    opening = [*([forest] if forest else []), *opening]
    heard = next((record for _, record in tested_stores(panels)), None)
    take = None if clips is None else partial(clips.take, heard)
    return Study(
        title=title,
        conclusion=conclude(table.rows),
        opening=[board.add({"": one}) for one in opening],
        notes=describe_protocol([record.metrics for record in group]),
        table=Markup(_cut_body(table.render("html"))),
        intervals=list_intervals(panels),
        recalls=list_recalls(panels, read),
        differences=list_differences(table.rows),
        figures=draw_sections(group, panels, families, read, matrices, board),
        hardest=list_hardest(tally, panels, read, take) if tally.places else None,
    )


def _cut_body(page: str) -> str:
    return page.partition("<body>")[2].partition("</body>")[0]
