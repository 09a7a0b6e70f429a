"""SUPERB's emotion head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from embedkit.heads.base import Head, HeadInputs, HeadShape
from embedkit.heads.layers import LayerMix, StackedClassifier, StackedLinear, require
from embedkit.heads.products import mixed_products, multiply


class SuperbHead(Head):
    """Layer weights, a projection, the mean over frames, a linear classifier (Yang et al. 2021).

    Everything up to the mean is linear, so the head is trained exactly from the layers' means.
    """

    level = "utterance"
    mixes_layers = True

    @dataclass(frozen=True, kw_only=True)
    class Options:
        """Settings of the head.

        Attributes:
            hidden: Size of the projection.
        """

        hidden: int = 256

        def __post_init__(self) -> None:
            require("superb", {"hidden": (self.hidden, self.hidden >= 1, "at least 1")})

    def __init__(self, shape: HeadShape, options: Options, generators: Sequence[Generator]) -> None:
        super().__init__(shape, options, generators)
        self.mix = LayerMix(shape)
        self.projection = StackedLinear(shape, generators, shape.dimensions, options.hidden)
        self.classifier = StackedClassifier(shape, generators, options.hidden)

    def forward(self, inputs: HeadInputs) -> Tensor:
        """Score `[groups, batch, layers, dimensions]`."""
        if self.classifier.bias is None or self.classifier.probes:
            scores: Tensor = self.classifier(self.projection(self.mix(inputs.values)))
            return scores
        # Two affine layers in a row are one; with few classes composing them is several times cheaper.
        weight = torch.matmul(self.classifier.weight, self.projection.weight)
        bias = torch.matmul(self.classifier.weight, self.projection.bias.unsqueeze(-1)).squeeze(-1)
        shares = self.mix.shares()
        if shares is None:
            products = multiply(self.mix(inputs.values), weight)
        else:
            products, _ = mixed_products(
                inputs.values, shares, weight, self.classifier.cosine_heads, compiled=self.compiled
            )
        return products + (bias + self.classifier.bias).unsqueeze(-2)
