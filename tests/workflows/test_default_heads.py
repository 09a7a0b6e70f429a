"""`fit` takes the head that the encoder says, and the store keeps it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import embedkit
from embedkit.encoders.acoustic import MfccEncoder
from tests.workflows.tones import write_tones

QUICK: dict[str, Any] = {"folds": "speaker", "seeds": 1, "epochs": 1, "batch_size": 8, "threads": 1}


class Mine(MfccEncoder):
    default_head = "superb"

    def __init__(self) -> None:
        super().__init__("mine")


@pytest.fixture(autouse=True)
def _own_module() -> Iterator[None]:
    sys.modules["own_features"] = ModuleType("own_features")
    sys.modules["own_features"].Mine = Mine  # type: ignore[attr-defined]
    yield
    del sys.modules["own_features"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tones(tmp_path_factory.mktemp("speech") / "tones")


@pytest.mark.parametrize(
    ("encoder", "head"),
    [
        ("mfcc", "lstm"),
        ("logmel", "cnn"),
        ("mfcc+logmel", "lstm"),
        ("logmel+mfcc", "lstm"),
        ("own_features:Mine", "superb"),
    ],
)
def test_cached_and_frozen_take_the_encoders_own(encoder: str, head: str, corpus: Path, tmp_path: Path) -> None:
    store = embedkit.extract(corpus, encoder=encoder, out=tmp_path / "store.h5", progress=False)
    assert store.extraction["default_head"] == head
    rate: dict[str, Any] = {"lr": (1e-2,), "loss": ["ce"], **QUICK}
    (cached,) = embedkit.fit(store, runs=tmp_path / "cached", **rate)
    assert cached.metrics["head"] == head
    if encoder == "own_features:Mine":
        (frozen,) = embedkit.fit(corpus, mode="frozen", encoder=encoder, runs=tmp_path / "frozen", **rate)
        assert frozen.metrics["head"] == head


def test_another_default_head_makes_no_other_store(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = embedkit.extract(corpus, encoder="own_features:Mine", out=tmp_path / "store.h5", progress=False)
    monkeypatch.setattr(Mine, "default_head", "mlp")
    said: list[str] = []
    again = embedkit.extract(
        corpus, encoder="own_features:Mine", out=tmp_path / "store.h5", progress=False, tell=said.append
    )
    assert any("is up to date" in line for line in said)
    assert again.digest == store.digest
    other = embedkit.extract(corpus, encoder="own_features:Mine", out=tmp_path / "other.h5", progress=False)
    assert json.loads(other.attributes["extraction"])["default_head"] == "mlp"
    assert other.fingerprint == store.fingerprint
