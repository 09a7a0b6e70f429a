"""Figures of runs: what is drawn is what the runs keep."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics import confusion_matrix, log_loss, recall_score
from sklearn.preprocessing import StandardScaler

import embedkit
from embedkit.errors import ConfigError, RunError
from embedkit.evaluation.calibration import place_in_bins
from embedkit.reporting.figures.calibration import draw_calibration
from embedkit.reporting.figures.forest import draw_forest
from embedkit.reporting.figures.learning import draw_curves, draw_weights
from embedkit.reporting.figures.maps import METHODS, build_map, draw_map, draw_maps
from embedkit.reporting.figures.panels import plan_panels
from embedkit.reporting.figures.recall import draw_classes, draw_confusions, draw_speakers
from embedkit.reporting.figures.theme import Figure
from embedkit.reporting.predictions import read_predictions
from embedkit.training.runs import RunRecord
from embedkit.workflows.figure import FORMATS, KINDS
from tests.reporting.studies import LABELS, QUICK, fit_study, write_checked_svg, write_store
from tests.reporting.test_figures import channels
from tests.training.stores import calibrated_shares

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


def column(chart: Figure, name: str) -> dict[str, str]:
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
        drawn = np.array([[value.rstrip(")").split(" (") for value in row[1:]] for row in chart.rows], np.float64)
        np.testing.assert_allclose(drawn[..., 0], 100 * shares, atol=0.051)
        np.testing.assert_allclose(drawn[..., 1], np.mean(counts, axis=0), atol=0.051)
        assert [row["count"] for row in chart.data] == pytest.approx(np.mean(counts, axis=0).ravel().tolist(), abs=6e-3)
        cells = {(row["label"], row["predicted"]): row["share"] for row in chart.data}
        np.testing.assert_allclose(list(cells.values()), 100 * shares.ravel(), atol=6e-3)
        assert list(cells) == [(true, other) for true in classes for other in classes]


def test_the_forest_shows_scores_with_their_intervals_and_chance(records: list[RunRecord]) -> None:
    (chart,) = draw_forest(plan_panels(records)).values()
    assert chart.headers == ("encoder, head", "ce", "ccc")
    ((place, *cells),) = chart.rows
    assert place == "tiny, linear"
    for row, cell, record in zip(chart.data, cells, records, strict=False):
        score, (low, high) = 100 * record.metrics["ua"], (100 * end for end in record.metrics["ua_ci"])
        assert (row["mean"], row["low"], row["high"]) == pytest.approx((score, low, high), abs=1e-4)
        assert cell == f"{score:.1f} [{low:.1f}, {high:.1f}]"
    assert '"mean": 33.33' in json.dumps(chart.chart)
    blind = [replace(record, metrics={**record.metrics, "ua_ci": None}) for record in records]
    (chart,) = draw_forest(plan_panels(blind)).values()
    assert all(row["low"] == row["mean"] == row["high"] for row in chart.data)


def test_recalls_are_those_of_the_predictions(records: list[RunRecord]) -> None:
    panels = plan_panels(records)
    classes = records[0].config["classes"]
    (by_class,) = draw_classes(panels, read_predictions).values()
    (by_speaker,) = draw_speakers(panels, read_predictions).values()
    assert by_class.headers == ("class", "ce", "ccc")
    assert by_speaker.headers == ("speaker", "ce", "ccc")
    assert {row["label"] for row in by_class.data} == set(classes)
    assert {row["speaker"] for row in by_speaker.data} == {"s00", "s01", "s02", "s03"}
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
    scores, *losses = draw_curves(panels).values()
    (weights,) = draw_weights(panels).values()
    titles = [next(channels(figure.chart, "y"))["title"] for figure in (scores, *losses, weights)]
    assert titles == ["validation UAR (UA) in %", "training loss in nats", "training loss, 1 - CCC", "weight in %"]
    for record, loss in zip(records[:2], losses, strict=True):
        name, curves = record.metrics["loss"], record.load_curves()
        assert curves is not None
        drawn = [float(value) for value in column(scores, name).values()]
        assert drawn == pytest.approx(100 * np.mean(curves["dev"], axis=0), abs=0.051)
        drawn = [float(value) for value in column(loss, name).values()]
        assert drawn == pytest.approx(np.mean(curves["loss"], axis=0), abs=0.0006)
        heads = [value.numpy() for key, value in record.load_heads().items() if key.endswith("layer_weights")]
        assert len(heads) == 2 * 4
        shares = np.mean([np.exp(one) / np.exp(one).sum() for one in np.reshape(heads, (8, 2))], axis=0)
        assert [float(value) for value in column(weights, name).values()] == pytest.approx(100 * shares, abs=0.051)


def test_the_growth_of_a_margin_is_shaded(records: list[RunRecord], tmp_path: Path) -> None:
    def spans(record: RunRecord) -> list[object]:
        return [
            row
            for figure in draw_curves(plan_panels([record])).values()
            for rows in figure.specification["datasets"].values()
            for row in rows
            if "to" in row
        ]

    store = write_store(tmp_path)
    (record,) = embedkit.fit(store, loss=["aam:warmup=0.5"], runs=tmp_path / "runs", **QUICK | {"seeds": 1})
    assert record.config["budget"]["epochs"] == 6
    # The first epoch has no margin, the fourth is the first with all of it.
    assert spans(record) == [{"at": 1, "to": 4.0, "words": "aam: margin grows"}] * 2
    assert spans(records[0]) == []
    assert spans(replace(record, config={**record.config, "loss_options": {"warmup": 0}})) == []


def test_calibration_is_that_of_the_predictions(records: list[RunRecord]) -> None:
    raw, scaled, likelihood = draw_calibration(plan_panels(records), read_predictions).values()
    classes = records[0].config["classes"]
    for record in records[:2]:
        name = record.metrics["loss"]
        shares = np.array([[[float(row[f"p_{one}"]) for one in classes] for row in rows] for rows in by_seed(record)])
        calibrated = np.array([[calibrated_shares(record, row) for row in rows] for rows in by_seed(record)])
        truth = np.array([classes.index(row["label"]) for row in by_seed(record)[0]])
        for reliability, given, series in ((raw, shares, "uncalibrated"), (scaled, calibrated, "calibrated")):
            losses = [log_loss(truth, own / own.sum(1, keepdims=True), labels=range(len(classes))) for own in given]
            assert float(column(likelihood, series)[name]) == pytest.approx(np.mean(losses), abs=2e-3)
            assert reliability.title.endswith(f", {series}")
            places = place_in_bins(given.max(-1))
            hits = given.argmax(-1) == truth
            drawn = {row["at"]: row["mean"] for row in reliability.data if row["series"] == name}
            known = [number for number in range(15) if (places == number).any(1).all()]
            assert list(drawn) == [pytest.approx(100 * (number + 0.5) / 15, abs=0.06) for number in known]
            for number, accuracy in zip(known, drawn.values(), strict=True):
                means = [own[inside].mean() for own, inside in zip(hits, places == number, strict=True)]
                assert accuracy == pytest.approx(100 * np.mean(means), abs=1e-3)
    chance = [rows for name, rows in likelihood.specification["datasets"].items() if name != "rows"]
    assert chance == [[{"mean": pytest.approx(np.log(3)), "words": "chance"}]]


def test_runs_without_curves_are_left_out(records: list[RunRecord], tmp_path: Path) -> None:
    (record, *_) = fit_study(tmp_path, seeds=1, epochs=2, lr=(1e-2,))
    (record.folder / "curves.json").unlink()
    scores, _ = draw_curves(plan_panels([record, *records[1:2]])).values()
    assert scores.headers == ("epoch", "ccc")


def test_a_map_shows_principal_components_in_proportion(records: list[RunRecord]) -> None:
    predictions = read_predictions(records[0])
    found = build_map(records[0], predictions)
    store = embedkit.open_store(records[0].config["store"]["path"])
    rows = {name: row for row, name in enumerate(store.ids.tolist())}
    values = StandardScaler().fit_transform(store.mean()[[rows[name] for name in found.columns["id"]]].astype(float))
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
    assert set(found.columns) == {"id", "label", "predicted", "speaker", "session"}
    for place, name in enumerate(found.columns["id"]):
        assert found.columns["label"][place] == store.labels[rows[name]]
        said = [next(row["predicted"] for row in own if row["id"] == name) for own in by_seed(records[0])]
        assert said.count(found.columns["predicted"][place]) == max(map(said.count, said))


def test_every_point_is_drawn_as_all_of_its_name(records: list[RunRecord]) -> None:
    found = build_map(records[0], read_predictions(records[0]))
    for by, names in (("label", LABELS), ("predicted", LABELS), ("speaker", ("s00", "s01", "s02", "s03"))):
        for number, method in enumerate(METHODS):
            figure = draw_map(found, method, by)
            colour = next(channels(figure.chart, "color"))
            assert (colour["field"], colour["scale"]["domain"]) == (by, sorted(names))
            assert next(channels(figure.chart, "x"))["field"] == f"x{number}"
            shapes = [path.get("fill") for path in ET.fromstring(figure.render("svg")).iter(f"{SVG}path")]
            for name, own in zip(colour["scale"]["domain"], colour["scale"]["range"], strict=True):
                # And one in the legend.
                assert shapes.count(own) == found.columns[by].count(name) + 1


def test_maps_of_one_title_are_files_of_their_own(records: list[RunRecord]) -> None:
    found = build_map(records[0], read_predictions(records[0]))
    one, both = list(draw_maps([found])), list(draw_maps([found, found]))
    assert both[: len(one)] == one
    assert len(set(both)) == len(both) == 2 * len(one)


def test_single_layers_have_no_part_in_the_other_figures(records: list[RunRecord]) -> None:
    assert plan_panels(records[2:]) == []


UNDRAWN = ("cross", "shares", "timeline")
STARTS = {"svg": b"<svg", "pdf": b"%PDF", "png": b"\x89PNG"}


@pytest.mark.parametrize(
    ("kind", "format"),
    [*((kind, "svg") for kind in KINDS if kind not in UNDRAWN), ("confusion", "pdf"), ("curves", "png")],
)
def test_figures_are_files(
    records: list[RunRecord], tmp_path: Path, kind: str, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedkit.reporting.figures.theme.write_svg", write_checked_svg)
    runs = records[0].folder.parents[3]
    paths = embedkit.write_figures(runs, kind, format=format, out=tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert set(STARTS) == set(FORMATS)
    for path in paths:
        assert path.name.startswith(kind)
        assert path.suffix == f".{format}"
        assert path.read_bytes().startswith(STARTS[format])
    assert kind != "confusion" or len(paths) == 2


def test_all_axes_have_titles(records: list[RunRecord]) -> None:
    panels = plan_panels(records)
    drawn = [
        draw(panels, read_predictions) for draw in (draw_confusions, draw_classes, draw_speakers, draw_calibration)
    ]
    found = build_map(records[0], read_predictions(records[0]))
    figures = [*(one for own in drawn for one in own.values()), *draw_curves(panels).values()]
    for figure in [*figures, *draw_weights(panels).values(), *(draw_map(found, method) for method in METHODS)]:
        for channel in ("x", "y"):
            titles = {one["title"] for one in channels(figure.chart, channel)}
            assert len(titles) == 1, (figure.title, titles)


def test_what_cannot_be_drawn_is_told(records: list[RunRecord], tmp_path: Path) -> None:
    runs = records[0].folder.parents[3]
    with pytest.raises(ConfigError, match=r"figure 'wieghts'.*weights"):
        embedkit.write_figures(runs, "wieghts", out=tmp_path)
    with pytest.raises(ConfigError, match=r"format 'jpg'.*pdf, png, svg"):
        embedkit.write_figures(runs, "layers", format="jpg", out=tmp_path)
    with pytest.raises(RunError, match="single layers"):
        embedkit.write_figures(records[2].folder, "confusion", out=tmp_path)


def test_protocols_have_figures_of_their_own_with_what_makes_them_easy(records: list[RunRecord]) -> None:
    leaky = replace(records[0], metrics={**records[0].metrics, "leak": True, "transductive": True})
    charts = draw_confusions(plan_panels([records[0], leaky]), read_predictions)
    plain, marked = charts.values()
    assert ", TRANSDUCTIVE, LEAK" in marked.title
    assert "LEAK" not in plain.title
