"""Heads that read means and deviations: the same numbers wherever they are read, saved and asked again."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import embedkit
from embedkit.errors import FitError
from embedkit.export.clip import FrameHeads
from embedkit.export.ensemble import Ensemble
from embedkit.export.predictor import open_predictor
from embedkit.store import Store
from embedkit.training.experiment_record import run_config, run_folder
from tests.encoders.checkpoints import write_conv_checkpoint
from tests.training.stores import calibrated_shares, write_synthetic_store
from tests.workflows.tones import write_tones

QUICK: dict[str, Any] = {"seeds": 2, "epochs": 3, "lr": (1e-2,), "folds": "speaker", "device": "cpu"}
BOTH = "linear:pool=mean/mean+std"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return write_synthetic_store(tmp_path / "tiny.h5", framed=True, noise=2.0)


def read(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "predictions.csv").open()))


@pytest.mark.parametrize("head", ["linear:pool=mean+std", "mlp:pool=mean+std,hidden=4", BOTH])
def test_a_run_asked_again_says_what_it_said_of_its_test_sets(head: str, store: Store, tmp_path: Path) -> None:
    (record,) = embedkit.fit(store, ["ce"], head=[head], runs=tmp_path / "runs", **QUICK)
    rows = read(record.folder)
    for fold in record.config["folds"]["names"]:
        predictor = open_predictor(record, fold=fold, seed=1)
        ensemble = Ensemble(predictor)
        own = [row for row in rows if row["fold"] == fold and row["seed"] == "1"]
        for row in own:
            place = store.ids.tolist().index(row["id"])
            pooled = np.concatenate([store.mean("all")[place], store.std("all")[place]], axis=-1)
            wanted = calibrated_shares(record, row)
            assert ensemble(torch.from_numpy(pooled)[None])[0].tolist() == pytest.approx(wanted, abs=1e-5)
            heard = FrameHeads(predictor, ensemble)(torch.from_numpy(np.array(store.frames(place))))
            assert heard.tolist() == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("further", [{}, {"layers": "each"}, {"normalise": "speaker"}])
def test_what_stays_on_disk_gives_the_same_predictions(further: dict[str, Any], store: Store, tmp_path: Path) -> None:
    found = [
        embedkit.fit(store, ["ce"], head=[BOTH], runs=tmp_path / str(size), memory_gb=size, **{**QUICK, **further})
        for size in (0.0, 1.0)
    ]
    for one, other in zip(*found, strict=True):
        assert one.predictions_path.read_bytes() == other.predictions_path.read_bytes()


def test_means_alone_are_chosen_and_trained_as_if_nothing_else_were_there(store: Store, tmp_path: Path) -> None:
    (alone,) = embedkit.fit(store, ["ce"], head=["linear"], runs=tmp_path, **QUICK)
    (both,) = embedkit.fit(store, ["ce"], head=[BOTH], runs=tmp_path, **QUICK)
    same = {
        (choice["fold"], str(choice["seed"])) for choice in both.config["choices"] if choice["head"].endswith("=mean")
    }
    wanted, found = ([row for row in read(one.folder) if (row["fold"], row["seed"]) in same] for one in (alone, both))
    assert same
    for one, other in zip(wanted, found, strict=True):
        assert all(
            one[key] == other[key] or float(one[key]) == pytest.approx(float(other[key]), abs=1e-5) for key in one
        )


def test_acoustic_embeddings_are_read_with_their_deviations_unless_that_is_said(store: Store, tmp_path: Path) -> None:
    acoustic = write_synthetic_store(tmp_path / "mfcc.h5", encoder="mfcc")

    def specs(**options: Any) -> list[str]:
        found: list[Any] = []
        embedkit.fit(acoustic, train=lambda experiments, *_, **__: found.extend(experiments) or [], **QUICK, **options)
        return [one.head for one in found]

    assert specs(head=["linear", "mlp:hidden=4", "linear:pool=mean", "superb"]) == [
        "linear:pool=mean+std",
        "mlp:hidden=4,pool=mean+std",
        "linear:pool=mean",
        "superb",
    ]


def test_the_mean_alone_is_the_run_it_was_before_there_was_a_choice(store: Store, tmp_path: Path) -> None:
    found: list[Any] = []
    for head in ("linear", "linear:pool=mean", "linear:pool=mean+std"):
        embedkit.fit(store, head=[head], train=lambda e, *_, **__: found.extend(e) or [], **QUICK)
    assert run_config(found[0])["head_options"] == {}
    assert run_folder(found[0]) == run_folder(found[1]) != run_folder(found[2])


def test_an_encoder_that_runs_gives_no_deviations(tmp_path: Path) -> None:
    write_tones(tmp_path / "tones")
    write_conv_checkpoint(tmp_path / "hubert", "hubert")
    with pytest.raises(FitError, match="only stores keep"):
        embedkit.fit(
            tmp_path / "tones" / "corpus.csv",
            head=["linear:pool=mean+std"],
            mode="frozen",
            encoder=[str(tmp_path / "hubert")],
            runs=tmp_path / "runs",
            **QUICK,
        )
