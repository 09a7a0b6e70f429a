"""Augmentation changes training alone, and is part of what a run is."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from embedkit.options.fit import FitOptions, Mode
from embedkit.training.identity import record_options
from embedkit.training.live.augmentation import build_augmentations
from embedkit.training.runs import RunRecord, digest_of, find_runs
from tests.cases import mark_cases
from tests.training.live.fitting import CHANGES, train_once


@pytest.fixture(scope="module")
def usual(corpus: Path, checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    """A fine-tuning run of one epoch without augmentation."""
    return train_once(corpus, checkpoints["hubert"], tmp_path_factory.mktemp("usual"), epochs=1)


EVERYDAY = ("noise", "specaugment", "reverb:folder=CORPUS", "torch:neg")
"""One of ours, that of features, one that reads a folder, and one of another library."""


@pytest.mark.parametrize("augment", mark_cases(CHANGES, EVERYDAY.__contains__))
def test_augmentation_changes_training_alone(
    augment: str, usual: RunRecord, corpus: Path, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    tuning: dict[str, Any] = {"augment": (augment.replace("CORPUS", str(corpus.parent)),), "epochs": 1}
    first = train_once(corpus, checkpoints["hubert"], tmp_path / "first", **tuning)
    again = train_once(corpus, checkpoints["hubert"], tmp_path / "again", **tuning)
    assert first.load_curves() == again.load_curves()
    assert first.load_curves() != usual.load_curves()
    assert torch.equal(first.load_heads()["0/mean"], usual.load_heads()["0/mean"])


def test_a_run_is_found_again_by_what_its_augmentation_does(
    usual: RunRecord, corpus: Path, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    def count_runs(*augment: str) -> int:
        train_once(corpus, checkpoints["hubert"], tmp_path / "runs", augment=augment, epochs=1)
        return len(find_runs(tmp_path / "runs"))

    assert count_runs() == 1
    assert [record.folder.name for record in find_runs(tmp_path / "runs")] == [usual.folder.name]
    for name in ("noises", "moved"):
        (tmp_path / name).mkdir()
        shutil.copyfile(corpus.parent / "00.wav", tmp_path / name / f"{name}.wav")
    assert count_runs("noise") == 2
    assert count_runs("noise:low=10,high=30") == 2
    assert count_runs("noise:low=11") == 3
    assert count_runs(f"noise:folder={tmp_path / 'noises'}") == 4
    assert count_runs(f"noise:folder={tmp_path / 'moved'}") == 4
    shutil.copyfile(corpus.parent / "01.wav", tmp_path / "moved" / "other.wav")
    assert count_runs(f"noise:folder={tmp_path / 'moved'}") == 5


def test_old_runs_without_augmentation_keep_their_names_and_those_with_it_do_not() -> None:
    # Digests of the settings as version 0.1.0 kept them before augmentations had settings.
    def told(*augment: str, mode: Mode = "finetune") -> str:
        changes = [one.describe() for one in build_augmentations(augment)]
        return digest_of(record_options(FitOptions(mode=mode).resolve())["tuning"] | {"augment": changes})

    assert told() == "943deedc"
    assert told(mode="lora") == "e0904ff6"
    assert told("noise") != "528cdf84"
