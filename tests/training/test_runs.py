"""Run folders: whole or not there, and told where they are damaged."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from embedkit.errors import RunError
from embedkit.training.runs import RunRecord, find_runs, read_run, require_writable, write_run

CONFIG = {
    "format_version": 1,
    "head_spec": "linear",
    "loss_spec": "ce",
    "classes": ["a", "b"],
    "seeds": [0],
    "folds": {"names": ["x"]},
    "store": {},
}
TEXTS = ("corpus", "encoder", "head", "loss", "mode", "folds", "selection", "precision", "loss_spec", "head_spec")
NUMBERS = ("seeds", "utterances", "speakers", "wa", "wa_std", "ua", "ua_std", "f1", "f1_std")
METRICS: dict[str, Any] = {**dict.fromkeys(TEXTS, "x"), **dict.fromkeys(NUMBERS, 0.5)}


def write(folder: Path) -> RunRecord:
    heads = {"0/mean": torch.ones(2)}
    return write_run(folder, config=CONFIG, metrics=METRICS, predictions=(["id"], [["u1"]]), heads=heads)


def test_a_run_comes_back(tmp_path: Path) -> None:
    written = write(tmp_path / "runs" / "one")
    (found,) = find_runs(tmp_path / "runs")
    assert found == written
    assert found.load_heads()["0/mean"].tolist() == [1, 1]
    assert found.predictions_path.read_text() == "id\nu1\n"


def test_a_half_written_run_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(RunError, match="No space left"):
        write(tmp_path / "runs" / "one")
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "metrics.json").write_text("null"),
        lambda folder: (folder / "metrics.json").write_text(json.dumps({**METRICS, "ua": "x"})),
        lambda folder: (folder / "metrics.json").unlink(),
        lambda folder: (folder / "config.json").write_text("[]"),
        lambda folder: (folder / "config.json").write_bytes(b"\xff"),
    ],
)
def test_damage_is_told(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    damage(write(tmp_path / "one").folder)
    with pytest.raises(RunError, match="is damaged"):
        read_run(tmp_path / "one")


def test_a_folder_that_cannot_hold_runs_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="--runs"):
        require_writable(tmp_path / "file")
    require_writable(tmp_path / "deep" / "folder")
    assert os.listdir(tmp_path / "deep" / "folder") == []
