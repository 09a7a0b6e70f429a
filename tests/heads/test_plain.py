"""Plain modules as heads: their own numbers, each as if it were alone, whatever they are built of."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from embedkit.errors import ConfigError
from embedkit.heads import resolve_head
from embedkit.heads.base import Head, HeadInputs, HeadShape
from embedkit.heads.stack import load_states, restack, slice_state

pytestmark = pytest.mark.usefixtures("own_parts_typed")

SHAPE = HeadShape(groups=2, members=3, layers=3, dimensions=8, classes=4)


class Wide(nn.Module):
    """A bit of everything: nested layers, dropout, a buffer that moves, a parameter used twice, one that is frozen."""

    def __init__(self, dimensions: int, classes: int, layers: int = 1, hidden: int = 6, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = gain
        self.first = nn.Sequential(nn.Linear(dimensions, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Dropout(0.3))
        self.norm = nn.BatchNorm1d(hidden)
        self.again = self.first[0]
        self.frozen = nn.Parameter(torch.randn(hidden), requires_grad=False)
        self.last = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        values = self.first(x.mean(1)) + self.again(x[:, 0]) + self.frozen
        scores: Tensor = self.gain * self.last(self.norm(values))
        return scores


class NoLayers(nn.Module):
    def __init__(self, dimensions: int, classes: int) -> None:
        super().__init__()
        self.last = nn.Linear(dimensions, classes)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.last(x[:, -1])
        return scores


class Sizeless(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()


class Needy(nn.Module):
    def __init__(self, dimensions: int, classes: int, hidden: int) -> None:
        super().__init__()


class Flat(NoLayers):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).sum(-1)


@pytest.fixture(autouse=True)
def _own_package() -> Iterator[None]:
    module = ModuleType("own.heads")
    for cls in (Wide, NoLayers, Sizeless, Needy, Flat):
        setattr(module, cls.__name__, cls)
    module.text = "text"  # type: ignore[attr-defined]
    sys.modules["own.heads"] = module
    yield
    del sys.modules["own.heads"]


def make(spec: str, shape: HeadShape = SHAPE, seeds: list[int] | None = None) -> Head:
    resolved = resolve_head(spec)
    cls, options = resolved.cls, resolved.options
    seeds = list(range(shape.groups * shape.members)) if seeds is None else seeds
    return cls(shape, options, [torch.Generator().manual_seed(seed) for seed in seeds]).double()


def batch(seed: int, groups: int = 2) -> Tensor:
    return torch.randn(groups, 5, 3, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def train(head: Head, group: int | None = None) -> None:
    optimizer = torch.optim.SGD([p for p in head.parameters() if p.requires_grad], lr=0.1)
    head.train()
    for step in range(3):
        values = batch(step) if group is None else batch(step)[group : group + 1]
        optimizer.zero_grad()
        head(HeadInputs(values=values)).square().sum().backward()
        optimizer.step()


def test_every_tensor_leads_with_groups_and_members() -> None:
    head = make("own.heads:Wide:hidden=7")
    for name, values in head.state_dict().items():
        assert values.shape[:2] == (2, 3), name
    assert head.get_parameter("module.last.weight").shape == (2, 3, 4, 7)
    assert not head.get_parameter("module.frozen").requires_grad
    first = head.get_parameter("module.last.weight")
    assert len({tuple(part.flatten().tolist()) for part in first.flatten(0, 1)}) == 6


def test_scores_are_those_of_the_module_itself() -> None:
    head = make("own.heads:Wide:hidden=7,gain=2").eval()
    values = batch(0)
    scores = head(HeadInputs(values=values))
    for group, member in [(0, 0), (1, 2)]:
        module = Wide(8, 4, 3, hidden=7, gain=2.0).double().eval()
        state = slice_state(head, group, member)
        module.load_state_dict({name.removeprefix("module."): tensor for name, tensor in state.items()})
        torch.testing.assert_close(scores[group, member], module(values[group]))


@pytest.mark.parametrize("spec", ["own.heads:Wide", "own.heads:NoLayers"])
def test_a_stack_trains_every_head_as_if_it_were_alone(spec: str) -> None:
    stack = make(spec)
    train(stack)
    for group, member in [(0, 0), (0, 2), (1, 1)]:
        alone = make(
            spec, HeadShape(groups=1, members=1, layers=3, dimensions=8, classes=4), seeds=[3 * group + member]
        )
        untrained = slice_state(alone, 0, 0)
        train(alone, group)
        found, expected = slice_state(stack, group, member), slice_state(alone, 0, 0)
        for name, values in expected.items():
            torch.testing.assert_close(found[name], values, rtol=1e-9, atol=1e-11, msg=name)
            assert "frozen" in name or not torch.equal(values, untrained[name]), name


def test_torchs_own_random_numbers_are_left_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    train(make("own.heads:Wide"))
    torch.testing.assert_close(torch.rand(3), expected)


def test_saved_heads_can_be_put_back_and_restacked() -> None:
    head = make("own.heads:Wide")
    train(head)
    other = make("own.heads:Wide", seeds=[9] * 6)
    load_states(other, [[slice_state(head, group, member) for member in range(3)] for group in range(2)])
    values = HeadInputs(values=batch(4))
    torch.testing.assert_close(other.eval()(values), head.eval()(values))
    smaller = restack(head, [[(0, 2)], [(1, 0)]])
    torch.testing.assert_close(smaller(values), torch.stack([head(values)[0, 2:], head(values)[1, :1]]))


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("own.heads:Wide:hiden=3", "Did you mean 'hidden'"),
        ("own.heads:Wide:hidden=three", "expected a value of type int"),
        ("own.heads:Sizeless", "takes no argument 'dimensions'"),
        ("own.heads:Needy", "'hidden' has no default"),
        ("own.heads:text", "expected a subclass of"),
    ],
)
def test_what_cannot_be_a_head_is_told(spec: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        resolve_head(spec)


def test_what_is_no_logits_is_told() -> None:
    with pytest.raises(ConfigError, match=r"returned a tensor \[5\], expected logits \[5, 4\]"):
        make("own.heads:Flat")(HeadInputs(values=batch(0)))


def test_losses_on_cosines_are_refused() -> None:
    shape: dict[str, Any] = {"groups": 1, "members": 1, "layers": 1, "dimensions": 8, "classes": 4}
    with pytest.raises(ConfigError, match="the loss needs cosines"):
        make("own.heads:NoLayers", HeadShape(**shape, classifier="cosine"))
