"""Emotional attributes in place of classes: from the command line to tables and predictions."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import embedkit
from embedkit.cli import app
from embedkit.errors import FitError, RunError
from embedkit.evaluation.metrics import concordance_correlation
from embedkit.export.ensemble import Ensemble
from embedkit.export.predictor import open_predictor
from embedkit.store import Store
from embedkit.training.runs import RunRecord, find_runs
from tests.cases import mark_cases
from tests.training.stores import write_synthetic_store

QUICK: dict[str, Any] = {"seeds": 2, "epochs": 15, "batch_size": 8, "lr": (1e-2, 3e-2), "threads": 2}


def write_rated_store(path: Path, *, missing: tuple[int, ...] = (), **changes: Any) -> Store:
    """Ratings of different units that the embeddings tell; some are missing."""
    features = {"speakers": 6, "each": 20, "noise": 0.5, **changes}
    informative = write_synthetic_store(path, **features).mean(layer=1).astype(np.float64)
    valence, arousal = 3 + informative[:, 0], 50 - 20 * informative[:, 1]
    valence[list(missing)] = np.nan
    return write_synthetic_store(path, **{**features, "valence": valence, "arousal": arousal, **changes})


def fit(tmp_path: Path, store: Store, **options: Any) -> list[RunRecord]:
    return embedkit.fit(store, runs=tmp_path / "runs", **{**QUICK, "targets": ["valence", "arousal"], **options})


def read_predictions(record: RunRecord) -> list[dict[str, str]]:
    with open(record.predictions_path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_scores_are_those_of_the_predictions_kept(tmp_path: Path) -> None:
    told: list[str] = []
    store = write_rated_store(tmp_path / "tiny.h5", missing=(3, 40, 41))
    (record,) = fit(tmp_path, store, tell=told.append)
    assert "Left out 3 utterances of synthetic without a number in valence or arousal." in told
    assert any(line.startswith("synthetic tiny, linear, ccc-regression: CCC 0.") for line in told)
    metrics, rows = record.metrics, read_predictions(record)
    assert len(rows) == 117 * 2
    assert (metrics["utterances"], metrics["classes"], metrics["dimensions"]) == (117, [], ["valence", "arousal"])
    found: dict[str, list[float]] = {}
    for seed in ("0", "1"):
        own = [row for row in rows if row["seed"] == seed]
        assert len({row["id"] for row in own}) == 117
        for name in ("valence", "arousal"):
            truth, predicted = (np.array([float(row[key]) for row in own]) for key in (name, f"predicted_{name}"))
            at = [store.ids.tolist().index(row["id"]) for row in own]
            np.testing.assert_allclose(truth, store.column(name)[at], rtol=1e-4)
            found.setdefault(f"ccc_{name}", []).append(float(concordance_correlation(truth, predicted)))
            found.setdefault(f"rmse_{name}", []).append(float(np.sqrt(np.mean((truth - predicted) ** 2))))
    found["ccc"] = np.mean([found["ccc_valence"], found["ccc_arousal"]], axis=0).tolist()
    for key, values in found.items():
        assert metrics[key] == pytest.approx(np.mean(values), rel=1e-3)
        assert metrics[f"{key}_std"] == pytest.approx(np.std(values, ddof=1), rel=2e-2, abs=1e-5)
        if key.startswith("ccc"):
            low, high = metrics[f"{key}_ci"]
            assert low <= metrics[key] <= high <= 1
    assert metrics["ccc"] > 0.8
    assert "ua" not in metrics
    assert 0 < metrics["ccc_dev"] <= 1
    assert all(0 < choice["ccc_dev"] <= 1 for choice in record.config["choices"])


@pytest.mark.parametrize(
    ("head", "loss"),
    mark_cases(
        [
            ("superb", "ccc-regression"),
            ("mlp:hidden=16/32", "ccc-regression"),
            ("attentive:hidden=8", "ccc-regression"),
            ("lstm:hidden=8", "ccc-regression"),
            ("linear", "torch.nn:MSELoss"),
        ],
        lambda head, loss: head[:4] not in ("supe", "lstm"),
    ),
)
def test_every_head_learns_ratings(tmp_path: Path, head: str, loss: str) -> None:
    store = write_rated_store(tmp_path / "tiny.h5", framed=True)
    (record,) = fit(tmp_path, store, head=[head], loss=[loss], seeds=1)
    assert record.metrics["ccc"] > 0.75
    assert record.metrics["loss"] == loss


@pytest.mark.parametrize("options", [{"folds": "split"}, {"folds": "random"}, {"patience": 2}, {"layers": "each"}])
def test_the_usual_options_hold(tmp_path: Path, options: dict[str, Any]) -> None:
    records = fit(tmp_path, write_rated_store(tmp_path / "tiny.h5"), **options)
    assert records[-1].metrics["ccc"] > 0.8
    if "layers" in options:
        assert records[0].metrics["ccc"] < 0.5


def test_ratings_that_say_nothing_are_not_predicted(tmp_path: Path) -> None:
    store = write_rated_store(tmp_path / "tiny.h5", shuffled=True)
    rng = np.random.default_rng(0)
    store = write_synthetic_store(tmp_path / "tiny.h5", speakers=8, each=30, valence=rng.normal(size=240))
    (record,) = fit(tmp_path, store, targets="valence")
    assert abs(record.metrics["ccc"]) < 0.2
    assert record.metrics["ccc"] == record.metrics["ccc_valence"]


def test_a_run_that_is_there_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = write_rated_store(tmp_path / "tiny.h5")
    (first,) = fit(tmp_path, store)
    (other,) = fit(tmp_path, store, targets=["valence"])
    assert other.folder != first.folder
    monkeypatch.setattr("embedkit.training.train.train_losses", None)
    told: list[str] = []
    (again,) = fit(tmp_path, store, tell=told.append)
    assert again.metrics == first.metrics
    assert "CCC 0." in told[0]
    assert "fitted before" in told[0]


def test_another_corpus_is_rated_by_the_scale_of_the_first(tmp_path: Path) -> None:
    store = write_rated_store(tmp_path / "one.h5")
    other = write_rated_store(tmp_path / "two.h5", corpus="other", seed=7, missing=(0,))
    told: list[str] = []
    (record,) = fit(tmp_path, store, test_on=other, tell=told.append)
    assert told[0] == "Left out 1 utterance of other without a number in valence or arousal."
    assert record.metrics["utterances"] == 119
    assert record.metrics["ccc"] > 0.7
    assert record.metrics["test_corpus"] == "other"


def test_the_table_shows_dimensions_apart_from_classes(tmp_path: Path) -> None:
    store = write_rated_store(tmp_path / "tiny.h5", missing=(5,))
    (rated,) = fit(tmp_path, store, head=["mlp"])
    (classified,) = embedkit.fit(store, head=["mlp"], runs=tmp_path / "runs", **QUICK)
    text = str(embedkit.table(tmp_path / "runs", spread="seeds"))
    flat = " ".join(text.split())
    assert text.count("Protocol:") == 2
    assert "synthetic: CCC, 2 emotional attributes, folds by session" in text
    assert "synthetic: UAR in %, 3 classes, folds by session" in text
    assert (
        "2 emotional attributes (valence, arousal; left out 1 utterance of synthetic without a number in valence or "
        "arousal)" in flat
    )
    assert "Lin 1989" not in flat
    assert "Lin 1989" in " ".join(str(embedkit.table(tmp_path / "runs", explain=True)).split())
    header, line = (next(x for x in text.splitlines() if x.startswith(start)) for start in ("encoder, h", "tiny, mlp"))
    assert header.split()[-3:] == ["mean", "valence", "arousal"]
    numbers = [f"{rated.metrics[key]:.3f}" for key in ("ccc", "ccc_valence", "ccc_arousal")]
    assert [part for part in line.split() if part[0] == "0"] == numbers
    assert "*" not in line
    everything = str(embedkit.table(tmp_path / "runs", metric="all"))
    assert everything.count("RMSE in the unit of the ratings") == 1
    assert everything.count("UAR in %") == 1
    only = str(embedkit.table(tmp_path / "runs", metric="rmse"))
    assert "UA" not in only.replace("UAR (UA) or WA", "")
    assert f"{rated.metrics['rmse_arousal']:.3f}" in only
    with pytest.raises(RunError, match="--metric ccc or rmse"):
        embedkit.table([rated], metric="ua")
    with pytest.raises(RunError, match="--metric ua, wa, f1, nll, brier, ece, kl or js"):
        embedkit.table([classified], metric="ccc")
    records = json.loads(embedkit.table([rated, classified]).render("json"))
    by_loss = {record["loss"]: record for record in records}
    assert by_loss["ccc-regression"]["ccc_valence"] == rated.metrics["ccc_valence"]
    assert by_loss["ccc-regression"]["ua"] is by_loss["ce"]["ccc_valence"] is None
    for format in ("markdown", "latex", "csv"):
        assert "valence" in embedkit.table([rated], format=format).render()
    assert "Nearest here" not in embedkit.table([rated], published=True).render()


def test_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_rated_store(tmp_path / "tiny.h5", missing=(5,))
    run = CliRunner().invoke
    budget = "--seeds 1 --epochs 5 --lr 3e-2 --batch-size 16 --threads 1"
    fitted = run(app, f"fit tiny.h5 --targets valence,arousal --loss ccc-regression {budget}".split())
    assert fitted.exit_code == 0, fitted.output
    assert "Left out 1 utterance of synthetic" in fitted.stderr
    (record,) = find_runs(tmp_path / "runs")
    assert record.config["dimensions"] == ["valence", "arousal"]
    Path("embedkit.toml").write_text('[fit]\ntargets = ["valence", "arousal"]\n')
    assert "fitted before" in run(app, f"fit tiny.h5 {budget}".split()).stderr
    assert "valence" in run(app, ["table", "--metric", "ccc"]).stdout


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"targets": ["valance"]}, "is none of its columns: synthetic has arousal, valence, did you mean 'valence'?"),
        ({"targets": ["text"]}, "'text' holds texts: synthetic has arousal, valence. 't0' is no number."),
        ({"targets": ["valence", "valence"]}, "twice"),
        ({"loss": ["ce"]}, "choose --loss ccc-regression"),
        ({"loss": "all"}, "choose --loss ccc-regression"),
        ({"targets": [], "loss": ["ccc-regression"]}, r"--targets \(synthetic has arousal, valence\)"),
        ({"classes": ["anger", "sadness"]}, "--where label=LABEL"),
        ({"merge": {"anger": "sadness"}}, "--where label=LABEL"),
        ({"where": ["id=u0003"]}, "Of the 1 utterances chosen from .* 0 have a number"),
    ],
)
def test_what_cannot_be_predicted_is_told(tmp_path: Path, options: dict[str, Any], sentence: str) -> None:
    store = write_rated_store(tmp_path / "tiny.h5", missing=(3,))
    with pytest.raises(FitError, match=sentence) as caught:
        fit(tmp_path, store, **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_a_corpus_without_ratings_is_told(tmp_path: Path) -> None:
    store = write_synthetic_store(tmp_path / "tiny.h5", valence=["high", "low"] * 30)
    with pytest.raises(FitError, match="holds texts: synthetic has no column of numbers"):
        fit(tmp_path, store)


def test_names_that_would_be_mistaken_for_results_are_told(tmp_path: Path) -> None:
    store = write_synthetic_store(tmp_path / "tiny.h5", valence_std=np.arange(60.0))
    with pytest.raises(FitError, match="'valence_std' would be mistaken"):
        fit(tmp_path, store, targets=["valence", "valence_std"])
    (record,) = fit(tmp_path, store, targets=["valence_std"], epochs=1)
    assert "ccc_valence_std_std" in record.metrics


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_heads_that_diverge_are_kept_as_what_they_are(tmp_path: Path) -> None:
    store = write_rated_store(tmp_path / "tiny.h5")
    (record,) = fit(tmp_path, store, head=["mlp"], loss=["torch.nn:MSELoss"], lr=(1e30,), epochs=2)
    assert record.metrics["rmse_valence"] is None
    assert record.metrics["ccc_dev"] == -1
    assert "tiny, mlp" in str(embedkit.table([record]))
    assert "tiny, mlp" in str(embedkit.table([record], metric="rmse"))


def test_one_label_is_enough(tmp_path: Path) -> None:
    store = write_rated_store(tmp_path / "tiny.h5")
    (record,) = fit(tmp_path, store, where=["label=anger"], epochs=3, folds="random")
    assert record.metrics["utterances"] == 40


def test_an_estimator_of_classes_refuses_a_loss_of_dimensions() -> None:
    with pytest.raises(FitError, match="HeadClassifier tells classes apart"):
        embedkit.HeadClassifier(loss="ccc-regression").fit(np.eye(4), ["a", "b", "a", "b"])
    with pytest.raises(FitError, match="learns ratings beside classes"):
        embedkit.HeadClassifier(loss="ce+ccc").fit(np.eye(4), ["a", "b", "a", "b"])


def test_ratings_are_learned_beside_classes(tmp_path: Path) -> None:
    store = write_rated_store(tmp_path / "tiny.h5", missing=(3, 40, 41))
    losses = ["ce", "ce+ccc:ratings=valence+arousal", "ce+ccc:ratings=valence+arousal,ce=0.2,ccc=0.8"]
    options = {"targets": (), "folds": "split", "head": ["superb:hidden=8"], "seeds": 1}
    usual, even, uneven = fit(tmp_path, store, loss=losses, **options)
    # Utterances that lack a rating are tested as all others are.
    assert even.metrics["utterances"] == usual.metrics["utterances"]
    assert "dimensions" not in even.metrics
    assert min(even.metrics["ua"], uneven.metrics["ua"]) > 0.7
    assert len({record.folder for record in (usual, even, uneven)}) == 3
    heads = even.load_heads()
    (bias,) = (value for name, value in heads.items() if name.endswith("classifier.bias"))
    assert len(bias) == 3 + 2
    trained = store.column("split") == "train"
    means = [np.nanmean(store.column(name)[trained]) for name in ("valence", "arousal")]
    assert heads["0/rating_mean"].tolist() == pytest.approx(means)
    outputs = Ensemble(open_predictor(even.folder))(torch.from_numpy(store.mean(layer="all")))
    np.testing.assert_allclose(outputs.sum(-1), 1.0, atol=1e-6)
    told: list[str] = []
    fit(tmp_path, store, loss=losses, tell=told.append, **options)
    assert all("fitted before" in line for line in told)


@pytest.mark.parametrize(
    ("loss", "sentence"),
    [
        ("ce+ccc", "needs columns of numbers, but 'dominance' is none of its columns"),
        ("ce+ccc:ratings=text", "needs columns of numbers, but 'text' holds texts"),
        ("ce+ccc:ratings=valence+valence", "twice"),
        ("ce+ccc:ratings=arousal", "none of 40 utterances chosen from .* has a number in arousal"),
    ],
)
def test_a_second_task_without_ratings_is_told(tmp_path: Path, loss: str, sentence: str) -> None:
    unrated = {"arousal": np.where(np.arange(60) % 3 == 2, 1.0, np.nan)}
    store = write_synthetic_store(tmp_path / "tiny.h5", **unrated)
    with pytest.raises(FitError, match=sentence):
        fit(tmp_path, store, targets=(), loss=[loss], classes=["anger", "happiness"])
