"""Dropout and initial weights, drawn head by head."""

from __future__ import annotations

import pytest
import torch

from embedkit.heads.base import HeadShape
from embedkit.heads.layers import StackedLinear, drop


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_dropout_zeroes_its_share_and_keeps_the_mean() -> None:
    found = drop(torch.ones(2, 2, 400, 100), 0.3, seeded(1, 2, 3, 4))
    for head in found.flatten(0, 1):
        assert (head == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)
        assert head.mean().item() == pytest.approx(1.0, abs=0.02)
    assert not torch.equal(found[0, 0], found[0, 1])


def test_dropout_of_a_head_depends_on_its_generator_alone() -> None:
    values = torch.randn(2, 3, 6, 5)
    stack = drop(values, 0.5, seeded(0, 1, 2, 3, 4, 5))
    alone = drop(values[1:, 2:], 0.5, seeded(5))
    assert torch.equal(stack[1, 2], alone[0, 0])


def test_dropout_of_shared_values_differs_between_members() -> None:
    values = torch.randn(1, 1, 6, 5)
    found = drop(values, 0.5, seeded(0, 1))
    assert torch.equal(found, drop(values.expand(1, 2, 6, 5), 0.5, seeded(0, 1)))


@pytest.mark.parametrize("more", [1, 200])
def test_dropout_draws_the_same_for_the_first_rows_whatever_follows(more: int) -> None:
    few, many = seeded(7), seeded(7)
    first = drop(torch.ones(1, 1, 32, 16), 0.4, few)
    second = drop(torch.ones(1, 1, 32 + more, 16), 0.4, many)
    assert torch.equal(first, second[:, :, :32])
    assert torch.equal(few[0].get_state(), many[0].get_state())


def test_shared_dimensions_are_dropped_together() -> None:
    found = drop(torch.ones(1, 1, 4, 9, 8), 0.5, seeded(3), shared=(3,))
    assert torch.equal(found, found[:, :, :, :1].expand_as(found))
    assert 0 < (found == 0).float().mean() < 1


def test_no_dropout_takes_nothing_from_the_generators() -> None:
    generators = seeded(3)
    before = generators[0].get_state()
    values = torch.randn(1, 1, 4, 8)
    assert drop(values, 0.0, generators) is values
    assert torch.equal(generators[0].get_state(), before)


def test_shared_and_separate_values_give_the_same_products() -> None:
    shape = HeadShape(groups=2, members=3, layers=1, dimensions=5, classes=2)
    layer = StackedLinear(shape, seeded(*range(6)), 5, 4)
    values = torch.randn(2, 1, 7, 5)
    torch.testing.assert_close(layer(values), layer(values.expand(2, 3, 7, 5)))
    torch.testing.assert_close(layer(values)[1, 2], torch.nn.functional.linear(values[1, 0], *own(layer)))


def own(layer: StackedLinear) -> tuple[torch.Tensor, torch.Tensor]:
    return layer.weight[1, 2], layer.bias[1, 2]


def test_initial_weights_lie_within_pytorchs_bound() -> None:
    shape = HeadShape(groups=1, members=2, layers=1, dimensions=100, classes=2)
    layer = StackedLinear(shape, seeded(0, 1), 100, 50)
    assert 0.099 < layer.weight.abs().max().item() <= 0.1
    assert not torch.equal(layer.weight[0, 0], layer.weight[0, 1])
