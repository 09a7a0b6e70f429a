"""The matrix products of stacked heads, forwards and backwards laid out for speed.

Autograd's own gradient of a transposed weight is laid out transposed, and copying it back costs as much as all
products of a small head together.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from embedkit.kernels import batch_product, cached_pieces

MIXED_SHARE = 1 / 3
"""The members to a layer up to which mixing the layers costs less than their dot products with each other."""


def multiply(values: Tensor, weight: Tensor) -> Tensor:
    """Multiply `[groups, members or 1, rows, inputs]` by every head's `[outputs, inputs]`, transposed."""
    groups, members, outputs, inputs = weight.shape
    rows = values.shape[2]
    if values.shape[1] == members:
        flat = _product(values.reshape(groups * members, rows, inputs), weight.flatten(0, 1))
        return flat.view(groups, members, rows, outputs)
    shared = _product(values.squeeze(1), weight.flatten(1, 2))
    return shared.view(groups, rows, members, outputs).transpose(1, 2)


def mixed_products(values: Tensor, shares: Tensor, weight: Tensor) -> Tensor:
    """Multiply the mixed layers by every head's weights, without mixing the layers head by head.

    Every layer is multiplied first, once for all members of a group: one large product instead of many narrow ones,
    several times as fast though it takes more multiplications.

    Shape:
        values: `[groups, rows, layers, dimensions]`, fastest where they lie layer by layer;
        shares: `[groups, members, layers]`;
        weight: `[groups, members, outputs, dimensions]`. Output: `[groups, members, rows, outputs]`.
    """
    mixed: Tensor = _MixedProduct.apply(values, shares, weight)  # type: ignore[no-untyped-call, unused-ignore]
    return mixed


def take_members(values: Tensor, members: Tensor | None) -> Tensor:
    """Return some members `[groups, n]` of values `[groups, all or 1, ...]`; all where none are named."""
    if members is None or values.shape[1] == 1:
        return values
    return values[torch.arange(len(members), device=members.device).unsqueeze(-1), members]


def mixed_norms(values: Tensor, shares: Tensor) -> Tensor:
    """Return the norms `[groups, members, rows]` of the mixed layers, under shares `[groups, members, layers]`.

    For many members they come from the layers' dot products alone, for a few the layers are mixed.
    """
    groups, rows, layers, _ = values.shape
    members = shares.shape[1]
    if members <= layers * MIXED_SHARE:
        mixed = torch.bmm(shares, values.transpose(1, 2).flatten(2)).view(groups, members, rows, -1)
        norms: Tensor = torch.linalg.vector_norm(mixed, dim=-1)
        return norms.clamp_min(1e-8)
    grams = torch.stack([torch.bmm(one, one.transpose(1, 2)) for one in values]).flatten(2)
    pairs = (shares.unsqueeze(-1) * shares.unsqueeze(-2)).flatten(-2)
    return torch.bmm(pairs, grams.transpose(1, 2)).clamp_min(1e-16).sqrt()


class _Product(torch.autograd.Function):
    """Values `[n, rows, inputs]` times weights `[n, outputs, inputs]`, transposed."""

    @staticmethod
    def forward(values: Tensor, weight: Tensor) -> Tensor:
        return batch_product(values, weight)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        values, weight = ctx.saved_tensors
        for_values, for_weight = ctx.needs_input_grad
        return (
            _product(gradient, weight.transpose(1, 2)) if for_values else None,
            _product(gradient.transpose(1, 2), values.transpose(1, 2)) if for_weight else None,
        )


def _product(values: Tensor, weight: Tensor) -> Tensor:
    product: Tensor = _Product.apply(values, weight)  # type: ignore[no-untyped-call, unused-ignore]
    return product


class _MixedProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, shares: Tensor, weight: Tensor) -> Tensor:
        groups, rows, layers, dimensions = values.shape
        members, outputs = weight.shape[1:3]
        by_layer = values.transpose(1, 2).reshape(groups, layers * rows, dimensions)
        products = batch_product(weight.reshape(groups, members * outputs, dimensions), by_layer)
        products = products.view(groups, members, outputs, layers, rows)
        ctx.save_for_backward(by_layer, shares, weight, products)
        return (products * shares[:, :, None, :, None]).sum(3).transpose(2, 3)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        by_layer, shares, weight, products = ctx.saved_tensors
        groups, _, _, layers, rows = products.shape
        own = gradient.transpose(2, 3).contiguous()
        for_shares = (products * own.unsqueeze(3)).sum((2, 4))
        for_weight, dimensions = torch.empty_like(weight), weight.shape[3]
        # On a CPU piece by piece, so that what is mixed is still in the cache when it is multiplied.
        at_once = weight.device.type != "cpu"
        for parts in cached_pieces(groups, shares.shape[1] * rows * dimensions, at_once=at_once):
            mixed = torch.bmm(shares[parts], by_layer[parts].view(-1, layers, rows * dimensions))
            torch.bmm(own[parts].flatten(0, 1), mixed.view(-1, rows, dimensions), out=for_weight[parts].flatten(0, 1))
        if not ctx.needs_input_grad[0]:
            return None, for_shares, for_weight
        for_products = (own.unsqueeze(3) * shares[:, :, None, :, None]).flatten(3).flatten(1, 2)
        for_values = batch_product(for_products.transpose(1, 2), weight.flatten(1, 2).transpose(1, 2))
        return for_values.view(groups, layers, rows, -1).transpose(1, 2), for_shares, for_weight
