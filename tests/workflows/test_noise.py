"""Heads that were trained on clean recordings, tested on noisy ones of the same test sets."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embedkit
from embedkit.errors import FitError
from embedkit.reporting.figures.panels import plan_panels
from embedkit.reporting.predictions import read_predictions
from embedkit.reporting.report.commands import list_commands
from embedkit.store import Store
from embedkit.training.runs import RunRecord
from embedkit.workflows.fit import find_stores
from tests.training.stores import write_synthetic_store

QUICK: dict[str, Any] = {"seeds": 2, "epochs": 6, "batch_size": 8, "lr": (1e-2, 3e-2), "threads": 1, "folds": "speaker"}
COUNT = 6 * 9
DIGESTS = [f"{number:032x}" for number in range(COUNT)]


def write(folder: Path, snr: float | None = None, kind: str = "", **changes: Any) -> Store:
    """Write a store, clean or noisy: the clean embeddings and random numbers, the more the lower the ratio."""
    noise = 0.8 if snr is None else 0.8 + 8 * 10 ** (-snr / 20)
    told = {"snr": snr, "clean": "f" * 64, "version": 1, **({"recordings": "0" * 32} if kind else {})}
    name = "tiny.h5" if snr is None else f"tiny@snr{snr:g}{kind}.h5"
    settings: dict[str, Any] = {"speakers": 6, "each": 9, "framed": True, "audio_digest": DIGESTS, **changes}
    if snr is not None:
        own = {"fingerprint": f"{int(snr) + 500:064x}", "options": {"noise": told}}
        settings = {**own, "seed": 7, **settings}
    return write_synthetic_store(folder / name, noise=noise, **settings)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("noise")
    for snr, kind in ((None, ""), (20.0, ""), (-10.0, ""), (5.0, "-hum")):
        write(folder, snr, kind)
    return folder


def fit(folder: Path, **options: Any) -> list[RunRecord]:
    return embedkit.fit(folder / "tiny.h5", **{**QUICK, "runs": folder / "runs", **options})


@pytest.fixture(scope="module")
def records(folder: Path) -> list[RunRecord]:
    return fit(folder, loss=["ce", "aam"], noise_snr=[20, -10])


def test_the_same_heads_are_scored_on_noise(folder: Path, records: list[RunRecord]) -> None:
    clean, _, loud, noisy, *_ = records
    assert [record.metrics.get("noise_snr") for record in records] == [None, None, 20, -10, 20, -10]
    assert [record.metrics["loss"] for record in records] == ["ce", "aam", "ce", "ce", "aam", "aam"]
    assert clean.metrics["ua"] > 0.9 > loud.metrics["ua"] > 0.6 > noisy.metrics["ua"]
    own, other = (read_predictions(record) for record in (clean, noisy))
    assert own.ids == other.ids
    assert noisy.metrics["ua_dev"] == pytest.approx(clean.metrics["ua_dev"], abs=1e-5)
    kept = clean.load_heads()
    assert all(np.array_equal(value, kept[name]) for name, value in noisy.load_heads().items())
    # Recomputed from the head of one fold and seed: of the speakers that it was not trained on.
    store = embedkit.open_store(folder / "tiny@snr-10.h5")
    rows = np.flatnonzero(store.speakers == "s02")
    values = (store.mean(layer="all")[rows] - kept["2/mean"].numpy()) * kept["2/scale"].numpy()
    told = {
        name.removeprefix("2/1/"): value.double().numpy() for name, value in kept.items() if name.startswith("2/1/")
    }
    assert len(told) == 3
    (weights,) = (value for value in told.values() if value.shape == (2,))
    shares = np.exp(weights) / np.exp(weights).sum()
    (matrix,) = (value for value in told.values() if value.ndim == 2)
    matrix = matrix if matrix.shape == (3, 6) else matrix.T
    scores = np.einsum("nld,l,cd->nc", values, shares, matrix) + next(v for v in told.values() if v.shape == (3,))
    places = [other.ids.index(name) for name in store.ids[rows]]
    assert other.predicted[1, places].tolist() == scores.argmax(1).tolist()


def test_what_is_scored_is_found_again_and_alone_is_the_same(folder: Path, records: list[RunRecord]) -> None:
    told: list[str] = []
    again = fit(folder, noise_snr=-10, tell=told.append)
    assert [record.folder for record in again] == [records[0].folder, records[3].folder]
    assert told[-1].startswith("synthetic tiny, linear, ce at -10 dB: UAR ")
    assert told[-1].endswith("scored before")
    (first,) = fit(folder, runs=folder / "alone")
    assert first.folder.name == records[0].folder.name


@pytest.mark.parametrize(
    "options",
    [
        {"head": ["attentive:hidden=4"]},
        {"head": ["knn"]},
        {"head": ["mlp:hidden=4/8,pool=mean+std"]},
        {"normalise": "speaker"},
        {"targets": ["valence"]},
        {"train_share": 0.7},
    ],
    ids=lambda options: str(*options.values()),
)
def test_it_goes_with_the_other_options(folder: Path, options: dict[str, Any]) -> None:
    clean, noisy = fit(folder, noise_snr=20, **{**options, "epochs": 2, "folds": "split"})
    assert noisy.metrics["utterances"] == clean.metrics["utterances"]
    assert noisy.metrics["noise_snr"] == 20
    assert noisy.predictions_path.read_bytes() != clean.predictions_path.read_bytes()


def test_another_corpus_is_tested_with_its_own_noise(folder: Path, tmp_path: Path) -> None:
    other = write_synthetic_store(tmp_path / "other.h5", corpus="other", speakers=3, each=6, seed=3)
    write_synthetic_store(
        tmp_path / "other@snr0.h5",
        corpus="other",
        speakers=3,
        each=6,
        seed=3,
        noise=9.0,
        fingerprint="a" * 64,
        options={"noise": {"snr": 0.0, "clean": "f" * 64}},
    )
    clean, noisy = embedkit.fit(
        folder / "tiny.h5", test_on=other, noise_snr=0, runs=tmp_path / "runs", **{**QUICK, "folds": None, "seeds": 1}
    )
    assert read_predictions(noisy).ids == read_predictions(clean).ids == tuple(other.ids)
    assert noisy.metrics["ua"] < clean.metrics["ua"]


def test_one_table_shows_all_levels_as_lines(folder: Path, records: list[RunRecord]) -> None:
    recorded = fit(folder, loss=["ce", "aam"], noise_snr=5, noise="somewhere/hum")[2:]
    moved = fit(folder, loss=["ce", "aam"], noise_snr=5, noise="elsewhere/hum")[2:]
    assert [record.folder for record in moved] == [record.folder for record in recorded]
    table = embedkit.table([*recorded, *records[::-1]])
    lines = [line.split(" linear")[0].strip() for line in str(table).splitlines() if " linear " in line]
    assert lines == ["tiny", "tiny at 20 dB", "tiny at -10 dB", "tiny at 5 dB hum"]
    text = " ".join(str(table).split())
    assert text.count("Protocol:") == 1
    assert "the heads of the line without one, trained and chosen on clean recordings" in text
    families = {test["family"] for row in table.rows for test in row["tests"]}
    assert families == {"losses", "best"}
    assert len(plan_panels(records)) == 1
    commands = list_commands(records, "runs")
    assert any("--noise-snr 20" in command and "fit" in command for command in commands)
    assert any("--noise-snr -10" in command and "extract" in command for command in commands)


def test_noisy_stores_are_not_fitted_by_default(folder: Path) -> None:
    assert [path.name for path in find_stores(folder)] == ["tiny.h5"]


@pytest.mark.parametrize(
    ("change", "options", "sentence"),
    [
        ({}, {"noise_snr": 3}, r"There is no store .*tiny@snr3\.h5 of noisy recordings; run embedkit extract with"),
        ({}, {"noise_snr": 20, "layers": "each"}, "leave out --layers each or --noise-snr"),
        ({}, {"noise": "hum"}, "without a level; name it with --noise-snr"),
        ({"each": 8, "audio_digest": DIGESTS[:48]}, {"noise_snr": 20}, "lacks 6 utterances that .*tiny.h5 holds"),
        ({"audio_digest": DIGESTS[::-1]}, {"noise_snr": 20}, "holds other recordings than .* under the same names"),
        ({"options": {}}, {"noise_snr": 20}, "was not made as .* with noise at 20 dB"),
        ({}, {"noise_snr": 20, "mode": "finetune", "encoder": "mfcc"}, "means nothing with --mode finetune"),
    ],
)
def test_noise_that_cannot_be_tested_is_told_before_anything_is_trained(
    folder: Path, tmp_path: Path, change: dict[str, Any], options: dict[str, Any], sentence: str
) -> None:
    shutil.copy(folder / "tiny.h5", tmp_path / "tiny.h5")
    write(tmp_path, 20.0, **change)
    with pytest.raises(FitError, match=sentence):
        fit(tmp_path, **options)
    assert not (tmp_path / "runs").exists()
