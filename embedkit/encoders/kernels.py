"""Linear layers of frozen encoders by oneDNN, weights kept in its blocked order."""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from embedkit.kernels import has_onednn

SMALLEST_WIDTH = 32


class PackedLinear(nn.Module):
    """A frozen linear layer whose weight lies in oneDNN's order.

    Shape: Input `[..., in_features]`, output `[..., out_features]`.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None)
        self.bias: Tensor | None = None if linear.bias is None else linear.bias.detach()

    def forward(self, values: Tensor) -> Tensor:
        """Return `values @ weight.T + bias`: `[..., outputs]` for `[..., inputs]`."""
        result: Tensor = torch.ops.mkldnn._linear_pointwise(values, self.packed, self.bias, "none", [], "")
        return result


@contextmanager
def watching_linears(module: nn.Module) -> Iterator[set[nn.Module]]:
    """Collect the linear layers inside a module that are called meanwhile, and not only read for their weights."""
    called: set[nn.Module] = set()
    linears = [one for one in module.modules() if type(one) is nn.Linear]
    hooks = [one.register_forward_hook(lambda layer, *_: called.add(layer)) for one in linears]
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
            if type(child) is not nn.Linear or (chosen is not None and child not in chosen):
                continue
            if min(child.weight.shape) >= SMALLEST_WIDTH:
                setattr(parent, name, PackedLinear(child))
    return "onednn"
