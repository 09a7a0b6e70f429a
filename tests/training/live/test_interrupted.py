"""A run that is killed, or trained by several processes, is the run it would have been."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from embedkit.cli import app
from embedkit.training.runs import find_runs
from embedkit.training.stacks import checkpoint
from tests.cases import mark_cases
from tests.encoders.checkpoints import write_conv_checkpoint
from tests.training.live.fitting import CHANGED, fit, predictions, train_once
from tests.training.live.noises import SPEAKERS
from tests.warm import WarmProcess


@pytest.fixture(autouse=True)
def _every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    # Epochs are so short here that most of them would not be written.
    monkeypatch.setattr(checkpoint, "WRITING_SHARE", math.inf)


def test_a_killed_run_goes_on_from_its_checkpoint(
    corpus: Path, checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_once(corpus, checkpoints["hubert"], tmp_path / "whole", augment=CHANGED)
    from embedkit.training.stacks.stack import Stack

    run_epoch = Stack.run_epoch
    calls: list[int] = []

    def counted(stack: Stack, epoch: int) -> None:
        calls.append(epoch)
        if len(calls) == 6:
            raise KeyboardInterrupt
        run_epoch(stack, epoch)

    monkeypatch.setattr(Stack, "run_epoch", counted)
    with pytest.raises(KeyboardInterrupt):
        train_once(corpus, checkpoints["hubert"], tmp_path / "parts", augment=CHANGED)
    rest = train_once(corpus, checkpoints["hubert"], tmp_path / "parts", augment=CHANGED)
    assert len(calls) == SPEAKERS * 2 + 1
    assert predictions(whole)[1].tolist() == predictions(rest)[1].tolist()
    assert not list((tmp_path / "parts").glob(".unfinished/*"))


def launch(command: list[str], folder: Path) -> tuple[str, str]:
    """Run a command in two processes by torch's launcher; return what they print and say."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "embedkit"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *launcher, *command], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def fork(command: list[str], folder: Path) -> tuple[str, str]:
    """Run a command in two processes that are told of each other as a launcher tells them."""
    with socket.create_server(("localhost", 0)) as server:
        port = str(server.getsockname()[1])
    both = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    files = [folder / "printed", folder / "said"]
    processes = [
        WarmProcess(["embedkit", *command], folder, os.environ | both | {"RANK": rank, "LOCAL_RANK": rank}, *files)
        for rank in "01"
    ]
    codes = [process.wait(120) for process in processes]
    printed, said = (file.read_text() for file in files)
    assert codes == [0, 0], said
    return printed, said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "loss", "start"),
    mark_cases(
        [
            ("finetune", "ccc", fork),
            ("finetune", "ccc", launch),
            ("finetune", "ce:weights=balanced", launch),
            ("frozen", "ce", launch),
        ],
        lambda mode, loss, start: start is fork,
    ),
)
def test_two_processes_give_what_one_gives(
    mode: str, loss: str, start: Callable[..., tuple[str, str]], corpus: Path, checkpoints: Any, tmp_path: Path
) -> None:
    command = ["fit", str(corpus), "--encoder", str(checkpoints["wavlm"]), "--mode", mode]
    command += ["--loss", loss, "--folds", "speaker", "--seeds", "1", "--epochs", "2", "--batch-size", "5"]
    command += ["--threads", "1", "--device", "cpu", *(["--encoder-lr", "1e-3"] if mode == "finetune" else [])]
    alone = CliRunner().invoke(app, [*command, "--runs", str(tmp_path / "alone")])
    assert alone.exit_code == 0, alone.output
    assert "Training in 2 processes" not in alone.stderr
    printed, said = start([*command, "--runs", str(tmp_path / "together")], tmp_path)
    assert "Training in 2 processes" in said
    assert len(printed.splitlines()) == len(alone.stdout.splitlines()) == 1
    found = [find_runs(tmp_path / name)[0] for name in ("alone", "together")]
    one, two = (record.load_heads() for record in found)
    for name, value in one.items():
        assert float((value - two[name]).norm() / value.norm().clamp_min(1e-12)) < 1e-3, name
    np.testing.assert_allclose(predictions(found[0])[1], predictions(found[1])[1], atol=1e-3)


@pytest.fixture(scope="module")
def dropping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with dropout and layer drop."""
    return write_conv_checkpoint(tmp_path_factory.mktemp("dropping") / "hubert", "hubert", layerdrop=0.2)


@pytest.mark.parametrize("mode", mark_cases(["finetune", "lora", "frozen"], {"finetune", "frozen"}.__contains__))
def test_every_kill_leaves_a_run_that_goes_on(
    mode: str, corpus: Path, dropping: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from embedkit.training.stacks.stack import Stack

    options: dict[str, Any] = {"lr": (1e-2, 1e-3), "epochs": 3}
    if mode != "frozen":
        options |= {"encoder_lr": 1e-3, "augment": CHANGED}
    whole = fit(corpus, dropping, tmp_path / "whole", mode, **options)
    run_epoch = Stack.run_epoch
    left = [0]

    def killed(stack: Stack, epoch: int) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        run_epoch(stack, epoch)

    monkeypatch.setattr(Stack, "run_epoch", killed)
    record = None
    for place in range(40):
        left[0] = 2 + place % 3
        try:
            record = fit(corpus, dropping, tmp_path / "parts", mode, **options)
            break
        except KeyboardInterrupt:
            torch.randn(7)
    assert record is not None
    assert place >= 2
    assert predictions(whole)[1].tolist() == predictions(record)[1].tolist()
    assert whole.load_curves() == record.load_curves()


def test_what_nobody_goes_on_with_is_removed_after_a_month(
    corpus: Path, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    unfinished = tmp_path / ".unfinished"
    for name, days in (("old", 31), ("recent", 29)):
        part = unfinished / name / "checkpoint.pt"
        part.parent.mkdir(parents=True)
        part.touch()
        for path in (part, part.parent):
            os.utime(path, (time.time() - days * 86400,) * 2)
    fit(corpus, checkpoints["hubert"], tmp_path, "frozen", epochs=1)
    assert [path.name for path in unfinished.iterdir()] == ["recent"]
