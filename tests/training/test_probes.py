"""Probes in runs: on the same folds as heads, searched on inner folds, asked again without scikit-learn."""

from __future__ import annotations

import csv
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

import embedkit
from embedkit.errors import FitError
from embedkit.export.ensemble import Ensemble
from embedkit.export.predictor import open_predictor
from embedkit.store import Store
from tests.cases import mark_cases
from tests.training.stores import calibrated_shares, write_synthetic_store

QUICK: dict[str, Any] = {"seeds": 2, "epochs": 2, "lr": (1e-2,), "folds": "speaker", "device": "cpu", "threads": 1}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return write_synthetic_store(tmp_path / "tiny.h5", speakers=5, each=9, noise=2.0)


def read(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "predictions.csv").open()))


@pytest.mark.parametrize(
    ("further", "head"),
    mark_cases(
        product(
            [{}, {"folds": "split"}, {"layers": "each"}, {"normalise": "speaker"}],
            ["logreg", "lda", "svm", "knn:k=1/3"],
        ),
        lambda further, head: not further or head == "lda",
    ),
)
def test_probes_are_fitted_searched_and_kept(head: str, further: dict[str, Any], store: Store, tmp_path: Path) -> None:
    records = embedkit.fit(store, head=[head], runs=tmp_path / "runs", **{**QUICK, **further})
    for record in records:
        assert record.metrics["loss"] == "own"
        assert record.metrics["seeds"] == 2
        assert record.metrics["ua"] > 0.4 or record.metrics.get("layer") == 0
        assert record.metrics["ua_std"] == 0.0
        assert sum(map(len, record.metrics["search"]["grid"].values())) >= 2
        assert not any("learning_rate" in choice for choice in record.config["choices"])
        assert {name.split("/")[1] for name in record.load_heads()} == {"0", "mean", "scale"}
        assert record.load_curves() is not None
    again = embedkit.fit(store, head=[head], runs=tmp_path / "runs", **{**QUICK, **further}, tell=(told := []).append)
    assert [one.folder for one in again] == [one.folder for one in records]
    assert any("fitted before" in line for line in told)


@pytest.mark.parametrize("head", ["lda", "knn:k=3", "logreg:pool=mean+std"])
@pytest.mark.parametrize("seed", [None, 1])
def test_a_run_asked_again_says_what_it_said(head: str, seed: int | None, store: Store, tmp_path: Path) -> None:
    (record,) = embedkit.fit(store, head=[head], runs=tmp_path / "runs", **QUICK)
    rows = [row for row in read(record.folder) if row["seed"] == "1"]
    for fold in record.config["folds"]["names"]:
        predictor = open_predictor(record, fold=fold, seed=seed)
        assert len(predictor.heads) == 1
        ensemble = Ensemble(predictor)
        for row in (one for one in rows if one["fold"] == fold):
            place = store.ids.tolist().index(row["id"])
            parts = [store.mean("all")[place], *([store.std("all")[place]] if "std" in head else [])]
            found = ensemble(torch.from_numpy(np.concatenate(parts, axis=-1))[None])[0]
            assert found.tolist() == pytest.approx(calibrated_shares(record, row), abs=1e-5)
    everything = Ensemble(open_predictor(record))
    assert everything(
        torch.from_numpy(store.mean("all"))
        if "std" not in head
        else torch.from_numpy(np.concatenate([store.mean("all"), store.std("all")], -1))
    ).shape == (45, 3)


def test_a_probe_reads_the_mean_of_the_standardised_layers(store: Store, tmp_path: Path) -> None:
    (record,) = embedkit.fit(store, head=["lda:shrinkage=0.3"], runs=tmp_path / "runs", **QUICK)
    speakers, means = store.speakers, store.mean("all").astype(np.float64)
    labels = store.labels
    for row in read(record.folder)[:20]:
        train = speakers != row["fold"]
        scaled = ((means - means[train].mean(0)) / means[train].std(0)).mean(1)
        estimator = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3).fit(scaled[train], labels[train])
        place = store.ids.tolist().index(row["id"])
        wanted = estimator.predict_proba(scaled[place][None])[0]
        assert [float(row[f"p_{name}"]) for name in estimator.classes_] == pytest.approx(wanted.tolist(), abs=1e-4)


def test_probes_stand_in_the_table_of_heads_that_are_trained(store: Store, tmp_path: Path) -> None:
    records = embedkit.fit(store, ["ce", "focal"], head=["linear", "lda"], runs=tmp_path / "runs", **QUICK)
    assert [(one.metrics["head"], one.metrics["loss"]) for one in records] == [
        ("linear", "ce"),
        ("linear", "focal"),
        ("lda", "own"),
    ]
    text = embedkit.table(tmp_path / "runs").render()
    assert text.count("UAR in %") == 1
    assert "Fitted by scikit-learn, the same under every seed: lda." in " ".join(text.split())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"head": ["lda"], "loss": ["focal"]}, "takes no loss, found 'focal'"),
        ({"head": ["linear"], "loss": ["own"]}, "not to 'linear'"),
        ({"head": ["lda", "linear"], "targets": ["valence"]}, "tells classes apart, but --targets"),
        ({"head": ["knn"], "mode": "frozen", "encoder": ["tiny"]}, "cannot be trained with --mode frozen"),
    ],
)
def test_what_means_nothing_for_probes_is_told(
    options: dict[str, Any], words: str, store: Store, tmp_path: Path
) -> None:
    with pytest.raises(FitError, match=words):
        embedkit.fit(store, runs=tmp_path / "runs", **QUICK, **options)
