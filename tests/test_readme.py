"""What README and CONTRIBUTING show is true: commands, options, keys and code blocks."""

import re
import shlex
from typing import Any

import pytest
import torch
from typer.main import get_command

from embedkit.cli import app
from embedkit.losses.base import Loss
from tests.pages import DOCUMENTS, ROOT, blocks, read_blocks, shell_commands

README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
MADE = ("commands.md",)
"""Pages of the site that are made when it is built."""

COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]


def shown_commands() -> list[str]:
    shown = [block for path in DOCUMENTS for block in read_blocks(path) if block.language == "sh"]
    return [part for block in shown for part in shell_commands(block) if re.match(r"embedkit \w", part)]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_readme(name: str) -> None:
    assert f"| `embedkit {name}` |" in README


@pytest.mark.parametrize("line", sorted(set(shown_commands())))
def test_shown_commands_can_be_read(line: str) -> None:
    # A variable of the shell stands for a number.
    _, name, *arguments = shlex.split(re.sub(r"\$\w+", "2", line.partition(" > ")[0]), comments=True)
    assert COMMANDS[name].make_context(name, arguments)


def test_the_set_up_commands_stand_as_promised() -> None:
    assert blocks(README, "sh")[0] == "pip install . && embedkit demo\n"
    assert "embedkit extract --encoder hubert\nembedkit fit --loss ccc\nembedkit table\n" in blocks(README, "sh")
    assert "pip install '.[test]' && pytest\n" in blocks(README, "sh")


def test_links_lead_somewhere() -> None:
    for path in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
            assert target.startswith("https://") or target in MADE or (path.parent / target).exists(), (
                path.name,
                target,
            )


def test_the_shown_loss_works() -> None:
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
