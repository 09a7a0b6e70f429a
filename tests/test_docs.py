"""The examples of the guides run, saved where they say, by the commands they show."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

import embedkit
from embedkit.cli import app
from embedkit.training.runs import find_runs
from tests.test_readme import DOCUMENTS, blocks, write_tiny_emodb
from tests.training.stores import write_synthetic_store

ROOT = Path(__file__).parent.parent
GUIDES = {name: (ROOT / "docs" / f"adding-{name}.md") for name in ("a-head", "a-loss", "an-encoder", "a-corpus")}
BUDGET = ("--seeds", "1", "--epochs", "6", "--batch-size", "8", "--lr", "2e-2", "--folds", "session")


@pytest.fixture(autouse=True)
def _users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_study"]:
        del sys.modules[name]


def save_example(guide: str, name: str) -> None:
    """Write the guide's first block where the guide says."""
    path = Path("my_study") / f"{name}.py"
    text = GUIDES[guide].read_text(encoding="utf-8")
    assert f"`{path}`" in text
    path.parent.mkdir()
    path.write_text(blocks(text, "python")[0])


def shown(guide: str, command: str) -> list[list[str]]:
    lines = "".join(blocks(GUIDES[guide].read_text(encoding="utf-8"), "sh")).splitlines()
    return [line.split()[1:] for line in lines if line.startswith(f"embedkit {command} ")]


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), prog_name="embedkit", catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stderr


@pytest.mark.parametrize(("guide", "name"), [("a-head", "heads"), ("a-loss", "losses")])
def test_heads_and_losses_of_the_guides_are_trained(tmp_path: Path, guide: str, name: str) -> None:
    save_example(guide, name)
    write_synthetic_store(tmp_path / "embeddings" / "tiny.h5", noise=0.5)
    commands = shown(guide, "fit")
    for command in commands:
        assert "one by one" in run(*command, *BUDGET)
    records = find_runs(tmp_path / "runs")
    assert len(records) == {"a-head": 3, "a-loss": 5}[guide]
    assert min(record.metrics["ua"] for record in records) > 0.6


def test_the_encoder_of_the_guide_extracts(tmp_path: Path) -> None:
    save_example("an-encoder", "encoders")
    write_tiny_emodb(tmp_path / "path" / "to" / "corpus")
    (command,) = shown("an-encoder", "extract")
    run(*command, "--level", "both")
    store = embedkit.open_store("embeddings/emodb/my_study.encoders-LogEnergy.h5")
    assert (len(store), store.dimensions, store.layers) == (16, 8, (0,))
    waveform, _ = soundfile.read(tmp_path / "path/to/corpus" / store.column("path")[3], dtype="float32")
    power = np.abs(np.fft.rfft(waveform[: len(waveform) // 320 * 320].reshape(-1, 320))) ** 2
    expected = np.log(np.maximum(power[:, 1:].reshape(-1, 8, 20).mean(-1), 1e-10))
    np.testing.assert_allclose(store.frames(3)[:, 0], expected, rtol=2e-3, atol=2e-3)
    (command,) = shown("an-encoder", "fit")
    run(*command, "--seeds", "1", "--epochs", "3")
    (record,) = find_runs(tmp_path / "runs")
    (found,) = embedkit.predict(record, [tmp_path / "path/to/corpus" / store.column("path")[0]], device="cpu")
    assert found.label in ("anger", "sadness")


def test_the_corpus_of_the_guide_is_read(tmp_path: Path) -> None:
    save_example("a-corpus", "corpora")
    folder = tmp_path / "path" / "to" / "folder"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for speaker in ("anna", "ben"):
        for letter in "ANS":
            soundfile.write(folder / f"{speaker}_{letter}_01.wav", 0.1 * generator.standard_normal(8000), 16000)
    (command,) = shown("a-corpus", "extract")
    run(*command)
    store = embedkit.open_store("embeddings/mine/mfcc.h5")
    assert store.ids.tolist() == sorted(path.stem for path in folder.iterdir())
    assert store.labels.tolist() == ["anger", "neutral", "sadness"] * 2
    assert set(store.speakers) == {"anna", "ben"}
    assert store.task["classes"] == ["anger", "neutral", "sadness"]


@pytest.mark.parametrize("place", range(2))
def test_the_python_guide_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str], place: int) -> None:
    write_tiny_emodb(tmp_path / "corpus")
    # MFCC in place of HuBERT, whose weights are not at hand.
    path = tmp_path / "embeddings" / "emodb" / "hubert.h5"
    embedkit.extract(tmp_path / "corpus", encoder="mfcc", out=path, progress=False)
    code = blocks((ROOT / "docs" / "python.md").read_text(encoding="utf-8"), "python")[place]
    names: dict[str, Any] = {}
    exec(compile(code, "docs/python.md", "exec"), names)  # noqa: S102
    said = capsys.readouterr().out
    if place == 0:
        assert names["scores"].mean() == 1.0
        assert "learning_rate" in said
    else:
        assert len(names["dataset"]) == 16
        assert said.count("torch.Size([8, 39])") == 1
        assert "torch.Size([8, 26, 39]) [26, 26, 26, 26, 26, 26, 26, 26]" in said


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if path.parent.name == "docs"], ids=lambda path: path.name)
def test_the_places_named_exist(path: Path) -> None:
    for part in re.findall(r"`(embedkit/[\w/.]+|docs/[\w/.-]+|tests/[\w/.]+)`", path.read_text(encoding="utf-8")):
        assert (ROOT / part).exists(), part
