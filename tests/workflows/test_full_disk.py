"""A disk that fills up while a command writes: one sentence, nothing that looks whole, and the same command goes on."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from embedkit.cli import app
from embedkit.writing import is_temporary
from tests.cases import mark_cases
from tests.encoders.checkpoints import write_conv_checkpoint
from tests.workflows.tones import write_tones

resource = pytest.importorskip("resource", reason="limits on the size of files are those of POSIX")

FIT = "--folds speaker --seeds 1 --epochs 3 --lr 1e-2 --runs runs"
COMMANDS = {
    "extract": ("extract corpus --encoder mfcc --out new.h5", "new.h5"),
    "fit": (f"fit mfcc.h5 --head linear,lstm {FIT}", "runs"),
    "finetune": (
        f"fit corpus --encoder tiny --mode finetune --head linear --batch-size 24 {FIT}".replace(
            "--epochs 3", "--epochs 1"
        ),
        "runs",
    ),
    "study": (f"study corpus --encoder mfcc --stores stores --loss ce,ccc {FIT}", "runs"),
    "report": ("report done --out report.html", "report.html"),
    "figure": ("figure confusion done --out figures", "figures"),
    "figure pdf": ("figure speakers done --out figures --format pdf", "figures"),
    "predict": ("predict RUN corpus --out found.csv", "found.csv"),
    "export onnx": ("export RUN --out model.onnx", "model.onnx"),
    "export folder": ("export RUN --out model --format folder", "model"),
}
LIMITS = (0, 300, 3_000, 30_000)
"""Bytes of the longest file: each stops other writers."""
SLOW = {"finetune": (3_000,), "report": (3_000,), "export onnx": (3_000,)}


def run(command: str) -> Result:
    found = [path.parent for path in Path().rglob("metrics.json") if path.parts[0] == "done"]
    arguments = command.replace("RUN", str(found[0]) if found else "").split()
    return CliRunner().invoke(app, arguments, prog_name="embedkit")


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def contents(place: Path) -> dict[str, Any]:
    """Return all files at a place, without what tells of times."""
    files = [path for path in place.rglob("*") if path.is_file()] if place.is_dir() else [place]
    return {str(path): without_times(path.read_bytes()) for path in sorted(files)}


def without_times(data: bytes) -> bytes:
    return re.sub(rb'"(created|seconds[a-z_]*|started|finished)": ?("[^"]*"|[0-9.e-]+)', b"", data)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a corpus, a store and a run."""
    folder = tmp_path_factory.mktemp("begun")
    write_tones(folder / "corpus")
    write_conv_checkpoint(folder / "tiny", "hubert")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command in (
            "extract corpus --encoder mfcc --out mfcc.h5",
            "extract corpus --encoder tiny --out tiny.h5",
            f"fit tiny.h5 --head linear {FIT.replace('--runs runs', '--runs done')}",
        ):
            result = run(command)
            assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def copied(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(begun, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.mark.parametrize("name", mark_cases(COMMANDS, lambda name: name != "export onnx"))
def test_a_full_disk_is_one_sentence_and_the_same_command_goes_on(name: str, copied: Path) -> None:
    assert signal.getsignal(signal.SIGXFSZ) == signal.SIG_IGN
    command, out = COMMANDS[name]
    stopped = 0
    for limit in SLOW.get(name, LIMITS):
        with largest_file(limit):
            result = run(command)
        left = [path for path in copied.rglob("*") if is_temporary(path.name)]
        assert not left
        if result.exit_code == 0:
            continue
        stopped += 1
        assert result.exit_code == 1, (limit, result.output, result.exception)
        *_, last = result.stderr.rstrip().splitlines()
        assert re.search(r"Too little room in .*: .* needed and .* free; make room, then run the same command", last), (
            limit,
            result.stderr,
        )
        assert "Traceback" not in result.output
    assert stopped
    assert run(command).exit_code == 0
    if name in ("export onnx", "figure pdf"):
        # The first has been compared with PyTorch, the second numbers its objects by chance.
        return
    after = contents(Path(out))
    shutil.rmtree(out) if Path(out).is_dir() else os.unlink(out)
    assert run(command).exit_code == 0
    assert after == contents(Path(out))
