"""Attentive statistics pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from embedkit.heads.attention import frame_energies
from embedkit.heads.base import Head, HeadInputs, HeadShape
from embedkit.heads.frames import attend, even_weights, mix_frames, own_frames, pool, split_frames
from embedkit.heads.layers import LayerMix, StackedClassifier, StackedLinear, draw, drop, require, uniform


class AttentiveHead(Head):
    """Mean and standard deviation over frames under learned attention, then a classifier (Okabe et al. 2018)."""

    level = "frame"
    mixes_kinds = True

    @dataclass(frozen=True, kw_only=True)
    class Options:
        """Settings of the head.

        Attributes:
            hidden: Units of the attention's hidden layer.
            dropout: Share of pooled features zeroed while training.
        """

        hidden: int = 128
        dropout: float = 0.2

        def __post_init__(self) -> None:
            require(
                "attentive",
                {
                    "hidden": (self.hidden, self.hidden >= 1, "at least 1"),
                    "dropout": (self.dropout, 0 <= self.dropout < 1, "a share from 0 to below 1"),
                },
            )

    def __init__(self, shape: HeadShape, options: Options, generators: Sequence[Generator]) -> None:
        super().__init__(shape, options, generators)
        self.mix = LayerMix(shape)
        self.attention = StackedLinear(shape, generators, shape.dimensions, options.hidden)
        self.context = draw(shape, generators, (options.hidden,), uniform(1 / math.sqrt(options.hidden)))
        self.classifier = StackedClassifier(shape, generators, 2 * shape.dimensions)

    def forward(self, inputs: HeadInputs) -> Tensor:
        """Score `[groups, batch, frames, layers, dimensions]`."""
        own = own_frames(inputs)
        frames = mix_frames(self.mix, inputs.values)
        energies = frame_energies(self.attention, self.context, frames.flatten(2, 3))
        mean, deviation = weighted_statistics(frames, attend(split_frames(energies, own.shape[2]), own), own)
        pooled = torch.cat([mean, deviation], -1)
        if self.training:
            pooled = drop(pooled, self.options.dropout, self.generators)
        scores: Tensor = self.classifier(pooled)
        return scores


def weighted_statistics(frames: Tensor, weights: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation `[groups, members, batch, features]` over frames under weights.

    Shape:
        frames: `[groups, members or 1, batch, frames, features]`; weights: `[groups, members, batch, frames]`,
        summing to one; own: bool `[groups, batch, frames]`.
    """
    centre = pool(even_weights(own, frames.dtype).expand(-1, frames.shape[1], -1, -1), frames)
    # Around the plain mean the squares lose no digits, and the members of a group can share them.
    around = (frames - centre.unsqueeze(-2)).masked_fill(~own[:, None, :, :, None], 0.0)
    shift = pool(weights, around)
    variance = pool(weights, around.square()) - shift.square()
    return centre + shift, variance.clamp_min(1e-4).sqrt()
