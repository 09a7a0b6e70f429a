"""Short fits of encoders that run, and what two of them have in common."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

import embedkit
from embedkit.augmentations import AUGMENTATIONS
from embedkit.training.runs import RunRecord
from tests.training.live.noises import CLASSES

QUICK: dict[str, Any] = {"folds": "speaker", "seeds": 1, "epochs": 2, "batch_size": 8, "threads": 1}
CHANGED = ("speed", "equaliser", "reverb", "noise", "specaugment")
CHANGES = [*AUGMENTATIONS, "noise:folder=CORPUS,low=0,high=5", "reverb:folder=CORPUS", "torch:neg"]


def fit(corpus: Path, encoder: Path | str, runs: Path, mode: str, loss: Any = ("ce",), **options: Any) -> RunRecord:
    keywords = {**QUICK, "lr": (1e-2,), **options}
    (record,) = embedkit.fit(str(corpus), loss, mode=mode, encoder=str(encoder), runs=runs, **keywords)
    return record


def predictions(record: RunRecord) -> tuple[list[str], np.ndarray]:
    with open(record.predictions_path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row["id"] for row in rows], np.array([[float(row[f"p_{name}"]) for name in CLASSES] for row in rows])


def assert_same(one: RunRecord, other: RunRecord) -> None:
    heads, others = one.load_heads(), other.load_heads()
    assert heads.keys() == others.keys()
    for name, value in heads.items():
        assert float((value - others[name]).norm() / value.norm().clamp_min(1e-12)) < 1e-3, name
    assert predictions(one)[0] == predictions(other)[0]
    np.testing.assert_allclose(predictions(one)[1], predictions(other)[1], atol=1e-3)
    curves, further = one.load_curves(), other.load_curves()
    assert curves is not None
    assert further is not None
    for name in ("loss", "dev"):
        np.testing.assert_allclose(np.array(curves[name], float), np.array(further[name], float), rtol=1e-3)


def train_once(corpus: Path, folder: Path, runs: Path, *, epochs: int = 2, **tuning: Any) -> RunRecord:
    return fit(corpus, folder, runs, "finetune", ["ccc"], **{"encoder_lr": 1e-3, "epochs": epochs, **tuning})
