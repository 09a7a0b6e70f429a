"""Tables of encoders by losses from the rows of runs, one for each protocol."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from embedkit.encoders import ENCODERS
from embedkit.errors import ConfigError, RunError
from embedkit.heads import HEADS
from embedkit.losses import LOSSES
from embedkit.options.table import FORMATS, OF_ROWS
from embedkit.registry import unknown_name
from embedkit.reporting.comparison import TESTED, compare_runs
from embedkit.reporting.cross import lay_out_cross
from embedkit.reporting.dimensions import lay_out_dimensions
from embedkit.reporting.grid import Document, Grid, Line, say_notes_once, shorten
from embedkit.reporting.groups import lay_out_groups
from embedkit.reporting.html import draw_grid
from embedkit.reporting.labels import Row, place_rows
from embedkit.reporting.marks import describe_tests, leads, mark_runs
from embedkit.reporting.metrics import (
    AGREEMENT,
    CALIBRATION,
    DEFINITIONS,
    DISTANCES,
    METRICS,
    SCORES,
    SHOWN,
    TASKS,
    Spread,
    choose_spread,
    metrics_of,
    read_cell,
    task_of,
)
from embedkit.reporting.protocol import (
    describe_protocol,
    describe_title,
    differing_fields,
    split_by_protocol,
)
from embedkit.reporting.published import lay_out_published
from embedkit.reporting.ranks import lay_out_ranks
from embedkit.wording import count_noun, escape_all, list_words

REQUIRED = ("corpus", "encoder", "head", "loss", "folds", "classes", "seeds", "utterances")


@dataclass(frozen=True, kw_only=True, repr=False)
class Table:
    """Runs, ready to be drawn; `str(table)` and `print(table)` draw it.

    Attributes:
        rows: One mapping for each run, metrics as fractions, in the order of the table; `tests` holds its differences
            from other runs where these were tested.
        metric: "ua", "wa", "f1", "nll", "brier", "ece", "kl", "js"; "ccc", "rmse" of runs that predict ratings; "all"
            for all tables; or None for UAR and CCC, whichever a run has.
        format: What `str` draws, one of `FORMATS`.
        published: Whether the study's published numbers stand beside.
        spread: Whether intervals over speakers stand beside numbers, or deviations over seeds.
        brief: Whether one line below the numbers is all that is said.
        explain: Whether it is said how each score is defined.
        cross: Whether the cross-corpus matrix is all that is shown.
    """

    rows: tuple[Row, ...]
    metric: str | None = None
    format: str = "text"
    published: bool = False
    spread: Spread = "interval"
    brief: bool = False
    explain: bool = False
    cross: bool = False

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        return f"<Table of {count_noun(len(self.rows), 'run')}>"

    def _repr_html_(self) -> str:
        return "\n".join(map(draw_grid, say_notes_once(_draw(self).grids)))

    def render(self, format: str | None = None, *, bold: bool = False) -> str:
        """Draw in a format; `bold` sets the best cells of text in a terminal's bold type."""
        chosen = _require("format", format or self.format, FORMATS)
        draw = FORMATS.load(chosen)
        if chosen in OF_ROWS:
            if self.published:
                others = list_words((name for name in FORMATS if name not in OF_ROWS), "or")
                raise ConfigError(
                    f"The published numbers cannot stand beside runs in {chosen}, where their notes would be lost; "
                    f"leave out --published, or choose --format {others}."
                )
            for name, lack in (("brief", "notes"), ("explain", "notes"), ("cross", "matrix")):
                if getattr(self, name):
                    raise ConfigError(f"Found --{name} beside --format {chosen}, which has no {lack}; leave it out.")
            return str(draw(self.rows))
        document = _draw(self)
        return str(draw(document, bold=bold) if chosen == "text" else draw(document))

    def to_markdown(self) -> str:
        """Draw as Markdown."""
        return self.render("markdown")


