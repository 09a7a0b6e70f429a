"""Figures: what is drawn is what the runs say."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedkit.errors import ConfigError, RunError
from embedkit.reporting.figures import draw_layers
from embedkit.reporting.figures.chart import Chart
from tests.reporting.conftest import MakeRow

SVG = "{http://www.w3.org/2000/svg}"


def layer_rows(make_row: MakeRow, values: dict[str, list[float]], **extra: Any) -> list[dict[str, Any]]:
    return [
        make_row(loss=loss, layer=layer, ua=value, ua_std=0.01, **extra)
        for loss, row in values.items()
        for layer, value in enumerate(row)
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=9))
def test_higher_values_are_drawn_higher_and_layers_from_left_to_right(
    make_row: MakeRow, rows: list[list[float]]
) -> None:
    values = {f"loss{place}": row for place, row in enumerate(rows)}
    ((_, chart),) = draw_layers(layer_rows(make_row, values)).items()
    drawn = []
    for circle in ET.fromstring(chart.inline()).iter(f"{SVG}circle"):
        told = re.match(r"(\w+), layer (\d): ([\d.]+)", circle.findtext(f"{SVG}title") or "")
        assert told is not None
        value = values[told[1]][int(told[2])]
        assert float(told[3]) == pytest.approx(100 * value, abs=0.051)
        drawn.append((int(told[2]), value, float(circle.get("cx", "")), float(circle.get("cy", ""))))
    assert len(drawn) == 3 * len(rows)
    for first in drawn:
        assert 0 <= first[2] <= chart.width
        assert 0 <= first[3] <= chart.height
        for second in drawn:
            assert (first[0] < second[0]) <= (first[2] < second[2])
            assert (first[1] - second[1] > 0.01) <= (first[3] < second[3])


def test_encoders_and_protocols_have_figures_of_their_own(make_row: MakeRow) -> None:
    values = {"ce": [0.5, 0.6]}
    rows = layer_rows(make_row, values, encoder="hubert") + layer_rows(make_row, values, encoder="wavlm")
    rows += [*layer_rows(make_row, values, encoder="hubert", folds="random"), make_row(loss="ce")]
    names = list(draw_layers(rows))
    assert len(names) == len(set(names)) == 3


def test_names_cannot_break_out_of_the_figure(make_row: MakeRow) -> None:
    ((_, chart),) = draw_layers(layer_rows(make_row, {"ce": [0.1, 0.2]}, encoder='<script>"&')).items()
    assert ET.fromstring(chart.standalone()).find(f".//{SVG}script") is None


def test_runs_of_all_layers_have_no_such_figure(make_row: MakeRow) -> None:
    with pytest.raises(RunError, match="--layers each"):
        draw_layers([make_row()])
    with pytest.raises(ConfigError, match=r"metric 'uar'.*ua"):
        draw_layers(layer_rows(make_row, {"ce": [0.1]}), "uar")


def test_figures_are_written_below_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from embedkit.workflows import figure

    chart = Chart(title="x", body="", width=10, height=10)
    asked: list[str] = []
    monkeypatch.setattr(figure, "draw_layers", lambda rows, metric: asked.append(metric) or {"layers-../../x": chart})
    monkeypatch.setattr("embedkit.training.runs.find_runs", lambda folder: [])
    for metric in ("uar", "acc", "f1"):
        (path,) = figure.write_figures(tmp_path, metric=metric, out=tmp_path / "out")
    assert asked == ["ua", "wa", "f1"]
    assert path.parent == tmp_path / "out"
    assert path.read_text() == chart.standalone()
