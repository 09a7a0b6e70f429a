"""Rows of runs, written by hand."""

from typing import Any, Protocol

import pytest

LOSS_OPTIONS: dict[str, dict[str, Any]] = {
    "ce": {},
    "label-smoothing": {"epsilon": 0.1},
    "focal": {"gamma": 2.0},
    "aam": {"scale": 20.0, "margin": 0.2},
    "ccc": {"flat": False},
}


class MakeRow(Protocol):
    def __call__(self, **changes: Any) -> dict[str, Any]: ...


@pytest.fixture
def make_row() -> MakeRow:
    def make(**changes: Any) -> dict[str, Any]:
        row: dict[str, Any] = {
            "corpus": "emodb",
            "encoder": "whisper-base",
            "head": "linear",
            "loss": "ce",
            "mode": "cached",
            "folds": "speaker",
            "classes": ["anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness"],
            "seeds": 3,
            "utterances": 535,
            "speakers": 10,
            "wa": 0.93,
            "wa_std": 0.004,
            "ua": 0.924,
            "ua_std": 0.006,
            "f1": 0.92,
            "f1_std": 0.005,
            "wa_ci": [0.90, 0.95],
            "ua_ci": [0.89, 0.95],
            "f1_ci": None,
            "head_options": {"dropout": 0.0},
            "selection": "inner folds by speaker (4), refit",
            "precision": "fp32",
            "speaker_dependent": False,
            "budget": {"learning_rates": [3e-4, 1e-3, 3e-3], "epochs": 30, "batch_size": 32},
            "standardised": "utterance means, training part of each fold",
            "ua_by_fold": 0.92,
            "demo": False,
            "task": "",
            "store_fingerprint": "abcdef0123456789",
        }
        row.update(changes)
        row.setdefault("loss_options", LOSS_OPTIONS.get(row["loss"], {}))
        row.setdefault("loss_spec", row["loss"])
        return row

    return make
