"""Figures of runs: what is drawn is what the runs keep."""

from __future__ import annotations

import csv
import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics import confusion_matrix, recall_score
from sklearn.preprocessing import StandardScaler

import embedkit
from embedkit.errors import ConfigError, RunError
from embedkit.installation import install_command
from embedkit.reporting.figures.chart import COLOURS, DARK, HEAT_TURN, LIGHT, Chart, round_ticks
from embedkit.reporting.figures.learning import draw_curves, draw_weights
from embedkit.reporting.figures.maps import build_map, draw_map
from embedkit.reporting.figures.panels import plan_panels
from embedkit.reporting.figures.recall import draw_classes, draw_confusions, draw_speakers
from embedkit.reporting.predictions import read_predictions
from embedkit.training.runs import RunRecord
from embedkit.workflows.figure import KINDS
from tests.reporting.studies import LABELS, fit_study

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[RunRecord]:
    return fit_study(tmp_path_factory.mktemp("study"))


def read_rows(record: RunRecord) -> list[dict[str, str]]:
    with open(record.predictions_path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def by_seed(record: RunRecord) -> list[list[dict[str, str]]]:
    rows = read_rows(record)
    return [[row for row in rows if row["seed"] == str(seed)] for seed in record.config["seeds"]]


def column(chart: Chart, name: str) -> dict[str, str]:
    place = chart.headers.index(name)
    return {row[0]: row[place] for row in chart.rows}


def test_matrices_are_those_of_the_predictions(records: list[RunRecord]) -> None:
    charts = draw_confusions(plan_panels(records), read_predictions)
    assert len(charts) == 2
    classes = records[0].config["classes"]
    for chart, record in zip(charts.values(), records, strict=False):
        counts = [
            confusion_matrix([row["label"] for row in own], [row["predicted"] for row in own], labels=classes)
            for own in by_seed(record)
        ]
        shares = np.mean(counts, axis=0) / np.sum(counts[0], axis=1, keepdims=True)
        drawn = np.array([[float(value) for value in row[1:]] for row in chart.rows])
        np.testing.assert_allclose(drawn, 100 * shares, atol=0.051)
        cells = [rect for rect in ET.fromstring(chart.inline()).iter(f"{SVG}rect") if rect.get("class") == "heat"]
        opacities = [float(rect.get("fill-opacity", "")) for rect in cells]
        np.testing.assert_allclose(opacities, shares.ravel(), atol=6e-4)


def test_recalls_are_those_of_the_predictions(records: list[RunRecord]) -> None:
    panels = plan_panels(records)
    classes = records[0].config["classes"]
    (by_class,) = draw_classes(panels, read_predictions).values()
    (by_speaker,) = draw_speakers(panels, read_predictions).values()
    assert by_class.legend == by_speaker.legend == ("ce", "ccc")
    for record in records[:2]:
        own = by_seed(record)
        recalls = np.mean(
            [
                recall_score([r["label"] for r in rows], [r["predicted"] for r in rows], labels=classes, average=None)
                for rows in own
            ],
            axis=0,
        )
        found = column(by_class, record.metrics["loss"])
        assert [float(found[name]) for name in classes] == pytest.approx(100 * recalls, abs=0.051)
        for speaker, told in column(by_speaker, record.metrics["loss"]).items():
            scores = []
            for rows in own:
                mine = [row for row in rows if row["speaker"] == speaker]
                truth, said = [row["label"] for row in mine], [row["predicted"] for row in mine]
                scores.append(recall_score(truth, said, labels=sorted(set(truth)), average="macro"))
            assert float(told) == pytest.approx(100 * np.mean(scores), abs=0.051)


def test_curves_and_weights_are_those_that_runs_keep(records: list[RunRecord]) -> None:
    panels = plan_panels(records)
    scores, losses = draw_curves(panels).values()
    (weights,) = draw_weights(panels).values()
    for record in records[:2]:
        name, curves = record.metrics["loss"], record.load_curves()
        assert curves is not None
        drawn = [float(value) for value in column(scores, name).values()]
        assert drawn == pytest.approx(100 * np.mean(curves["dev"], axis=0), abs=0.051)
        train = np.array(curves["loss"])
        drawn = [float(value) for value in column(losses, name).values()]
        assert drawn == pytest.approx(100 * np.mean(train / train[:, :1], axis=0), abs=0.051)
        heads = [value.numpy() for key, value in record.load_heads().items() if key.endswith("layer_weights")]
        assert len(heads) == 2 * 4
        shares = np.mean([np.exp(one) / np.exp(one).sum() for one in np.reshape(heads, (8, 2))], axis=0)
        assert [float(value) for value in column(weights, name).values()] == pytest.approx(100 * shares, abs=0.051)


def test_runs_without_curves_are_left_out(records: list[RunRecord], tmp_path: Path) -> None:
    (record, *_) = fit_study(tmp_path, seeds=1, epochs=2, lr=(1e-2,))
    (record.folder / "curves.json").unlink()
    scores, _ = draw_curves(plan_panels([record, *records[1:2]])).values()
    assert scores.legend == ("ccc",)


def test_a_map_shows_principal_components_in_proportion(records: list[RunRecord]) -> None:
    predictions = read_predictions(records[0])
    found = build_map(records[0], predictions)
    store = embedkit.open_store(records[0].config["store"]["path"])
    rows = {name: row for row, name in enumerate(store.ids.tolist())}
    values = StandardScaler().fit_transform(store.mean()[[rows[name] for name in found.ids]].astype(float))
    expected = PCA(2, svd_solver="full").fit_transform(values)
    for side in (0, 1):
        correlation = np.corrcoef(expected[:, side], found.points["PCA"][:, side])[0, 1]
        assert abs(correlation) == pytest.approx(1, abs=1e-6)
    assert np.ptp(expected[:, 0]) / np.ptp(expected[:, 1]) == pytest.approx(
        np.ptp(found.points["PCA"][:, 0]) / np.ptp(found.points["PCA"][:, 1])
    )
    for points in found.points.values():
        assert points.min() >= 0
        assert points.max() <= 400
    assert set(found.groups) == {"label", "speaker", "session"}
    assert [found.groups["label"][place] for place in (0, 1)] == [
        store.labels[rows[found.ids[place]]] for place in (0, 1)
    ]


def test_every_point_is_drawn_with_those_of_its_kind(records: list[RunRecord]) -> None:
    found = build_map(records[0], read_predictions(records[0]))
    for by, names in (("label", LABELS), ("speaker", ("s00", "s01", "s02", "s03"))):
        chart = draw_map(found, "PCA", by)
        assert chart.legend == tuple(sorted(names))
        paths = [path.get("d", "").count("M") for path in ET.fromstring(chart.inline()).iter(f"{SVG}path")]
        assert paths == [found.groups[by].count(name) for name in chart.legend]


def test_single_layers_have_no_part_in_the_other_figures(records: list[RunRecord]) -> None:
    assert plan_panels(records[2:]) == []


def luminance(colour: Sequence[float]) -> float:
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: Sequence[float], other: Sequence[float]) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def rgb(text: str) -> list[float]:
    return [int(text[place : place + 2], 16) / 255 for place in (1, 3, 5)]


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_colours_stand_out(theme: dict[str, str]) -> None:
    paper = rgb(theme["paper"])
    assert min(contrast(rgb(theme[f"s{place}"]), paper) for place in range(len(COLOURS))) >= 3
    assert contrast(rgb(theme["ink"]), paper) >= 7
    assert contrast(rgb(theme["soft"]), paper) >= 4.5
    for share in np.linspace(0, 1, 101):
        cell = [share * heat + (1 - share) * white for heat, white in zip(rgb(theme["heat"]), paper, strict=True)]
        assert contrast(rgb(theme["high" if share > HEAT_TURN else "low"]), cell) >= 4.4


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (49.7, 50.2), (1e-3, 2e-3), (0, 3e5), (97.1, 97.1), (-2, -1)])
def test_ticks_span_the_range(low: float, high: float) -> None:
    ticks = round_ticks(low, high)
    assert ticks[0] <= low
    assert ticks[-1] >= high - 1e-9
    assert 2 <= len(ticks) <= 9
    np.testing.assert_allclose(np.diff(ticks), ticks[1] - ticks[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("format", ["svg", "pdf"])
def test_figures_are_files(records: list[RunRecord], tmp_path: Path, kind: str, format: str) -> None:
    if format == "pdf":
        pytest.importorskip("svglib", reason="svglib, which converts to PDF, is not installed")
    runs = records[0].folder.parents[3]
    for path in embedkit.write_figures(runs, kind, format=format, out=tmp_path):
        assert path.parent == tmp_path
        assert path.name.startswith(kind)
        content = path.read_bytes()
        if format == "pdf":
            assert content.startswith(b"%PDF")
            assert re.search(rb"/MediaBox \[ 0 0 \d+(\.\d+)? \d+(\.\d+)? \]", content)
        else:
            root = ET.fromstring(content)
            assert root.get("role") == "img"
            assert root.get("aria-label")
    assert kind != "confusion" or len(list(tmp_path.iterdir())) == 2


def test_what_cannot_be_drawn_is_told(
    records: list[RunRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = records[0].folder.parents[3]
    with pytest.raises(ConfigError, match=r"figure 'wieghts'.*weights"):
        embedkit.write_figures(runs, "wieghts", out=tmp_path)
    with pytest.raises(ConfigError, match=r"format 'png'.*pdf, svg"):
        embedkit.write_figures(runs, "layers", format="png", out=tmp_path)
    with pytest.raises(RunError, match="single layers"):
        embedkit.write_figures(records[2].folder, "confusion", out=tmp_path)
    monkeypatch.setitem(sys.modules, "svglib", None)
    with pytest.raises(ConfigError, match=re.escape(install_command("pdf"))):
        embedkit.write_figures(runs, "layers", format="pdf", out=tmp_path)


def test_letters_that_pdf_lacks_are_named() -> None:
    pytest.importorskip("svglib", reason="svglib, which converts to PDF, is not installed")
    from embedkit.reporting.figures.pdf import convert_to_pdf

    chart = Chart(title="müde ± 怒", body="", width=10, height=10)
    with pytest.raises(ConfigError, match=r"怒.*svg"):
        convert_to_pdf(chart.standalone())


def test_protocols_have_figures_of_their_own_with_what_makes_them_easy(records: list[RunRecord]) -> None:
    leaky = replace(records[0], metrics={**records[0].metrics, "leak": True, "transductive": True})
    charts = draw_confusions(plan_panels([records[0], leaky]), read_predictions)
    plain, marked = charts.values()
    assert ", TRANSDUCTIVE, LEAK" in marked.standalone()
    assert "LEAK" not in plain.standalone()
