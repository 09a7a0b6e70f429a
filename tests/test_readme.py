"""What README and CONTRIBUTING show is true: commands, options, keys and code blocks."""

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from typer.main import get_command

import embedkit
from embedkit.cli import app
from embedkit.config import read_config
from embedkit.losses.base import Loss

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def shown_commands() -> list[str]:
    lines = [
        line
        for path in DOCUMENTS
        for block in blocks(path.read_text(encoding="utf-8"), "sh")
        for line in block.splitlines()
    ]
    return [part.strip() for line in lines for part in line.split("&&") if part.strip().startswith("embedkit ")]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_readme(name: str) -> None:
    assert f"| `embedkit {name}` |" in README


@pytest.mark.parametrize("line", sorted(set(shown_commands())))
def test_shown_commands_can_be_read(line: str) -> None:
    _, name, *arguments = shlex.split(line, comments=True)
    assert COMMANDS[name].make_context(name, arguments)


def test_the_set_up_commands_stand_as_promised() -> None:
    assert blocks(README, "sh")[0] == "pip install . && embedkit demo\n"
    assert "embedkit extract --encoder hubert\nembedkit fit --loss ccc\nembedkit table\n" in blocks(README, "sh")
    assert "pip install '.[test]' && pytest\n" in blocks(README, "sh")


def test_the_shown_configuration_is_read(tmp_path: Path) -> None:
    (text,) = blocks(README, "toml")
    (tmp_path / "embedkit.toml").write_text(text)
    assert read_config(tmp_path).options("fit")["seeds"] == 5


def test_links_lead_somewhere() -> None:
    for path in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (path.parent / target).exists(), f"{path.name}: {target}"


def write_tiny_emodb(folder: Path) -> None:
    """Write sixteen short tones in EmoDB's layout: four speakers, two emotions that differ in pitch."""
    generator = np.random.default_rng(0)
    (folder / "wav").mkdir(parents=True)
    for speaker in ("03", "08", "09", "10"):
        for letter, pitch in (("W", 400.0), ("T", 150.0)):
            for version in "ab":
                time = np.arange(8000) / 16000
                tone = np.sin(2 * np.pi * pitch * generator.uniform(0.9, 1.1) * time)
                noise = 0.1 * generator.standard_normal(len(time))
                soundfile.write(folder / "wav" / f"{speaker}a01{letter}{version}.wav", 0.3 * tone + 0.1 * noise, 16000)


def test_the_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tiny_emodb(tmp_path / "corpus")
    (code,) = blocks(README, "python")
    # MFCC in place of HuBERT, whose weights are not at hand; and a small budget.
    code = code.replace("hubert", "mfcc").replace(
        'folds="speaker"', 'folds="speaker", heads=["linear"], seeds=1, epochs=3'
    )
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102
    assert names["X"].shape == (16, 39)
    assert set(names["y"]) == {"anger", "sadness"}
    assert "emodb: UA in %, 2 classes, folds by speaker" in capsys.readouterr().out
    assert {row["loss"] for row in embedkit.table("runs").rows} == {"ce", "focal"}


def test_the_shown_loss_works(tmp_path: Path) -> None:
    (code,) = blocks(CONTRIBUTING, "python")
    names: dict[str, Any] = {}
    exec(compile(code, "CONTRIBUTING.md", "exec"), names)  # noqa: S102
    loss: Loss = names["Brier"](names["Brier"].Options())
    scores = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([0, 1, 2, 3, 0])
    expected = ((scores.softmax(-1) - torch.eye(4)[targets]) ** 2).sum(-1).mean(-1)
    torch.testing.assert_close(loss(scores, targets), expected)
    mask = torch.tensor([True, True, False, False, False])
    torch.testing.assert_close(loss(scores, targets, mask=mask), loss(scores[:, :2], targets[:2]))


@pytest.mark.parametrize("part", re.findall(r"`(embedkit/[\w/.]+|docs/[\w/.-]+|tests/[\w/.]+)`", CONTRIBUTING))
def test_the_places_named_for_changes_exist(part: str) -> None:
    assert (ROOT / part).exists()