def build_table(
    rows: Iterable[Row],
    *,
    metric: str | None = None,
    format: str = "text",
    published: bool = False,
    spread: Spread = "interval",
    brief: bool = False,
    explain: bool = False,
    cross: bool = False,
    predictions: Iterable[Path | None] | None = None,
) -> Table:
    """Build a table of encoders by losses from the metrics of runs.

    Args:
        rows: One mapping for each run, as in a run's `metrics.json`.
        metric: "ua", "wa", "f1", "nll", "brier", "ece", "kl", "js"; "ccc", "rmse" of runs that predict ratings; "all"
            for all tables; or None for UAR and CCC, whichever a run has.
        format: What `str(table)` draws, one of `FORMATS`.
        published: Set published figures, with notes on what each was, beside.
        spread: "interval" sets 95 % intervals over speakers beside numbers, "seeds" the standard deviation over seeds.
        brief, explain, cross: See `Table`.
        predictions: The CSV of each run's predictions, None for those that have none. From these the differences
            between runs are tested and marked; without them nothing is.

    Raises:
        ConfigError: an unknown metric or format.
        RunError: no rows, none that has the metric, or a row that lacks what a table needs.
    """
    _require("spread", spread, get_args(Spread))
    given = list(rows)
    paths = [None] * len(given) if predictions is None else list(predictions)
    pairs = sorted(zip(given, paths, strict=True), key=lambda pair: _order(pair[0]))
    ordered = [row for row, _ in pairs]
    if not ordered:
        raise RunError("There are no runs to show; train some first: embedkit fit.")
    for row in ordered:
        missing = [name for name in (*REQUIRED, *SCORES[task_of(row)]) if name not in row]
        if missing:
            raise RunError(
                f"A run lacks {', '.join(map(repr, missing))} in its metrics; fit it again with --overwrite."
            )
    if any(paths) and (metric in (None, "all", *TESTED.values()) or format in ("csv", "json")):
        compared = compare_runs(ordered, [path for _, path in pairs])
        ordered = [{**row, **one.to_fields()} for row, one in zip(ordered, compared, strict=True)]
    table = Table(
        rows=tuple(ordered),
        metric=None if metric is None else _require("metric", metric, (*_ASKED, "all")),
        format=_require("format", format, FORMATS),
        published=published,
        spread=spread,
        brief=brief,
        explain=explain,
        cross=cross,
    )
    if brief and explain:
        raise ConfigError("Found --brief and --explain, which say less and more; leave one out.")
    if metric is not None and metric != "all":
        _require_metric(ordered, metric)
    if table.format in OF_ROWS and (published or brief or explain or cross):
        table.render()
    if cross:
        _require_cross(table)
    return table


def _require_metric(rows: Sequence[Row], metric: str) -> None:
    own = [row for row in rows if task_of(row) == METRICS[metric].task]
    if not own:
        others = metrics_of(task_of(rows[0]))
        raise RunError(
            f"The metric {metric!r} is one of {TASKS[METRICS[metric].task]}, which no run predicts; "
            f"choose --metric {', '.join(others[:-1])} or {others[-1]}."
        )
    if not any(_is_known(own, name) for name in SHOWN.get(metric, (metric,))):
        raise RunError(
            f"No run has {metric!r} in its metrics: {_WHY_NOT.get(metric, 'they were fitted by an older version')}; "
            "fit them again with --overwrite."
        )


def _require_cross(table: Table) -> None:
    if table.published:
        raise ConfigError("Found --published beside --cross, in which no published number has a place; leave one out.")
    if not lay_out_cross(table.rows, table.metric, table.spread):
        raise RunError(
            "No runs make a cross-corpus matrix: none was tested on another corpus than it was trained on, in a score "
            f"that is shown ({table.metric or 'ua'}); run embedkit study --cross, or leave out --cross."
        )


_WHY_NOT = dict.fromkeys(
    ("kl", "js"),
    "their corpora have no votes of annotators (columns votes_<class>), or they were fitted by an older version",
)
_ASKED = [name for task in TASKS for name in metrics_of(task)]


def _require(kind: str, name: str, known: Iterable[str]) -> str:
    names = list(known)
    if name not in names:
        raise ConfigError(unknown_name(kind, name, names))
    return name


def _order(row: Row) -> tuple[Any, ...]:
    """Sort real corpora before the demo, then by the order of the catalogues, then by name."""
    if not all(name in row for name in (*REQUIRED, *SCORES[task_of(row)])):
        return (2,)

    def position(catalogue: Iterable[str], name: str) -> tuple[int, str]:
        names = list(catalogue)
        return (names.index(name) if name in names else len(names), name)

    return (
        int(bool(row.get("demo"))),
        str(row["corpus"]),
        position(ENCODERS, str(row["encoder"])),
        position(HEADS, str(row["head"])),
        -1 if row.get("layer") is None else row["layer"],
        (str(row.get("noise") or ""), -float(row.get("noise_snr", "inf"))),
        position(LOSSES, str(row["loss"])),
        sorted((key, str(value)) for key, value in (row.get("loss_options") or {}).items()),
    )


