"""The energies of an attention over frames, computed in pieces that stay in the processor's cache."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from embedkit.heads.layers import StackedLinear

PIECE = 2**17
"""Hidden units computed at once, half a megabyte in fp32: bias, tanh and their gradient find them in the cache."""


def frame_energies(attention: StackedLinear, context: Tensor, frames: Tensor) -> Tensor:
    """Return `context . tanh(attention(frame))` of every frame.

    Shape:
        context: `[groups, members, hidden]`; frames: `[groups, members or 1, rows, features]`.
        Output: `[groups, members, rows]`.
    """
    if frames.device.type != "cpu" or not (torch.is_grad_enabled() and context.requires_grad):
        return torch.einsum("gmfh,gmh->gmf", attention(frames).tanh(), context)
    energies: Tensor = _Energies.apply(frames, attention.weight, attention.bias, context)  # type: ignore[no-untyped-call, unused-ignore]
    return energies


class _Energies(torch.autograd.Function):
    """Members that share their frames are computed side by side, others one by one."""

    @staticmethod
    def forward(ctx: Any, frames: Tensor, weight: Tensor, bias: Tensor, context: Tensor) -> Tensor:
        groups, members, hidden, _ = weight.shape
        shared, rows = frames.shape[1], frames.shape[2]
        beside = members // shared
        units = frames.new_empty(groups, shared, rows, beside * hidden)
        energies = frames.new_empty(groups, shared, rows, beside)
        for place, part in _pieces(units):
            own, shift, direction = (_beside(values, shared)[place] for values in (weight, bias, context))
            piece = units[place][part]
            torch.addmm(shift.flatten(), frames[place][part], own.flatten(0, 1).T, out=piece).tanh_()
            split = piece.view(-1, beside, hidden).transpose(0, 1)
            energies[place][part] = torch.bmm(split, direction.unsqueeze(-1)).squeeze(-1).T
        ctx.save_for_backward(frames, weight, context, units)
        return energies.transpose(2, 3).reshape(groups, members, rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
        frames, weight, context, units = ctx.saved_tensors
        groups, members, hidden, _ = weight.shape
        shared = frames.shape[1]
        beside = members // shared
        for_weight, for_context = torch.zeros_like(weight), torch.zeros_like(context)
        for_bias = torch.zeros_like(context)
        for_frames = torch.empty_like(frames) if ctx.needs_input_grad[0] else None
        by_row = gradient.view(groups, shared, beside, -1).transpose(2, 3)
        for place, part in _pieces(units):
            piece, given = units[place][part].view(-1, beside, hidden), by_row[place][part]
            _beside(for_context, shared)[place].add_(
                torch.bmm(piece.permute(1, 2, 0), given.T.unsqueeze(-1)).squeeze(-1)
            )
            slope = (1 - piece.square()).mul_(_beside(context, shared)[place]).mul_(given.unsqueeze(-1)).flatten(1)
            own = _beside(for_weight, shared)[place].flatten(0, 1)
            own.addmm_(slope.T, frames[place][part])
            _beside(for_bias, shared)[place].add_(slope.sum(0).view(beside, hidden))
            if for_frames is not None:
                torch.mm(slope, _beside(weight, shared)[place].flatten(0, 1), out=for_frames[place][part])
        return for_frames, for_weight, for_bias, for_context


def _beside(values: Tensor, shared: int) -> Tensor:
    """View `[groups, members, ...]` as `[groups, shared, members of each, ...]`."""
    return values.view(values.shape[0], shared, -1, *values.shape[2:])


def _pieces(units: Tensor) -> list[tuple[tuple[int, int], slice]]:
    """Return which rows of `[groups, shared, rows, units]` are computed at once."""
    groups, shared, rows, width = units.shape
    step = max(1, PIECE // width)
    starts = range(0, rows, step)
    return [((g, s), slice(start, start + step)) for g in range(groups) for s in range(shared) for start in starts]
