"""A multilayer perceptron on utterance embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from embedkit.heads.base import LATER, Head, HeadInputs, HeadShape, Pool
from embedkit.heads.layers import LayerMix, StackedClassifier, StackedLinear, drop, require

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu, "tanh": torch.tanh}


class MlpHead(Head):
    """Learned layer weights, hidden layers with dropout, a linear classifier."""

    level = "utterance"
    mixes_kinds = True

    @dataclass(frozen=True, kw_only=True)
    class Options:
        """Settings of the head.

        Attributes:
            hidden: Units of each hidden layer.
            depth: Hidden layers.
            dropout: Share of hidden units zeroed while training.
            activation: "relu", "gelu" or "tanh".
            pool: What it reads: "mean", or "mean+std" for the standard deviation over frames as well.
        """

        hidden: int = 256
        depth: int = 1
        dropout: float = 0.2
        activation: Literal["relu", "gelu", "tanh"] = "relu"
        pool: Pool = field(default="mean", metadata=LATER)

        def __post_init__(self) -> None:
            require(
                "mlp",
                {
                    "hidden": (self.hidden, self.hidden >= 1, "at least 1"),
                    "depth": (self.depth, self.depth >= 1, "at least 1"),
                    "dropout": (self.dropout, 0 <= self.dropout < 1, "a share from 0 to below 1"),
                },
            )

    def __init__(self, shape: HeadShape, options: Options, generators: Sequence[Generator]) -> None:
        super().__init__(shape, options, generators)
        self.mix = LayerMix(shape)
        sizes = [shape.dimensions] + [options.hidden] * options.depth
        self.hidden = nn.ModuleList(
            StackedLinear(shape, generators, inputs, outputs) for inputs, outputs in pairwise(sizes)
        )
        self.classifier = StackedClassifier(shape, generators, options.hidden)

    def forward(self, inputs: HeadInputs) -> Tensor:
        """Score `[groups, batch, layers, dimensions]`."""
        activate = ACTIVATIONS[self.options.activation]
        values: Tensor = self.mix(inputs.values)
        for layer in self.hidden:
            values = activate(layer(values))
            if self.training:
                values = drop(values, self.options.dropout, self.generators)
        scores: Tensor = self.classifier(values)
        return scores
