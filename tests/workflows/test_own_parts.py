"""Users' own heads and losses, from the command line to predictions, without touching embedkit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import embedkit
from embedkit.errors import ConfigError
from embedkit.training.runs import find_runs
from tests.cases import mark_cases
from tests.training.stores import write_synthetic_store

ROOT = Path(__file__).parents[2]

PARTS = '''
import torch
from embedkit.heads.linear import LinearHead
from embedkit.losses.cross_entropy import CrossEntropy

class Stacked(LinearHead):
    """Follows the contract of stacks."""

class Plain(torch.nn.Module):
    def __init__(self, dimensions, classes, layers=1, hidden=8):
        super().__init__()
        self.hidden = torch.nn.Linear(layers * dimensions, hidden)
        self.drop = torch.nn.Dropout(0.1)
        self.last = torch.nn.Linear(hidden, classes)

    def forward(self, x):
        return self.last(self.drop(self.hidden(x.flatten(1)).relu()))

class StackedLoss(CrossEntropy):
    """Follows the contract of losses."""

class Counted(CrossEntropy):
    made = []

    def __init__(self, options):
        super().__init__(options)
        self.made.append(options)

def brier(scores, targets):
    wanted = torch.nn.functional.one_hot(targets, scores.shape[-1])
    return (scores.softmax(-1) - wanted).square().sum(-1).mean()
'''


def write_parts(folder: Path, module: str = "mine.parts") -> None:
    file = folder.joinpath(*module.split(".")).with_suffix(".py")
    file.parent.mkdir(exist_ok=True)
    file.write_text(PARTS)


@pytest.mark.parametrize("module", mark_cases(["mine.parts", "my_parts"], {"mine.parts"}.__contains__))
def test_from_the_command_line(tmp_path: Path, module: str) -> None:
    write_parts(tmp_path, module)
    write_synthetic_store(tmp_path / "embeddings" / "tiny.h5", noise=0.5)
    parts = f"--head {module}:Stacked,{module}:Plain:hidden=4 --loss {module}:StackedLoss,{module}:brier"
    budget = "--seeds 1 --epochs 20 --batch-size 8 --lr 3e-2 --folds session --threads 2"
    result = subprocess.run(
        [sys.executable, "-m", "embedkit", "fit", *parts.split(), *budget.split()],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    said = sorted(line for line in result.stderr.splitlines() if "one by one" in line)
    assert len(said) == 2
    assert f"'{module}:Plain'" in said[0]
    assert f"'{module}:brier'" in said[1]
    records = find_runs(tmp_path / "runs")
    found = {(record.metrics["head"], record.metrics["loss"]): record.metrics for record in records}
    assert len(found) == 4
    assert min(metrics["ua"] for metrics in found.values()) > 0.7
    assert found[f"{module}:Plain", f"{module}:brier"]["head_options"] == {"hidden": 4}


QUICK: dict[str, Any] = {"seeds": 2, "epochs": 3, "batch_size": 8, "lr": (1e-2,)}


def test_results_do_not_depend_on_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parts(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    store = write_synthetic_store(tmp_path / "tiny.h5", noise=4.0)
    first, second = (
        embedkit.fit(store, head=["mine.parts:Plain"], threads=threads, runs=tmp_path / str(threads), **QUICK)[0]
        for threads in (1, 2)
    )
    assert first.predictions_path.read_bytes() == second.predictions_path.read_bytes()
    assert (first.folder / "heads.safetensors").read_bytes() == (second.folder / "heads.safetensors").read_bytes()


def test_a_loss_that_needs_cosines_is_refused_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parts(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    store = write_synthetic_store(tmp_path / "tiny.h5")
    with pytest.raises(ConfigError, match="needs cosines"):
        embedkit.fit(store, ["ce", "aam"], head=["mine.parts:Plain"], runs=tmp_path / "runs", **QUICK)
    assert not (tmp_path / "runs").exists()


def test_a_loss_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parts(tmp_path, "counted_parts")
    monkeypatch.syspath_prepend(tmp_path)
    store = write_synthetic_store(tmp_path / "tiny.h5", noise=4.0)
    heads, losses = ["linear", "mlp:hidden=4/8"], ["counted_parts:Counted:weights=balanced", "ce"]
    records = embedkit.fit(store, losses, head=heads, layers="each", threads=1, runs=tmp_path / "runs", **QUICK)
    assert len(records) == 8
    (options,) = sys.modules["counted_parts"].Counted.made
    assert options.weights == "balanced"
    assert [record.metrics["loss_spec"] for record in records[:2]] == losses
