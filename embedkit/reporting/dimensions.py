"""Tables of runs that predict emotional attributes: the mean over them, and a column for each."""

from __future__ import annotations

from collections.abc import Sequence

from embedkit.reporting.grid import Grid, Line
from embedkit.reporting.labels import Row, place_rows
from embedkit.reporting.marks import describe_tests, mark_runs
from embedkit.reporting.metrics import METRICS, Spread, choose_spread, read_cell
from embedkit.reporting.protocol import describe_protocol, describe_title


def lay_out_dimensions(rows: Sequence[Row], metric: str, spread: Spread) -> Grid:
    """Lay out the runs of one protocol, a line each.

    No best is marked: dimensions are no alternatives to each other. Errors have no mean, for dimensions may differ in
    their units. The first column carries the marks of tests: those of the mean CCC.
    """
    places = place_rows(rows)
    dimensions = [str(name) for name in rows[0]["dimensions"]]
    keys = [f"{metric}_{name}" for name in dimensions]
    if len(dimensions) > 1 and metric == "ccc":
        dimensions, keys = ["mean", *dimensions], [metric, *keys]
    shown = choose_spread(rows, keys, spread)
    lines = tuple(
        Line(
            labels=(f"{place.encoder}, {place.head}", place.loss),
            cells=tuple(
                read_cell(row, key, METRICS[metric], shown, "" if number else mark) for number, key in enumerate(keys)
            ),
        )
        for place, row, mark in zip(places, rows, mark_runs(rows, places, metric), strict=True)
    )
    return Grid(
        title=describe_title(rows[0], metric),
        label_headers=("encoder, head", "loss"),
        columns=tuple(dimensions),
        lines=lines,
        legend=tuple(describe_tests(rows, places, metric)),
        notes=tuple(describe_protocol(rows, spread)),
    )
