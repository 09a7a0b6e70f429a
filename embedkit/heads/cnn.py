"""The study's convolutional head: a small VGG-style network over log-mel frames, trained from scratch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from embedkit.heads.base import Head, HeadInputs, HeadShape
from embedkit.heads.frames import mix_frames, own_lengths
from embedkit.heads.layers import LayerMix, StackedClassifier, constant, draw, drop, require, uniform


class CnnHead(Head):
    """Blocks of 3 x 3 convolution, max pooling, normalisation and ReLU; mean and maximum over own frames.

    Blocks follow VGG (Simonyan and Zisserman 2015), but the first one strides instead of pooling: maps of full size
    would cost more than everything after them. Each normalises over an utterance's own frames alone (group
    normalisation with one group, Wu and He 2018), so that nothing depends on what shares the batch. An utterance
    shorter than `2 ** blocks` frames counts as that long, filled up with zeros.
    """

    level = "frame"

    @dataclass(frozen=True, kw_only=True)
    class Options:
        """Settings of the head.

        Attributes:
            channels: Channels of the first block; every further block has twice as many.
            blocks: Blocks; each halves frames and bands.
            dropout: Share of pooled features zeroed while training.
        """

        channels: int = 16
        blocks: int = 4
        dropout: float = 0.3

        def __post_init__(self) -> None:
            require(
                "cnn",
                {
                    "channels": (self.channels, self.channels >= 1, "at least 1"),
                    "blocks": (self.blocks, 1 <= self.blocks <= 8, "1 to 8"),
                    "dropout": (self.dropout, 0 <= self.dropout < 1, "a share from 0 to below 1"),
                },
            )

    def __init__(self, shape: HeadShape, options: Options, generators: Sequence[Generator]) -> None:
        super().__init__(shape, options, generators)
        self.mix = LayerMix(shape)
        channels = [1] + [options.channels * 2**i for i in range(options.blocks)]
        self.blocks = nn.ModuleList(
            StackedBlock(shape, generators, inputs, outputs, strides=inputs == 1)
            for inputs, outputs in pairwise(channels)
        )
        bands = max(shape.dimensions >> options.blocks, 1)
        self.classifier = StackedClassifier(shape, generators, 2 * channels[-1] * bands)

    def forward(self, inputs: HeadInputs) -> Tensor:
        """Score `[groups, batch, frames, layers, bands]`."""
        smallest = 2**self.options.blocks
        frames = mix_frames(self.mix, inputs.values)
        missing = torch.sym_max(0, smallest - frames.shape[3])  # type: ignore[no-untyped-call, unused-ignore]
        frames = F.pad(frames, (0, 0, 0, missing))
        lengths = own_lengths(inputs).clamp_min(smallest)
        pooled = torch.stack(
            [
                self._embed(frames[group, member % frames.shape[1]], lengths[group], group, member)
                for group in range(self.shape.groups)
                for member in range(self.shape.members)
            ]
        ).view(self.shape.groups, self.shape.members, len(lengths[0]), -1)
        if self.training:
            pooled = drop(pooled, self.options.dropout, self.generators)
        scores: Tensor = self.classifier(pooled)
        return scores

    def _embed(self, frames: Tensor, lengths: Tensor, group: int, member: int) -> Tensor:
        maps = frames.unsqueeze(1)
        for block in self.blocks:
            maps, lengths = block(maps, lengths, group, member)
        mean = maps.sum(2) / lengths[:, None, None]
        # Padding holds zeros and the ReLU leaves nothing below them, so that it never is the maximum.
        return torch.cat([mean, maps.amax(2)], 1).flatten(1)


class StackedBlock(nn.Module):
    """One block per head, run for one head at a time: grouped convolutions take twice as long on a CPU."""

    def __init__(
        self, shape: HeadShape, generators: Sequence[Generator], inputs: int, outputs: int, *, strides: bool
    ) -> None:
        super().__init__()
        self.strides = strides
        self.weight = draw(shape, generators, (outputs, inputs, 3, 3), uniform(math.sqrt(6 / (9 * inputs))))
        self.scale = constant(shape, (outputs, 1, 1), 1.0)
        self.bias = constant(shape, (outputs, 1, 1), 0.0)

    def forward(self, maps: Tensor, lengths: Tensor, group: int, member: int) -> tuple[Tensor, Tensor]:
        """Run head `[group, member]` over maps `[batch, channels, frames, bands]` whose padding holds zeros.

        Returns maps and lengths with half the frames; a last odd frame is left out, as where it is the batch's last.
        """
        weight, bands = self.weight[group, member], maps.shape[-1]
        if self.strides:
            halved = F.conv2d(maps, weight, padding=1, stride=(2, min(2, bands)))[..., : max(bands // 2, 1)]
        else:
            # Pooling comes first: normalisation and ReLU then have a quarter of the values to go over.
            halved = F.max_pool2d(F.conv2d(maps, weight, padding=1), (2, min(2, bands)))
        lengths = lengths // 2
        own = torch.arange(halved.shape[2], device=lengths.device) < lengths.unsqueeze(-1)
        own = own[:, None, :, None].to(halved.dtype)
        normal = normalise(halved, own) * self.scale[group, member] + self.bias[group, member]
        return F.relu(normal) * own, lengths


def normalise(maps: Tensor, own: Tensor) -> Tensor:
    """Bring each utterance's own part of `[batch, channels, frames, bands]` to mean 0 and variance 1, padding to 0.

    Shape:
        own: `[batch, 1, frames, 1]`, 1 for own frames and 0 for padding.
    """
    count = own.sum((1, 2, 3), keepdim=True) * (maps.shape[1] * maps.shape[3])
    mean = (maps * own).sum((1, 2, 3), keepdim=True) / count
    around = (maps - mean) * own
    variance = around.square().sum((1, 2, 3), keepdim=True) / count
    return around * (variance + 1e-5).rsqrt()
