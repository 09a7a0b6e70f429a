"""Runs of before are found again, read, shown as they were, and trained to the same predictions."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import embedkit
from embedkit.training.runs import find_runs

GOLDEN = Path(__file__).parent / "golden"
QUICK: dict[str, Any] = {"seeds": 1, "epochs": 3, "batch_size": 8, "lr": (1e-2,), "device": "cpu", "folds": "speaker"}
CASES: list[dict[str, Any]] = [
    {"loss": ["ce", "ccc"], "head": ["linear"]},
    {
        "loss": ["focal:gamma=1.5"],
        "head": ["mlp:hidden=4/8"],
        "weight_decay": (0.0, 0.1),
        "patience": 2,
        "clip": 1.0,
    },
    {
        "loss": ["ce"],
        "head": ["linear"],
        "normalise": "speaker",
        "merge": {"sadness": "anger"},
        "where": ["speaker!=s03"],
    },
    {"loss": ["ce"], "head": ["linear"], "layers": "each", "classes": ["anger", "happiness"]},
    {"targets": ["valence"], "head": ["linear"], "folds": "session"},
    {
        "loss": ["aam"],
        "head": ["linear"],
        "test_on": "other.h5",
        "folds": None,
        "test_merge": {"sadness": "anger"},
        "merge": {"sadness": "anger"},
    },
]


@pytest.fixture
def golden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(GOLDEN, tmp_path / "golden")
    monkeypatch.chdir(tmp_path / "golden")
    return tmp_path / "golden"


def predictions(folder: Path) -> list[list[str]]:
    return list(csv.reader((folder / "predictions.csv").open()))


@pytest.mark.parametrize("case", CASES)
def test_a_run_of_before_is_found_and_not_trained_again(golden: Path, case: dict[str, Any]) -> None:
    def train(*_: Any, **__: Any) -> Any:
        raise AssertionError("trained again")

    told: list[str] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("embedkit.training.train.train_losses", train)
        records = embedkit.fit("tiny.h5", runs="runs", tell=told.append, **{**QUICK, **case})
    assert all(any("fitted before" in line for line in told) for _ in records)
    assert {record.folder.resolve() for record in records} <= {one.folder.resolve() for one in find_runs("runs")}


@pytest.mark.parametrize("case", CASES)
def test_training_anew_gives_the_predictions_of_before(golden: Path, case: dict[str, Any]) -> None:
    for record in embedkit.fit("tiny.h5", runs="again", **{**QUICK, **case}):
        before = golden / "runs" / record.folder.relative_to("again")
        old, new = predictions(before), predictions(record.folder)
        assert old[0] == new[0]
        for a, b in zip(old[1:], new[1:], strict=True):
            for x, y in zip(a, b, strict=True):
                assert x == y or float(x) == pytest.approx(float(y), abs=1e-5)


def test_tables_of_before_are_shown_as_they_were(golden: Path) -> None:
    rows = json.loads(embedkit.table("runs", format="json").render())
    before = json.loads(Path("table.json").read_text())
    for row, old in zip(rows, before, strict=True):
        # Four folds under one seed are no ground for a test any more.
        tests, swaps = row.pop("tests"), old.pop("tests")
        tests = [test for test in tests if test["family"] != "best"]
        assert [test["difference"] for test in tests] == [test["difference"] for test in swaps]
        assert {test["method"] for test in tests} <= {"none"}
    assert rows == before
