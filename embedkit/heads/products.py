"""The matrix products of stacked heads, forwards and backwards laid out for speed.

Autograd's own gradient of a transposed weight is laid out transposed, and copying it back costs as much as all
products of a small head together.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from embedkit.kernels import batch_product


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
        values: `[groups, rows, layers, dimensions]`; shares: `[groups, members, layers]`;
        weight: `[groups, members, outputs, dimensions]`. Output: `[groups, members, rows, outputs]`.
    """
    mixed: Tensor = _MixedProduct.apply(values, shares, weight)  # type: ignore[no-untyped-call, unused-ignore]
    return mixed


def mixed_norms(values: Tensor, shares: Tensor) -> Tensor:
    """Return the norms `[groups, members, rows]` of the mixed layers, from the layers' dot products alone."""
    groups, rows, layers, _ = values.shape
    flat = values.flatten(0, 1)
    grams = torch.bmm(flat, flat.transpose(1, 2)).view(groups, rows, layers * layers)
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
        flat = values.reshape(groups, rows * layers, dimensions)
        products = batch_product(weight.reshape(groups, members * outputs, dimensions), flat)
        by_layer = products.view(groups * members, outputs * rows, layers)
        ctx.save_for_backward(flat, shares, weight, by_layer)
        mixed = torch.bmm(by_layer, shares.reshape(groups * members, layers, 1))
        return mixed.view(groups, members, outputs, rows).transpose(2, 3)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        flat, shares, weight, by_layer = ctx.saved_tensors
        groups, members, outputs, _ = weight.shape
        layers = shares.shape[2]
        own = gradient.transpose(2, 3).reshape(groups * members, 1, -1)
        for_shares = torch.bmm(own, by_layer).view_as(shares)
        for_products = own.transpose(1, 2) * shares.reshape(groups * members, 1, layers)
        for_products = for_products.view(groups, members * outputs, -1)
        for_weight = batch_product(for_products, flat.transpose(1, 2)).view_as(weight)
        if not ctx.needs_input_grad[0]:
            return None, for_shares, for_weight
        whole = weight.reshape(groups, members * outputs, -1)
        for_values = batch_product(for_products.transpose(1, 2), whole.transpose(1, 2))
        return for_values.view(groups, -1, layers, weight.shape[3]), for_shares, for_weight