def _draw(table: Table) -> Document:
    """Lay out every metric and protocol; the demo corpus never stands beside published numbers."""
    rows: list[Row] = [escape_all(row) for row in table.rows]
    if table.cross:
        matrices = lay_out_cross(rows, table.metric, table.spread)
        # Marks stay: they are all that tells a cell that was seen.
        return Document(grids=tuple(replace(one, notes=()) if table.brief else one for one in matrices))
    real = [row for row in rows if not row.get("demo")]
    shown = real if table.published and real else rows
    groups = split_by_protocol(shown)
    drawn = [(group, metric) for group in groups for metric in _choose_metrics(group, table.metric)]
    grids = [_grid(group, metric, table.spread) for group, metric in drawn]
    grids += [
        lay_out_groups(group, metric, table.spread)
        for group, metric in drawn
        if metric in SCORES["classes"] and all(row.get("groups") for row in group)
    ]
    metrics = {metric for _, metric in drawn}
    for metric in (name for name in METRICS if name in metrics):
        grids += lay_out_ranks([group for group, own in drawn if own == metric], metric)
    definitions = {
        DEFINITIONS: SCORES["classes"],
        CALIBRATION: [name for asked in ("nll", "brier", "ece") for name in SHOWN[asked]],
        DISTANCES: [*SHOWN["kl"], *SHOWN["js"]],
        AGREEMENT: ("ccc", "rmse"),
    }
    notes = [text for text, names in definitions.items() if table.explain and metrics & set(names)]
    if len(groups) > 1:
        fields = ", ".join(differing_fields(groups))
        notes.append(f"Runs that differ in {fields} stand in tables of their own: do not compare across tables.")
    if table.published:
        classified = [row for row in real if task_of(row) == "classes"]
        grids += lay_out_published(classified, metrics) if real else []
        if len(real) < len(table.rows):
            notes.append("The demo corpus is synthetic, so it is not shown beside published numbers.")
    document = Document(grids=tuple(grids), notes=tuple(notes))
    return shorten(document) if table.brief else document


def _choose_metrics(rows: Sequence[Row], metric: str | None) -> list[str]:
    """Name what is shown of runs of one protocol; nothing where they have no such metric."""
    names = metrics_of(task_of(rows[0]))
    wanted = names[:1] if metric is None else names if metric == "all" else [metric]
    shown = [own for name in wanted if name in names for own in SHOWN.get(name, (name,))]
    return [name for name in shown if _is_known(rows, name)]


def _is_known(rows: Sequence[Row], metric: str) -> bool:
    """Tell whether any of the runs holds a metric; runs fitted before it was introduced do not."""
    task = METRICS[metric].task
    return task == "dimensions" or metric in SCORES[task] or any(row.get(metric) is not None for row in rows)


def _grid(rows: Sequence[Row], metric: str, spread: Spread) -> Grid:
    if METRICS[metric].task == "dimensions":
        return lay_out_dimensions(rows, metric, spread)
    places = place_rows(rows)
    columns = list(dict.fromkeys(place.loss for place in sorted(places, key=lambda place: _loss_order(place.loss))))
    shown = choose_spread(rows, [metric], spread)
    cells = {
        (place.encoder, place.head, place.loss): read_cell(
            row, metric, METRICS[metric], shown, mark, best=leads(row, metric)
        )
        for place, row, mark in zip(places, rows, mark_runs(rows, places, metric), strict=True)
    }
    labels = dict.fromkeys((place.encoder, place.head) for place in places)
    lines = [Line(labels=label, cells=tuple(cells.get((*label, column)) for column in columns)) for label in labels]
    return Grid(
        title=describe_title(rows[0], metric),
        label_headers=("encoder", "head"),
        columns=tuple(columns),
        lines=tuple(lines),
        starred=True,
        legend=tuple(describe_tests(rows, places, metric)),
        notes=tuple(describe_protocol(rows, spread)),
    )


def _loss_order(label: str) -> tuple[int, str]:
    names = list(LOSSES)
    name = label.partition(":")[0]
    return (names.index(name) if name in names else len(names), label)


__all__ = ["FORMATS", "Table", "build_table"]
