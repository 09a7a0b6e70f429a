"""Ctrl-C while heads are trained: one sentence, no traceback, nothing finished is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from embedkit.training.runs import UNFINISHED
from tests.training.stores import write_synthetic_store

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 60
FILES = 4
"""In the folder of a run: configuration, metrics, predictions, heads."""
SENTENCE = "Interrupted; finished work is kept, the same command continues it.\n"
COMMAND = "fit s.h5 --head linear,superb --loss ce,focal --epochs 120 --seeds 6 --lr 1e-2 --folds speaker --threads 1"


def heed_interrupts() -> None:
    """Undo what background jobs of a shell start with: SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def fitting(folder: Path, runs: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "embedkit", *COMMAND.split(), "--runs", runs],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def finished_runs(runs: Path) -> dict[Path, bytes]:
    """Return the content of every file of every finished run."""
    # Folders that vanish meanwhile get their final name: os.walk passes over them.
    walked = [(Path(root), names) for root, _, names in os.walk(runs)]
    folders = [root for root, names in walked if "metrics.json" in names and not root.name.startswith(".")]
    return {path.relative_to(runs): path.read_bytes() for folder in folders for path in folder.iterdir()}


def wait_for(process: subprocess.Popen[str], runs: Path, *, finished: int, stacks: int) -> None:
    """Wait until so many runs are finished, and so many stacks of the next ones."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        done = len(finished_runs(runs)) // FILES
        kept = [name for _, _, names in os.walk(runs / UNFINISHED) for name in names if name.endswith(".safetensors")]
        if (done, len(kept)) >= (finished, stacks):
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    raise TimeoutError(f"not {finished} runs and {stacks} stacks after {TIMEOUT_SECONDS} s")


@pytest.mark.heavy
def test_ctrl_c_again_and_again_loses_no_finished_work(tmp_path: Path) -> None:
    write_synthetic_store(tmp_path / "s.h5", speakers=6, each=15, noise=2.0)
    runs = tmp_path / "runs"
    before: dict[Path, bytes] = {}
    for presses, (finished, stacks) in enumerate([(0, 1), (0, 2), (2, 1)], start=1):
        with fitting(tmp_path, "runs") as process:
            wait_for(process, runs, finished=finished, stacks=stacks)
            for _ in range(presses):
                process.send_signal(signal.SIGINT)
                time.sleep(0.01)
            out, err = process.communicate(timeout=TIMEOUT_SECONDS)
        assert process.returncode == 130, err
        assert "Traceback" not in err
        assert err.endswith(SENTENCE)
        assert err.count("Interrupted") == 1
        assert out == ""
        kept = finished_runs(runs)
        assert len(kept) >= FILES * finished
        assert before.items() <= kept.items()
        before = kept
    for name, already in (("runs", 2), ("fresh", 0)):
        with fitting(tmp_path, name) as process:
            out, err = process.communicate(timeout=TIMEOUT_SECONDS)
        assert process.returncode == 0, err
        assert len(out.splitlines()) == 4
        assert err.count("fitted before") == already
    assert before.items() <= finished_runs(runs).items()
    assert finished_runs(runs) == finished_runs(tmp_path / "fresh")
