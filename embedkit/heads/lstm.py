"""The study's recurrent head: an LSTM over frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from embedkit.heads.attention import frame_energies
from embedkit.heads.base import Head, HeadInputs, HeadShape
from embedkit.heads.frames import (
    attend,
    average_runs,
    even_weights,
    mix_frames,
    own_frames,
    own_lengths,
    pool,
    split_frames,
)
from embedkit.heads.layers import LayerMix, StackedClassifier, StackedLinear, draw, drop, require, uniform


class LstmHead(Head):
    """An LSTM (Hochreiter and Schmidhuber 1997) over frames, pooled over each utterance's own frames."""

    level = "frame"

    @dataclass(frozen=True, kw_only=True)
    class Options:
        """Settings of the head.

        Attributes:
            hidden: Units per direction.
            depth: Recurrent layers.
            bidirectional: Also read every utterance from its last own frame back to its first.
            subsampling: Neighbouring frames averaged into one before the first layer: 10 frames of 20 ms make steps of
                200 ms, which cost 2.6 times less than steps of 60 ms.
            pooling: "mean" over own frames, "last" state of each direction, or learned "attention".
            dropout: Share of features zeroed while training, before each further layer and the classifier;
                one draw for all frames of an utterance.
            input_dropout: The same for the input features.
        """

        hidden: int = 64
        depth: int = 1
        bidirectional: bool = True
        subsampling: int = 10
        pooling: Literal["mean", "last", "attention"] = "mean"
        dropout: float = 0.3
        input_dropout: float = 0.2

        def __post_init__(self) -> None:
            require(
                "lstm",
                {
                    "hidden": (self.hidden, self.hidden >= 1, "at least 1"),
                    "depth": (self.depth, self.depth >= 1, "at least 1"),
                    "subsampling": (self.subsampling, self.subsampling >= 1, "at least 1"),
                    "dropout": (self.dropout, 0 <= self.dropout < 1, "a share from 0 to below 1"),
                    "input_dropout": (self.input_dropout, 0 <= self.input_dropout < 1, "a share from 0 to below 1"),
                },
            )

    def __init__(self, shape: HeadShape, options: Options, generators: Sequence[Generator]) -> None:
        super().__init__(shape, options, generators)
        self.mix = LayerMix(shape)
        directions = 2 if options.bidirectional else 1
        outputs = directions * options.hidden
        self.layers = nn.ModuleList(
            nn.ModuleList(
                StackedLstm(shape, generators, outputs if i else shape.dimensions, options.hidden)
                for _ in range(directions)
            )
            for i in range(options.depth)
        )
        if options.pooling == "attention":
            self.attention = StackedLinear(shape, generators, outputs, outputs)
            self.context = draw(shape, generators, (outputs,), uniform(1 / math.sqrt(outputs)))
        self.classifier = StackedClassifier(shape, generators, outputs)

    @classmethod
    def averaged_frames(cls, options: Options) -> int:
        """Return the subsampling."""
        return options.subsampling

    def forward(self, inputs: HeadInputs) -> Tensor:
        """Score `[groups, batch, frames, layers, dimensions]`."""
        inputs = average_runs(inputs, self.options.subsampling)
        frames = self._drop(mix_frames(self.mix, inputs.values), self.options.input_dropout)
        backwards = reversed_positions(own_lengths(inputs), frames.shape[3])
        for i, layer in enumerate(self.layers):
            if i:
                frames = self._drop(frames, self.options.dropout)
            frames = _run_directions(layer, frames, backwards)
        pooled = self._drop(self._pool(frames, inputs), self.options.dropout)
        scores: Tensor = self.classifier(pooled)
        return scores

    def _drop(self, values: Tensor, probability: float) -> Tensor:
        return (
            drop(values, probability, self.generators, shared=(3,) * (values.dim() == 5)) if self.training else values
        )

    def _pool(self, frames: Tensor, inputs: HeadInputs) -> Tensor:
        if self.options.pooling == "last":
            hidden = self.options.hidden
            last = (own_lengths(inputs) - 1)[:, None, :, None, None].expand(-1, frames.shape[1], -1, 1, hidden)
            ends = frames[..., :hidden].gather(3, last).squeeze(3)
            return torch.cat([ends, frames[:, :, :, 0, hidden:]], -1)
        own = own_frames(inputs)
        if self.options.pooling == "mean":
            return pool(even_weights(own, frames.dtype).expand(-1, frames.shape[1], -1, -1), frames)
        energies = frame_energies(self.attention, self.context, frames.flatten(2, 3))
        return pool(attend(split_frames(energies, own.shape[2]), own), frames)


class StackedLstm(nn.Module):
    """One direction of one LSTM layer per head: PyTorch's gates and initialisation, forget-gate bias 1."""

    def __init__(self, shape: HeadShape, generators: Sequence[Generator], inputs: int, hidden: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(hidden)
        self.input_weight = draw(shape, generators, (4 * hidden, inputs), uniform(bound))
        self.hidden_weight = draw(shape, generators, (4 * hidden, hidden), _orthogonal_gates)
        self.bias = draw(shape, generators, (4 * hidden,), uniform(bound))
        with torch.no_grad():
            self.bias[..., hidden : 2 * hidden] = 1.0

    def forward(self, frames: Tensor) -> Tensor:
        """Run every head over `[groups, members or 1, batch, frames, inputs]`, one fused kernel per head."""
        groups, members = self.bias.shape[:2]
        rows = [
            torch.stack([self._run(frames[g, m % frames.shape[1]], g, m) for m in range(members)])
            for g in range(groups)
        ]
        return torch.stack(rows)

    def _run(self, frames: Tensor, group: int, member: int) -> Tensor:
        hidden_weight, bias = self.hidden_weight[group, member], self.bias[group, member]
        parameters = [self.input_weight[group, member], hidden_weight, bias, torch.zeros_like(bias)]
        start = frames.new_zeros(1, frames.shape[0], hidden_weight.shape[1])
        outputs: Tensor = torch.lstm(frames, (start, start), parameters, True, 1, 0.0, self.training, False, True)[0]
        return outputs


def _orthogonal_gates(part: Tensor, generator: Generator) -> None:
    for gate in part.chunk(4):
        nn.init.orthogonal_(gate, generator=generator)


def reversed_positions(lengths: Tensor, frames: int) -> Tensor:
    """Return int64 `[groups, batch, frames]`: where each frame lies once every utterance is read backwards.

    Own frames change places among themselves and padding stays behind them, so that reading backwards starts at the
    last own frame. The map is its own inverse.
    """
    positions = torch.arange(frames, device=lengths.device)
    mirrored = lengths.unsqueeze(-1) - 1 - positions
    return torch.where(mirrored >= 0, mirrored, positions)


def _run_directions(directions: nn.Module, frames: Tensor, backwards: Tensor) -> Tensor:
    outputs = []
    for i, direction in enumerate(directions.children()):
        outputs.append(_rearrange(direction(_rearrange(frames, backwards)), backwards) if i else direction(frames))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)


def _rearrange(frames: Tensor, positions: Tensor) -> Tensor:
    index = positions[:, None, :, :, None].expand(-1, frames.shape[1], -1, -1, frames.shape[-1])
    return frames.gather(3, index)
