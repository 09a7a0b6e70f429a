"""The linear head: learned layer weights, then one affine (or cosine) layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Generator, Tensor

from embedkit.heads.base import LATER, Head, HeadInputs, HeadShape, Pool
from embedkit.heads.layers import LayerMix, StackedClassifier
from embedkit.heads.products import mixed_products


class LinearHead(Head):
    """Mean of the layers' vectors under learned weights, then a linear classifier.

    What the classifier reads is that mean: a loss on it (`supcon`) trains the weights of the layers, and nothing where
    there is one layer.
    """

    level = "utterance"
    mixes_layers = True
    mixes_kinds = True

    @dataclass(frozen=True, kw_only=True)
    class Options:
        """Settings of the head.

        Attributes:
            pool: What it reads: "mean", or "mean+std" for the standard deviation over frames as well.
        """

        pool: Pool = field(default="mean", metadata=LATER)

    def __init__(self, shape: HeadShape, options: Options, generators: Sequence[Generator]) -> None:
        super().__init__(shape, options, generators)
        self.mix = LayerMix(shape)
        self.classifier = StackedClassifier(shape, generators, shape.dimensions)

    def forward(self, inputs: HeadInputs) -> Tensor:
        """Score `[groups, batch, layers, dimensions]`."""
        shares = self.mix.shares()
        if shares is None or self.classifier.probes:
            scores: Tensor = self.classifier(self.mix(inputs.values))
            return scores
        found = mixed_products(
            inputs.values, shares, self.classifier.weight, self.classifier.cosine_heads, compiled=self.compiled
        )
        return self.classifier.finish(*found)
