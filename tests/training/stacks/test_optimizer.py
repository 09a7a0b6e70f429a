"""The stacked optimizer against PyTorch's, head by head."""

from __future__ import annotations

import pytest
import torch

from embedkit.training.stacks.optimizer import StackedAdam


@pytest.mark.parametrize("weight_decay", [0.0, 0.1, torch.tensor([[0.0, 0.1], [0.3, 0.02]], dtype=torch.float64)])
def test_each_head_is_updated_as_by_adamw_alone(weight_decay: float | torch.Tensor) -> None:
    generator = torch.Generator().manual_seed(3)
    rates = torch.tensor([[1e-3, 3e-2], [1e-2, 1e-1]], dtype=torch.float64)
    stack = torch.randn(2, 2, 5, 3, generator=generator, dtype=torch.float64).requires_grad_()
    alone = {(g, m): stack[g, m].detach().clone().requires_grad_() for g in range(2) for m in range(2)}
    ours = StackedAdam([stack], rates, weight_decay=weight_decay)
    decays = torch.as_tensor(weight_decay, dtype=torch.float64).expand(2, 2)
    theirs = {
        key: torch.optim.AdamW([value], lr=float(rates[key]), weight_decay=float(decays[key]), foreach=False)
        for key, value in alone.items()
    }
    for step in range(20):
        target = torch.randn(5, 3, generator=generator, dtype=torch.float64)
        ((stack - target) ** 2 * (step + 1)).sum().backward()
        ours.step()
        for key, value in alone.items():
            theirs[key].zero_grad()
            ((value - target) ** 2 * (step + 1)).sum().backward()
            theirs[key].step()
    for (g, m), value in alone.items():
        torch.testing.assert_close(stack[g, m].detach(), value.detach(), rtol=1e-10, atol=1e-12)


def test_the_factor_scales_every_rate() -> None:
    stack = torch.zeros(1, 2, 3, requires_grad=True)
    ours = StackedAdam([stack], torch.tensor([[1e-2, 1e-1]]))
    stack.sum().backward()
    ours.step(0.5)
    torch.testing.assert_close(stack.detach()[0, :, 0], torch.tensor([-5e-3, -5e-2]), rtol=1e-5, atol=0)


def test_a_parameter_may_learn_faster_than_the_others() -> None:
    slow, fast = torch.zeros(1, 1, 2, requires_grad=True), torch.zeros(1, 1, 2, requires_grad=True)
    ours = StackedAdam([slow, fast], torch.tensor([[1e-2]]), factors=[1.0, 5.0])
    (slow + fast).sum().backward()
    ours.step()
    torch.testing.assert_close(fast.detach(), 5 * slow.detach())
