"""The whole study from the command line: encoders from local folders, all losses, one table."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import transformers
from typer.testing import CliRunner

from embedkit.cli import app
from embedkit.corpora.demo import write_demo_corpus
from embedkit.corpora.iemocap import DEMO_MARKER
from tests.cases import mark_cases
from tests.encoders.checkpoints import write_checkpoint, write_conv_checkpoint
from tests.encoders.test_vggish import SMALL, random_state

ROOT = Path(__file__).parent.parent
LOSSES = {"ce", "label-smoothing", "focal", "aam", "ccc"}
SYSTEMS = {"mfcc": "lstm", "vggish": "mlp", "wav2vec2": "linear", "hubert": "linear"}


def start_embedkit(folder: Path, arguments: Sequence[str]) -> str:
    """Run the command line in a folder and return its standard output."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "embedkit", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def write_vggish(path: Path) -> None:
    """Write random weights in torchvggish's published layout."""
    channels = {0: (1, 64), 3: (64, 128), 6: (128, 256), 8: (256, 256), 11: (256, 512), 13: (512, 512)}
    widths = {0: (12288, 4096), 2: (4096, 4096), 4: (4096, 128)}
    generator = torch.Generator().manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {}
    for place, (inputs, outputs) in channels.items():
        shapes[f"features.{place}.weight"] = (outputs, inputs, 3, 3)
        shapes[f"features.{place}.bias"] = (outputs,)
    for place, (inputs, outputs) in widths.items():
        shapes[f"embeddings.{place}.weight"] = (outputs, inputs)
        shapes[f"embeddings.{place}.bias"] = (outputs,)
    state = {
        name: torch.randn(shape, generator=generator) * (2 / max(1, torch.Size(shape[1:]).numel())) ** 0.5
        for name, shape in shapes.items()
    }
    torch.save(state, path)


def embedkit_here(folder: Path, arguments: Sequence[str]) -> str:
    """Run the command line in this process."""
    with contextlib.chdir(folder):
        done = CliRunner().invoke(app, arguments, prog_name="embedkit", catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def write_weights(folder: Path) -> None:
    """Write random weights of true size."""
    torch.manual_seed(0)
    write_checkpoint(folder / "hubert-base", transformers.HubertModel(transformers.HubertConfig()))
    write_checkpoint(folder / "wav2vec2-base", transformers.Wav2Vec2Model(transformers.Wav2Vec2Config()))
    write_vggish(folder / "vggish.pth")


def write_small_weights(folder: Path) -> None:
    for name in ("hubert", "wav2vec2"):
        write_conv_checkpoint(folder / f"{name}-base", name, num_hidden_layers=1)
    torch.save(random_state(SMALL), folder / "vggish.pth")


@pytest.fixture(scope="module", params=mark_cases(["small", "of true size"], {"small"}.__contains__))
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with weights, a corpus in IEMOCAP's layout, and the embedkit.toml that names them."""
    folder = tmp_path_factory.mktemp("study")
    (write_small_weights if request.param == "small" else write_weights)(folder)
    write_demo_corpus(folder / "IEMOCAP", turns=5)
    (folder / "IEMOCAP" / DEMO_MARKER).unlink()
    (folder / "embedkit.toml").write_text(
        'corpus = "IEMOCAP"\n[encoders]\nhubert = "hubert-base"\nwav2vec2 = "wav2vec2-base"\nvggish = "vggish.pth"\n'
    )
    return folder


@pytest.mark.slow
def test_three_bare_lines_then_every_row_and_column_of_the_study(
    study: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = request.node.callspec.params["study"] == "small"
    if small:
        monkeypatch.setattr("embedkit.encoders.vggish.VggishShape", lambda: SMALL)
    embedkit = embedkit_here if small else start_embedkit
    embedkit(study, ["extract", "--encoder", "hubert"])
    embedkit(study, ["fit", "--loss", "ccc"])
    printed = embedkit(study, ["table"])
    assert "hubert" in printed
    assert "ccc" in printed
    (row,) = json.loads(embedkit(study, ["table", "--format", "json"]))
    assert (row["corpus"], row["encoder"], row["loss"], row["folds"]) == ("iemocap", "hubert", "ccc", "session")
    assert row["classes"] == ["anger", "happiness", "neutral", "sadness"]
    assert row["speakers"] == 10

    embedkit(study, ["extract", *(part for name in SYSTEMS for part in ("--encoder", name))])
    embedkit(study, ["fit", "--loss", "all", "--seeds", "1", "--epochs", "4", "--lr", "0.01", "--runs", "whole"])
    rows = json.loads(embedkit(study, ["table", "whole", "--format", "json"]))
    cells = {(row["encoder"], row["head"], row["loss"]) for row in rows}
    assert cells == {(encoder, head, loss) for encoder, head in SYSTEMS.items() for loss in LOSSES}
    assert len({json.dumps(row["budget"]) for row in rows}) == 1
    printed = embedkit(study, ["table", "whole", "--published"])
    assert all(len(line) <= 80 for line in printed.splitlines())
    own, others = printed.split("Published by others")
    assert "-" not in {cell for line in own.splitlines() if line.startswith(tuple(SYSTEMS)) for cell in line.split()}
    assert "SUPERB" in others


@pytest.mark.heavy
def test_the_same_commands_give_the_same_table(study: Path, tmp_path: Path) -> None:
    commands = [["extract", str(study / "IEMOCAP"), "--encoder", "mfcc"], ["fit", "--epochs", "2", "--seeds", "2"]]
    tables = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        for command in commands:
            start_embedkit(folder, command)
        tables.append(start_embedkit(folder, ["table", "--format", "csv"]))
    assert tables[0] == tables[1]
