"""The matrix products of stacked heads, forwards and backwards laid out for speed.

Autograd's own gradient of a transposed weight is laid out transposed, and copying it back costs as much as all
products of a small head together.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from embedkit.kernels import batch_product, cached_pieces, compiled_loops, flat

LEAST_NORM = 1e-8
"""What the norm of a vector of zeros counts as."""


def multiply(values: Tensor, weight: Tensor) -> Tensor:
    """Multiply `[groups, members or 1, rows, inputs]` by every head's `[outputs, inputs]`, transposed."""
    groups, members, outputs, inputs = weight.shape
    rows = values.shape[2]
    if values.shape[1] == members:
        flat = _product(values.reshape(groups * members, rows, inputs), weight.flatten(0, 1))
        return flat.view(groups, members, rows, outputs)
    shared = _product(values.squeeze(1), weight.flatten(1, 2))
    return shared.view(groups, rows, members, outputs).transpose(1, 2)


def mixed_products(
    values: Tensor, shares: Tensor, weight: Tensor, measured: Tensor, *, compiled: bool
) -> tuple[Tensor, Tensor]:
    """Multiply the mixed layers by every head's weights, and take the norms of some heads' mixed layers.

    By compiled loops, which must be there, for values without gradients in float32 on a CPU; else every layer is
    multiplied first, once for all members of a group: one large product instead of many narrow ones, several times as
    fast though it takes more multiplications.

    Shape:
        values: `[groups, rows, layers, dimensions]`, fastest where they lie layer by layer;
        shares: `[groups, members, layers]`;
        weight: `[groups, members, outputs, dimensions]`;
        measured: which heads' norms are taken, counted group after group, `[n]`.
        Output: `[groups, members, rows, outputs]`, and norms of at least 1e-8, `[n, rows]`.
    """
    loops = compiled_loops() if compiled else None
    if loops is not None:
        found: tuple[Tensor, Tensor] = _CompiledProduct.apply(  # type: ignore[no-untyped-call, unused-ignore]
            values, shares, weight, measured, loops
        )
        return found
    products: Tensor = _MixedProduct.apply(values, shares, weight)  # type: ignore[no-untyped-call, unused-ignore]
    return products, _mixed_norms(values, shares, measured)


def _mixed_norms(values: Tensor, shares: Tensor, measured: Tensor) -> Tensor:
    """Return the norms `[n, rows]` of the mixed layers, from the layers' dot products alone."""
    if not len(measured):
        return values.new_empty(0, values.shape[1])
    grams = torch.stack([torch.bmm(one, one.transpose(1, 2)) for one in values]).flatten(2)
    pairs = (shares.unsqueeze(-1) * shares.unsqueeze(-2)).flatten(-2)
    squares = torch.bmm(pairs, grams.transpose(1, 2)).flatten(0, 1).index_select(0, measured)
    return squares.clamp_min(LEAST_NORM**2).sqrt()


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


class _CompiledProduct(torch.autograd.Function):
    """What `mixed_products` returns, by `embedkit.compiled`."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, shares: Tensor, weight: Tensor, measured: Tensor, loops: ModuleType
    ) -> tuple[Tensor, Tensor]:
        by_layer, shares, weight = values.transpose(1, 2).contiguous(), shares.contiguous(), weight.contiguous()
        groups, members, classes, _ = weight.shape
        rows = values.shape[1]
        flags = torch.zeros(groups * members, dtype=torch.bool)
        flags[measured] = True
        products, norms = torch.empty(groups, members, classes, rows), torch.empty(groups * members, rows)
        ctx.sizes = (*by_layer.shape, members, classes)
        loops.forward(*flat(by_layer, shares, weight, flags, products, norms), *ctx.sizes)
        norms = norms[measured].clamp_min_(LEAST_NORM)
        ctx.save_for_backward(by_layer, shares, weight, flags, measured, norms)
        ctx.loops = loops
        return products.transpose(2, 3), norms

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, for_products: Tensor, for_norms: Tensor) -> tuple[Tensor | None, ...]:
        by_layer, shares, weight, flags, measured, norms = ctx.saved_tensors
        # The least norm is a constant.
        factors = torch.zeros(len(flags), norms.shape[-1])
        factors[measured] = (for_norms / norms).masked_fill_(norms <= LEAST_NORM, 0.0)
        slopes = for_products.transpose(2, 3).contiguous()
        for_shares, for_weight = torch.zeros_like(shares), torch.zeros_like(weight)
        ctx.loops.backward(*flat(by_layer, shares, weight, flags, slopes, factors, for_shares, for_weight), *ctx.sizes)
        return None, for_shares, for_weight, None, None
