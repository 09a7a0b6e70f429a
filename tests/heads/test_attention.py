"""Energies in pieces are those of all at once, forwards and backwards."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor

from embedkit.heads import attention
from embedkit.heads.attention import frame_energies
from embedkit.heads.base import HeadShape
from embedkit.heads.layers import StackedLinear


@pytest.mark.parametrize("piece", [1, 40, 2**17])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("learned", [True, False])
def test_pieces_change_nothing(piece: int, shared: bool, learned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "PIECE", piece)
    shape = HeadShape(groups=2, members=3, layers=1, dimensions=4, classes=2)
    linear = StackedLinear(shape, [Generator().manual_seed(seed) for seed in range(6)], 4, 5).double()
    generator = Generator().manual_seed(9)
    context = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    frames = torch.randn(2, 1 if shared else 3, 7, 4, generator=generator, dtype=torch.float64, requires_grad=learned)
    weights = torch.randn(2, 3, 7, generator=generator, dtype=torch.float64)
    parameters = [linear.weight, linear.bias, context, *([frames] if learned else [])]
    whole = torch.einsum("gmfh,gmh->gmf", linear(frames).tanh(), context)
    found = frame_energies(linear, context, frames)
    torch.testing.assert_close(found, whole, rtol=1e-12, atol=1e-12)

    def gradients(energies: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad((weights * energies.square()).sum(), parameters)

    for one, other in zip(gradients(found), gradients(whole), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    with torch.no_grad():
        torch.testing.assert_close(frame_energies(linear, context, frames), whole)
