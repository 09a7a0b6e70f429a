"""Figures: colours that all readers tell apart, common axes with titles, and names that stay data."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedkit.errors import ConfigError, RunError
from embedkit.losses import LOSSES
from embedkit.reporting.figures import draw_layers
from embedkit.reporting.figures.charts import Axes, Draft, draw_dots, draw_lines, draw_matrix, draw_points
from embedkit.reporting.figures.theme import (
    COLOURS,
    DARK,
    DARK_COLOURS,
    HEAT_TURN,
    LIGHT,
    SHAPES,
    Figure,
    assign_places,
)
from tests.reporting.colours import VISIONS, ciede2000, contrast, read_linear, see_as_lab
from tests.reporting.conftest import MakeRow

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = ["</script><img src=x onerror=alert(1)>", "datum['x']", "a.b[0]", "c\\d\"e'", "{{ x }}", "var(--s0)", "×\n怒"]


def channels(specification: Mapping[str, Any], name: str) -> Iterator[dict[str, Any]]:
    """All encodings of a field by a channel, in any layer."""
    if "field" in specification.get("encoding", {}).get(name, {}):
        yield specification["encoding"][name]
    for layer in specification.get("layer", ()):
        yield from channels(layer, name)


def layer_rows(make_row: MakeRow, values: dict[str, list[float]], **extra: Any) -> list[dict[str, Any]]:
    return [
        make_row(loss=loss, layer=layer, ua=value, ua_std=0.01, **extra)
        for loss, row in values.items()
        for layer, value in enumerate(row)
    ]


def test_the_measure_of_colours_is_that_of_its_paper() -> None:
    # From table 1 of Sharma, Wu and Dalal (2005).
    for one, other, expected in (
        ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
        ((50.0, 2.5, 0.0), (50.0, 0.0, -2.5), 4.3065),
        ((50.0, -1.0, 2.0), (50.0, 0.0, 0.0), 2.3669),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
    ):
        assert ciede2000(np.array(one), np.array(other)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_differ_for_all_readers_and_stand_out(theme: Mapping[str, str]) -> None:
    paper = read_linear(theme["paper"])
    colours = [read_linear(theme[f"s{place}"]) for place in range(len(COLOURS))]
    assert min(contrast(colour, paper) for colour in colours) >= 3
    for vision in VISIONS:
        seen = [see_as_lab(colour, vision) for colour in colours]
        assert min(ciede2000(*pair) for pair in combinations(seen, 2)) >= 15
    assert contrast(read_linear(theme["ink"]), paper) >= 7
    assert contrast(read_linear(theme["soft"]), paper) >= 4.5
    heat = [int(theme["heat"][place : place + 2], 16) for place in (1, 3, 5)]
    page = [int(theme["paper"][place : place + 2], 16) for place in (1, 3, 5)]
    for share in np.linspace(0, 1, 101):
        mixed = [round(share * h + (1 - share) * p) for h, p in zip(heat, page, strict=True)]
        text = theme["high" if share > HEAT_TURN else "low"]
        assert contrast(read_linear(text), read_linear("#{:02x}{:02x}{:02x}".format(*mixed))) >= 4.4


def test_a_page_can_tell_light_colours_apart() -> None:
    assert len(set(LIGHT.values())) == len(LIGHT) == len(DARK)
    assert len(COLOURS) == len(DARK_COLOURS) == len(SHAPES)
    assert len(set(SHAPES[:-1])) == len(SHAPES) - 1


def test_names_keep_their_colours() -> None:
    emodb = assign_places(["anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness"])
    iemocap = assign_places(["neutral", "anger", "excitement", "frustration", "happiness", "sadness", "fear", "other"])
    assert all(iemocap[name] == emodb[name] for name in emodb.keys() & iemocap.keys())
    assert len(set(emodb.values())) == len(emodb)
    assert len(set(iemocap.values())) == len(iemocap)
    losses = assign_places([*(name for name in LOSSES if name != "ccc-regression"), "mine:Loss"])
    assert len(set(losses.values())) == len(losses)
    assert assign_places(["soft-ce"])["soft-ce"] == assign_places(["ccc-regression"])["ccc-regression"] == 7
    assert assign_places(["focal:gamma=1.5", "ce"]) == {"focal:gamma=1.5": losses["focal"], "ce": losses["ce"]}
    assert assign_places(["zero-shot"]) == {"zero-shot": assign_places(["ce", "zero-shot"])["zero-shot"]}
    clash = assign_places(["focal:gamma=1", "focal:gamma=2"])
    assert len(set(clash.values())) == 2
    speakers = assign_places([f"{number:02d}" for number in range(24)])
    assert [list(speakers.values()).count(place) for place in range(len(COLOURS))] == [1] * 10 + [14]


def drawings(names: list[str]) -> list[Figure]:
    """A figure of each kind, with all names wherever names can stand."""
    one = {name: {place: (50.0 + place, 1.0) for place in range(3)} for name in names}
    other = {name: dict.fromkeys(names, (40.0, 2.0)) for name in names}
    lines = draw_lines({"x": Draft(title=names[0], series=one, spans={names[0]: 1.5})}, Axes(place="a", value="b in %"))
    dots = draw_dots({"x": Draft(title=names[0], series=other)}, Axes(place="a", value="b in %"), "speaker")
    points = [{"id": name, "label": name, "speaker": name, "x0": 1.0, "y0": 2.0} for name in names]
    told = {"id": "utterance", "label": "true label", "speaker": "speaker"}
    place = draw_points(names[0], points, by="label", places=("x0", "y0"), axes=("a", "b"), fields=told)
    return [*lines.values(), *dots.values(), draw_matrix(names[0], names, np.ones((len(names), len(names)))), place]


def test_names_are_data_alone() -> None:
    plain = [f"name {number}" for number in range(len(HOSTILE))]
    for hostile, harmless in zip(drawings(HOSTILE), drawings(plain), strict=True):
        root = ET.fromstring(hostile.render("svg"))
        assert not {element.tag for element in root.iter()} & {f"{SVG}script", f"{SVG}image", f"{SVG}img", f"{SVG}a"}
        assert not any(name.startswith("on") for element in root.iter() for name in element.attrib)
        other = ET.fromstring(harmless.render("svg"))
        assert [element.tag for element in root.iter()] == [element.tag for element in other.iter()]
        # What Vega evaluates or looks fields up by holds no name.
        expressions = re.findall(
            r'"(?:test|expr|calculate|filter|field)": ("(?:[^"\\]|\\.)*")', json.dumps(hostile.chart)
        )
        assert expressions == re.findall(
            r'"(?:test|expr|calculate|filter|field)": ("(?:[^"\\]|\\.)*")', json.dumps(harmless.chart)
        )


def test_the_same_figure_is_the_same_file() -> None:
    for first, second in zip(drawings(HOSTILE), drawings(HOSTILE), strict=True):
        assert first.specification == second.specification
    assert [first.render(format) for format in ("svg", "png")] == [second.render(format) for format in ("svg", "png")]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=8, deadline=None)
@given(rows=st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=9))
def test_layers_are_drawn_as_they_are(make_row: MakeRow, rows: list[list[float]]) -> None:
    values = {f"loss{place}": row for place, row in enumerate(rows)}
    ((_, figure),) = draw_layers(layer_rows(make_row, values)).items()
    assert {(row["series"], row["at"]): row["mean"] for row in figure.data} == {
        (name, layer): pytest.approx(100 * value, abs=1e-3)
        for name, row in values.items()
        for layer, value in enumerate(row)
    }
    low, high = next(channels(figure.chart, "y"))["scale"]["domain"]
    assert all(low - 1e-3 <= row["low"] <= row["mean"] <= row["high"] <= high + 1e-3 for row in figure.data)


def test_encoders_and_protocols_have_figures_of_their_own_on_common_axes(make_row: MakeRow) -> None:
    rows = layer_rows(make_row, {"ce": [0.5, 0.6]}, encoder="hubert")
    rows += layer_rows(make_row, {"ce": [0.7, 0.8, 0.9]}, encoder="wavlm")
    rows += [*layer_rows(make_row, {"ce": [0.5, 0.6]}, encoder="hubert", folds="random"), make_row(loss="ce")]
    figures = draw_layers(rows)
    assert len(figures) == 3
    for channel, title in (("x", "layer"), ("y", "UAR in %")):
        found = [one for figure in figures.values() for one in channels(figure.chart, channel)]
        assert {one["title"] for one in found} == {title}
        assert len({str(one["scale"]["domain"]) for one in found if "scale" in one}) == 1
    datasets = [rows for figure in figures.values() for rows in figure.specification["datasets"].values()]
    line = [{"at": 0, "mean": 100 / 7, "words": "chance"}, {"at": 2, "mean": 100 / 7, "words": ""}]
    assert datasets.count(line) == 3


def test_rows_have_common_axes_from_chance_to_the_best() -> None:
    drafts = {
        name: Draft(title=name, series={"ce": {"a": (mean, 3.0)}}, guess=(25.0, 25.0, "chance"))
        for name, mean in (("one", 40.0), ("other", 99.0))
    }
    axes = Axes(place="class", value="recall in %", bounds=(0, 100))
    for figure in draw_dots(drafts, axes, "label").values():
        scales = [one["scale"] for one in channels(figure.chart, "x") if "scale" in one]
        assert [scale["domain"] for scale in scales] == [[25.0, 100.0]] * len(scales)


def test_numbers_that_are_none_leave_a_gap(make_row: MakeRow) -> None:
    rows = layer_rows(make_row, {"ce": [0.5, float("nan"), 0.6]})
    rows[0]["ua_std"] = float("nan")
    ((_, figure),) = draw_layers(rows).items()
    assert [row["mean"] for row in figure.data] == [50, None, 60]
    assert [row[1] for row in figure.rows] == ["50.0", "-", "60.0"]
    assert "NaN" not in json.dumps(figure.specification)
    assert draw_layers(layer_rows(make_row, {"ce": [float("nan")]})) == {}


def test_losses_of_nothing_have_a_place_on_a_logarithmic_axis() -> None:
    draft = Draft(title="x", series={"ce": {1: (1.0, 2.0), 2: (0.0, 0.0)}})
    (figure,) = draw_lines({"x": draft}, Axes(place="epoch", value="loss in nats", log=True)).values()
    assert min(row["low"] for row in figure.data) > 0
    assert "NaN" not in figure.render("svg").decode()


def test_runs_of_all_layers_have_no_such_figure(make_row: MakeRow) -> None:
    with pytest.raises(RunError, match="--layers each"):
        draw_layers([make_row()])
    with pytest.raises(ConfigError, match=r"metric 'uar'.*ua"):
        draw_layers(layer_rows(make_row, {"ce": [0.1]}), "uar")


def test_figures_are_written_below_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from embedkit.workflows import figure

    one = draw_matrix("x", ["a", "b"], np.eye(2))
    asked: list[str] = []
    names = ("layers-../../x", "layers-..-..-x")
    monkeypatch.setattr(figure, "draw_layers", lambda rows, metric: asked.append(metric) or dict.fromkeys(names, one))
    monkeypatch.setattr("embedkit.training.runs.find_runs", lambda folder: [])
    for metric in ("uar", "acc", "f1"):
        paths = figure.write_figures(tmp_path, metric=metric, out=tmp_path / "out")
    assert asked == ["ua", "wa", "f1"]
    assert [path.name for path in paths] == ["layers-..-..-x.svg", "layers-..-..-x-2.svg"]
    assert {path.parent for path in paths} == {tmp_path / "out"}
    assert {path.read_bytes() for path in paths} == {one.render("svg")}


@pytest.mark.skipif(sys.platform != "linux", reason="limits of addresses are those of Linux")
def test_too_small_an_address_space_is_told_before_the_converter_ends_the_process() -> None:
    script = (
        "import resource; from embedkit.reporting.figures.theme import converter;"
        "from embedkit.errors import RunError; converter();"
        "resource.setrlimit(resource.RLIMIT_AS, (4 * 10**9, resource.RLIM_INFINITY))\n"
        "try: converter()\nexcept RunError as error: print(error)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "70.0 GB of address space, though little memory; 4.0 GB are allowed (ulimit -v)" in result.stdout
