"""Scores by gender: those of the predictions, from the column of the store that was tested on."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import recall_score

import embedkit
from embedkit.errors import ConfigError, RunError
from embedkit.training.runs import RunRecord
from tests.training.stores import write_synthetic_store

QUICK: dict[str, Any] = {"seeds": 2, "epochs": 2, "lr": (1e-2,), "threads": 1, "folds": "speaker"}


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    folder = tmp_path_factory.mktemp("groups")
    gender = ["female" if place // 15 < 2 else "male" for place in range(60)]
    store = write_synthetic_store(folder / "tiny.h5", noise=6.0, gender=gender)
    (found,) = embedkit.fit(store, ["ce"], runs=folder / "runs", **QUICK)
    return found


def test_groups_are_scored_by_what_was_predicted_of_them(record: RunRecord) -> None:
    with open(record.predictions_path, newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["speaker"] in ("s00", "s01")]
    expected = np.mean(
        [
            recall_score([row["label"] for row in own], [row["predicted"] for row in own], average="macro")
            for seed in "01"
            for own in [[row for row in rows if row["seed"] == seed]]
        ]
    )
    assert record.metrics["class_speakers"] == [4, 4, 4]
    table = embedkit.table([record], by="gender")
    female, male = table.rows[0]["groups"]
    assert (female["value"], female["utterances"], female["speakers"], male["value"]) == ("female", 30, 2, "male")
    assert female["ua"] == pytest.approx(expected)
    assert female["ua_ci"][0] < expected < female["ua_ci"][1]
    text = " ".join(str(table).split())
    assert "by gender" in text
    assert f"female {100 * expected:.1f} [" in text
    assert "female: 30 utterances, 2 speakers; male: 30 utterances, 2 speakers" in text
    assert json.loads(table.render("json"))[0]["groups"][0]["ua"] == pytest.approx(expected)
    assert "±" in str(embedkit.table([record], by="speaker", spread="seeds"))


def test_a_speaker_alone_has_no_interval(record: RunRecord) -> None:
    rows = embedkit.table([record], by="speaker").rows[0]["groups"]
    assert [(row["value"], row["speakers"], row["ua_ci"]) for row in rows[:1]] == [("s00", 1, None)]


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ("gendr", "Unknown column 'gendr' of synthetic. Did you mean 'gender'.*Known: corpus, gender, label"),
        ("valence", "has 60 values; expected at most 50"),
    ],
)
def test_columns_that_tell_no_groups_apart_are_refused(record: RunRecord, by: str, message: str) -> None:
    with pytest.raises(RunError, match=message):
        embedkit.table([record], by=by)


def test_rows_alone_and_a_store_that_is_gone_are_told(record: RunRecord, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="by needs the predictions of runs"):
        embedkit.table([record.metrics], by="gender")
    store = {**record.config["store"], "path": str(tmp_path / "gone.h5")}
    moved = RunRecord(folder=record.folder, config={**record.config, "store": store}, metrics=record.metrics)
    with pytest.raises(RunError, match=r"read from the store .* is no more: .*--by takes speaker, session, label"):
        embedkit.table([moved], by="gender")
