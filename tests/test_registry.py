"""Names, settings, and parts of the user's own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedkit.errors import UnknownNameError
from embedkit.heads import HEADS, resolve_head
from embedkit.imports import looks_like_target, take_word
from embedkit.losses import LOSSES, build_loss
from embedkit.registry import load_object, parse_spec, split_specs

MODULES = {
    "my_losses": """
import torch


def brier(scores, targets):
    return (scores.softmax(-1) - torch.nn.functional.one_hot(targets, scores.shape[-1])).square().sum(-1).mean()


class Poly:
    def __init__(self, epsilon=1.0):
        self.epsilon = epsilon

    def __call__(self, scores, targets):
        return self.epsilon * brier(scores, targets)
""",
    "my_heads": """
import torch


class Plain(torch.nn.Module):
    def __init__(self, dimensions, classes, layers=1, hidden=8):
        super().__init__()
        self.last = torch.nn.Linear(layers * dimensions, classes)

    def forward(self, x):
        return self.last(x.flatten(1))
""",
    "my_slip": "def f(:\n",
    "my_need": "import no_such_package\n",
    "my_fault": "def f():\n    pass\n\n\nx = 1 / 0\n",
}


@pytest.fixture(autouse=True)
def _users_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("embedkit.imports._WORD", {})
    yield
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("spec", "name", "settings"),
    [
        ("ccc", "ccc", {}),
        ("ccc:flat", "ccc", {"flat": "true"}),
        ("focal:gamma=1.5", "focal", {"gamma": "1.5"}),
        ("my_losses:brier", "my_losses:brier", {}),
        ("my_losses:Poly:epsilon=2,deep", "my_losses:Poly", {"epsilon": "2", "deep": "true"}),
        ("my.losses:Poly:epsilon=2", "my.losses:Poly", {"epsilon": "2"}),
        ("focl:gamma=2", "focl", {"gamma": "2"}),
    ],
)
def test_modules_of_ones_own_are_told_from_flags(spec: str, name: str, settings: dict[str, str]) -> None:
    assert parse_spec(spec, LOSSES) == (name, settings)


def test_parts_of_ones_own_need_no_dot() -> None:
    take_word("my_losses:Poly", "my_heads:Plain")
    assert build_loss("my_losses:Poly:epsilon=2").options.epsilon == 2.0  # type: ignore[attr-defined]
    found = resolve_head("my_heads:Plain:hidden=4")
    assert (found.name, found.options.hidden) == ("my_heads:Plain", 4)
    assert split_specs(["ce,my_losses:Poly:epsilon=2,ccc:flat"], LOSSES) == [
        "ce",
        "my_losses:Poly:epsilon=2",
        "ccc:flat",
    ]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (
            "my_loses:brier",
            "no module 'my_loses', neither installed nor as my_loses.py in the current folder.",
        ),
        ("my.package:brier", "no module 'my.package', neither installed nor as my/package.py in the current folder."),
        ("my_losses.more:brier", "there is no module 'my_losses.more'"),
        ("my_losses:brie", "module 'my_losses' has no attribute 'brie' ("),
        ("my_losses:brie", "my_losses.py)."),
        ("my_slip:f", "invalid syntax (my_slip.py, line 1)."),
        ("my_need:f", "No module named 'no_such_package', in "),
        ("my_need:f", "my_need.py', line 1."),
        ("my_fault:f", "ZeroDivisionError: division by zero, in "),
        ("my_fault:f", "my_fault.py', line 5."),
        ("cc:flat", "Did you mean the loss 'ccc'?"),
    ],
)
def test_what_cannot_be_imported_gets_one_sentence(target: str, said: str) -> None:
    take_word(target)
    with pytest.raises(UnknownNameError) as caught:
        LOSSES.load(target)
    assert str(caught.value).startswith(f"Cannot import '{target}': ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_a_module_that_is_not_there_may_be_a_slip_of_a_name() -> None:
    Path(sys.path[0], "foca.py").write_text("x = 1 / 0\n")
    take_word("foca:f")
    with pytest.raises(UnknownNameError) as caught:
        LOSSES.load("foca:f")
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize("text", ["a:b", "a.b:C", "_a1:B", "große:Köpfe"])
def test_targets_are_recognised(text: str) -> None:
    assert looks_like_target(text)


@pytest.mark.parametrize("text", ["a", "a:", ":b", "a:b=1", "a:b:c", "a/b:c", "a b:c", "1a:b", "C:\\x", "a-b:c"])
def test_other_texts_are_no_targets(text: str) -> None:
    assert not looks_like_target(text)


@pytest.mark.parametrize("registry", [LOSSES, HEADS])
def test_every_registered_target_can_be_imported(registry: object) -> None:
    for name in registry:  # type: ignore[attr-defined]
        assert registry.load(name).Options  # type: ignore[attr-defined]


def test_an_object_is_loaded() -> None:
    assert load_object("pathlib:Path") is Path
