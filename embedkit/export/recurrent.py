"""Recurrent layers as ONNX's own operator: `torch.export` would write one step after the other, for one length."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from embedkit.heads.lstm import StackedLstm


class OnnxLstm(nn.Module):
    """One direction of one LSTM layer for every head of a stack; runs nowhere but in an exported graph."""

    def __init__(self, layer: StackedLstm) -> None:
        super().__init__()
        groups, members, gates, _ = layer.input_weight.shape
        self.groups, self.members, self.hidden = groups, members, gates // 4
        for name, values in (("inputs", layer.input_weight), ("states", layer.hidden_weight), ("bias", layer.bias)):
            self.register_buffer(name, _reorder(values.detach()))

    def forward(self, frames: Tensor) -> Tensor:
        """Run `[groups, members or 1, batch, frames, inputs]`."""
        rows = [
            torch.stack([self._run(frames[g, m % frames.shape[1]], g, m) for m in range(self.members)])
            for g in range(self.groups)
        ]
        return torch.stack(rows)

    def _run(self, frames: Tensor, group: int, member: int) -> Tensor:
        inputs, states, bias = (getattr(self, name)[group, member] for name in ("inputs", "states", "bias"))
        operators: Any = torch.onnx.ops
        outputs: Tensor = operators.symbolic(
            "LSTM",
            (frames.transpose(0, 1), inputs[None], states[None], torch.cat([bias, torch.zeros_like(bias)])[None]),
            {"hidden_size": self.hidden},
            dtype=frames.dtype,
            shape=(frames.shape[1], 1, frames.shape[0], self.hidden),
        )
        return outputs[:, 0].transpose(0, 1)


def use_onnx_lstm(module: nn.Module) -> None:
    """Replace every LSTM layer inside a module."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, StackedLstm):
                setattr(parent, name, OnnxLstm(child))


def _reorder(gates: Tensor) -> Tensor:
    """Bring PyTorch's order of the gates (input, forget, cell, output) to ONNX's (input, output, forget, cell)."""
    given, forget, cell, output = gates.chunk(4, dim=2)
    return torch.cat([given, output, forget, cell], dim=2)
