"""Figures over time hold what predict wrote, and files that hold something else are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from embedkit.errors import CorpusError, RunError
from embedkit.reporting.figures.theme import COLOURS, Figure, assign_places
from embedkit.reporting.figures.timeline import Timeline, draw_timelines, read_timelines
from embedkit.workflows.figure import write_figures
from embedkit.workflows.predict import Format, Prediction, render_predictions
from tests.reporting.test_figures import channels


def predictions(rates: bool = False) -> list[Prediction]:
    """Windows of two recordings: of one from 0 to 90 s and, after a gap, of 2 s; of the other one alone."""
    found = []
    for path, start, end in [
        *(("=a.wav", 1.0 * at, 4.0 + at) for at in range(87)),
        ("=a.wav", 95.0, 97.0),
        ("b/c.wav", 0.5, 2.0),
    ]:
        share = start / 100
        values = {"anger": share, "sadness": 1 - share}
        kept: dict[str, Any] = {"dimensions": values} if rates else {"label": "anger", "probabilities": values}
        found.append(Prediction(path=path, start=start, end=end, **kept))
    return found


def write(path: Path, found: list[Prediction], format: Format) -> Path:
    path.write_text("\n".join(render_predictions(found, format, segments=True)) + "\n")
    return path


@pytest.mark.parametrize("rates", [False, True])
@pytest.mark.parametrize("format", ["csv", "json", "jsonl"])
def test_what_predict_wrote_is_read_in_every_format(tmp_path: Path, format: Format, rates: bool) -> None:
    one, other = read_timelines(write(tmp_path / f"found.{format}", predictions(rates), format))
    assert (one.path, other.path) == ("=a.wav", "b/c.wav")
    assert (one.rates, len(one.windows), len(other.windows)) == (rates, 88, 1)
    assert one.windows[3] == (3.0, 7.0, {"anger": 0.03, "sadness": 0.97})


@pytest.mark.parametrize("rates", [False, True])
def test_a_figure_has_a_line_for_each_class_and_one_for_chance(tmp_path: Path, rates: bool) -> None:
    figures = draw_timelines(read_timelines(write(tmp_path / "found.jsonl", predictions(rates), "jsonl")))
    assert list(figures) == ["timeline-=a.wav", "timeline-c.wav"]
    figure, other = figures.values()
    assert {one["title"] for one in channels(figure.chart, "x")} == {"time in min:s"}
    assert len({one["title"] for one in channels(figure.chart, "y")}) == 1
    assert len(figure.data) == 2 * 88
    anger = [row for row in figure.data if row["series"] == "anger"]
    assert [row["at"] for row in anger[:3]] == [2.0, 3.0, 4.0]
    assert [row["value"] for row in anger] == sorted(row["value"] for row in anger)
    # The line is broken where nothing was predicted, and what stands alone has a mark.
    assert [row["part"] for row in anger] == [0] * 87 + [1]
    assert [row["dot"] for row in anger] == [False] * 87 + [True]
    assert all(row["dot"] for row in other.data)
    svg = figure.render("svg").decode()
    places = assign_places(["anger", "sadness"])
    assert all(COLOURS[place] in svg for place in places.values())
    texts = ["time in min:s", "1:15", "rating" if rates else "probability", "=a.wav, "]
    assert all(text in svg for text in texts)
    assert (">chance<" in svg) != rates
    assert "time in s<" in other.render("svg").decode()


def test_many_windows_have_a_panel_for_each_class() -> None:
    def draw(count: int) -> Figure:
        windows = [(float(at), at + 4.0, {"anger": 0.2, "sadness": 0.8}) for at in range(count)]
        return draw_timelines([Timeline("a.wav", rates=False, windows=windows)])["timeline-a.wav"]

    few, many = draw(360), draw(361)
    assert ["facet" in one.chart for one in (few, many)] == [False, True]
    svg = many.render("svg").decode()
    assert svg.count(">chance<") == 2
    assert few.render("svg").decode().count(">chance<") == 1


def test_files_are_written_for_each_recording(tmp_path: Path) -> None:
    file = write(tmp_path / "found.csv", [*predictions(), *predictions()[-1:]], "csv")
    paths = write_figures(file, "timeline", format="png", out=tmp_path / "figures")
    assert [path.name for path in paths] == ["timeline-=a.wav.png", "timeline-c.wav.png"]
    assert paths[0].read_bytes().startswith(b"\x89PNG")


ROW = {"path": "a.wav", "start": 0.0, "end": 4.0, "label": "a", "probabilities": {"a": 0.25, "b": 0.75}}


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("found.txt", "a.wav: anger", "is no file of predictions; expected a .csv, .json or .jsonl"),
        ("found.csv", "path,label,a,b\na.wav,a,0.5,0.5\n", "cannot be drawn over time .*start, end.*predict --window"),
        ("found.csv", "path,start,end,label,a\na.wav,,,a,1\n", "cannot be drawn over time"),
        (
            "found.csv",
            "path,start,end,label,a\na.wav,0,4,a,nan\n",
            "prediction 1 is not a stretch of time with numbers",
        ),
        ("found.csv", "path,start,end,label,a\na.wav,0,4,a,loud\n", "could not convert string to float"),
        ("found.csv", "path,start,end,label\na.wav,0,4,a\n", "prediction 1 is not a stretch of time"),
        ("found.csv", "path,start,end,label,a\n", "holds no predictions"),
        ("found.csv", "path,start,end,label,a\na.wav,0\n", "has 2 fields"),
        ("found.json", "{", "cannot be drawn over time"),
        ("found.json", json.dumps([{**ROW, "end": 0.0}]), "prediction 1 is not a stretch of time"),
        ("found.json", json.dumps([{name: ROW[name] for name in ROW if name != "end"}]), "it lacks 'end'"),
        ("found.json", json.dumps([1]), "cannot be drawn over time"),
        ("found.jsonl", "\n".join(json.dumps(ROW | {"probabilities": {one: 1.0}}) for one in "ab"), "of several runs"),
    ],
)
def test_what_cannot_be_drawn_is_told(tmp_path: Path, name: str, content: str, sentence: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises((RunError, CorpusError), match=sentence) as caught:
        write_figures(tmp_path / name, "timeline", out=tmp_path / "figures")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "figures").exists()


def test_a_folder_of_runs_has_no_timeline(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is no file of predictions"):
        write_figures(tmp_path, "timeline")
