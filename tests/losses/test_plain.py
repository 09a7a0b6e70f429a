"""Plain functions and modules as losses: called on each head's rows that count."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from embedkit.errors import ConfigError
from embedkit.losses import build_loss

pytestmark = pytest.mark.usefixtures("own_parts_typed")


def squared(scores: Tensor, targets: Tensor) -> Tensor:
    return (scores - torch.nn.functional.one_hot(targets, scores.shape[-1])).square().mean()


def rowwise(scores: Tensor, targets: Tensor) -> Tensor:
    return cross_entropy(scores, targets, reduction="none")


class Sharp:
    def __init__(self, power: float = 2.0) -> None:
        self.power = power

    def __call__(self, scores: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(self.power * scores, targets)

    def probabilities(self, scores: Tensor) -> Tensor:
        return (self.power * scores).softmax(-1)


class Learned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))


class Needy:
    def __init__(self, power: float) -> None:
        self.power = power

    def __call__(self, scores: Tensor, targets: Tensor) -> Tensor:
        return scores.sum()


@pytest.fixture(autouse=True)
def _own_package() -> Iterator[None]:
    module = ModuleType("own.losses")
    for item in (squared, rowwise, Sharp, Learned, Needy):
        setattr(module, item.__name__, item)
    module.number = 3  # type: ignore[attr-defined]
    sys.modules["own.losses"] = module
    yield
    del sys.modules["own.losses"]


def sample() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 3, 6, 4, generator=generator, dtype=torch.float64)
    targets = torch.randint(4, (2, 1, 6), generator=generator)
    mask = torch.ones(2, 1, 6, dtype=torch.bool)
    mask[0, 0, 4:] = False
    return scores, targets, mask


REFERENCES: dict[str, Any] = {
    "own.losses:squared": squared,
    "own.losses:Sharp:power=3": Sharp(3.0),
    "torch.nn:CrossEntropyLoss": cross_entropy,
    "torch.nn:CrossEntropyLoss:label_smoothing=0.1": nn.CrossEntropyLoss(label_smoothing=0.1),
    "torch.nn.functional:cross_entropy": cross_entropy,
}


@pytest.mark.parametrize("spec", REFERENCES)
def test_each_head_gets_its_own_rows(spec: str) -> None:
    scores, targets, mask = sample()
    found = build_loss(spec)(scores, targets, mask=mask)
    assert found.shape == (2, 3)
    for group, member in [(0, 0), (0, 2), (1, 1)]:
        own = mask[group, 0]
        expected = REFERENCES[spec](scores[group, member][own], targets[group, 0][own])
        torch.testing.assert_close(found[group, member], expected)
    torch.testing.assert_close(
        build_loss(spec)(scores[0, 0], targets[0, 0]), REFERENCES[spec](scores[0, 0], targets[0, 0])
    )


def test_masked_rows_get_no_gradient_and_no_rows_cost_nothing() -> None:
    scores, targets, mask = sample()
    scores.requires_grad_()
    loss = build_loss("own.losses:squared")
    loss(scores, targets, mask=mask).sum().backward()
    assert scores.grad is not None
    assert not scores.grad[0, :, 4:].any()
    assert scores.grad[0, :, :4].all()
    assert not loss(scores, targets, mask=torch.zeros_like(mask)).any()


def test_probabilities() -> None:
    scores = sample()[0]
    torch.testing.assert_close(build_loss("own.losses:squared").probabilities(scores), scores.softmax(-1))
    torch.testing.assert_close(build_loss("own.losses:Sharp").probabilities(scores), (2 * scores).softmax(-1))


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("own.losses:number", "expected a subclass of"),
        ("own.losses:Learned", "parameters of its own"),
        ("own.losses:Needy", "'power' has no default"),
        ("own.losses:Sharp:pover=3", "Did you mean 'power'"),
        ("own.losses:squared:power=3", "Unknown option"),
        ("collections.abc:Sized", "expected a subclass of"),
    ],
)
def test_what_cannot_be_a_loss_is_told(spec: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        build_loss(spec)


def test_what_is_no_number_is_told() -> None:
    scores, targets, _ = sample()
    with pytest.raises(ConfigError, match=r"returned a tensor \[6\], expected a tensor that holds one number"):
        build_loss("own.losses:rowwise")(scores, targets)
