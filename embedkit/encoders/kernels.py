"""Linear layers of frozen encoders, and convolutions that are such, by oneDNN, weights kept in its blocked order."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from embedkit.kernels import has_onednn

SMALLEST_WIDTH = 32


class PackedLinear(nn.Module):
    """A frozen linear layer whose weight lies in oneDNN's order.

    Args:
        weight: `[out_features, in_features]`.
        bias: `[out_features]`.

    Shape: Input `[..., in_features]`, output `[..., out_features]`.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), None)
        self.bias: Tensor | None = None if bias is None else bias.detach()

    def forward(self, values: Tensor) -> Tensor:
        """Return `values @ weight.T + bias`: `[..., outputs]` for `[..., inputs]`."""
        result: Tensor = torch.ops.mkldnn._linear_pointwise(values, self.packed, self.bias, "none", [], "")
        return result


class PackedPointwise(nn.Module):
    """A frozen convolution of width 1 over time, which is a linear layer of every frame.

    Shape: Input `[batch, channels, frames]`, output `[batch, channels, frames]`.
    """

    def __init__(self, convolution: nn.Conv1d) -> None:
        super().__init__()
        self.linear = PackedLinear(convolution.weight.flatten(1), convolution.bias)

    def forward(self, values: Tensor) -> Tensor:
        """Map `[batch, channels, frames]` to outputs of this form, frames apart in memory by their channels."""
        frames: Tensor = self.linear(values.transpose(1, 2).contiguous())
        return frames.transpose(1, 2)


@contextmanager
def watching_products(module: nn.Module) -> Iterator[set[nn.Module]]:
    """Collect the layers inside a module that can be packed and are called meanwhile, not just read for weights."""
    called: set[nn.Module] = set()
    hooks = [
        one.register_forward_hook(lambda layer, *_: called.add(layer)) for one in module.modules() if _packed_as(one)
    ]
    try:
        yield called
    finally:
        for hook in hooks:
            hook.remove()


def pack_linears(module: nn.Module, chosen: Container[nn.Module] | None = None) -> str:
    """Replace every linear layer inside a frozen CPU module, or chosen ones; return the name of the kernels in use."""
    if not has_onednn():
        return "torch"
    for parent in module.modules():
        for name, child in parent.named_children():
            packed = _packed_as(child)
            if packed is not None and (chosen is None or child in chosen):
                setattr(parent, name, packed(child))
    return "onednn"


def pack_product(weight: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    """Return a frozen linear map on the CPU: `[..., inputs]` to `[..., outputs]` by a weight `[outputs, inputs]`."""
    if has_onednn() and min(weight.shape) >= SMALLEST_WIDTH:
        return PackedLinear(weight, bias)
    return partial(linear, weight=weight, bias=bias)


def _packed_as(layer: Any) -> Callable[[Any], nn.Module] | None:
    """Return what packs a layer; None where it is of another kind, or too narrow to gain."""
    if type(layer) is nn.Linear and min(layer.weight.shape) >= SMALLEST_WIDTH:
        return lambda linear: PackedLinear(linear.weight, linear.bias)
    plain = {"kernel_size": (1,), "stride": (1,), "padding": (0,), "groups": 1}
    if type(layer) is nn.Conv1d and all(getattr(layer, name) == value for name, value in plain.items()):
        return PackedPointwise if min(layer.in_channels, layer.out_channels) >= SMALLEST_WIDTH else None
    return None
