"""The linear head: learned layer weights, then one affine (or cosine) layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from embedkit.heads.base import Head, HeadInputs, HeadShape
from embedkit.heads.layers import LayerMix, StackedClassifier, cosines


class LinearHead(Head):
    """Mean of the layers' vectors under learned weights, then a linear classifier.

    What the classifier reads is that mean: a loss on it (`supcon`) trains the weights of the layers, and nothing where
    there is one layer.
    """

    level = "utterance"

    @dataclass(frozen=True, kw_only=True)
    class Options:
        """The head has no settings."""

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
        products = mixed_products(inputs.values, shares, self.classifier.weight)
        if self.classifier.bias is not None:
            return products + self.classifier.bias.unsqueeze(-2)
        return cosines(products, mixed_norms(inputs.values, shares), self.classifier.weight.norm(dim=-1))


def mixed_products(values: Tensor, shares: Tensor, weight: Tensor) -> Tensor:
    """Multiply the mixed layers by every head's weights, without mixing the layers head by head.

    Every layer is multiplied first, once for all members of a group: one large product instead of many narrow ones,
    twice as fast though it takes more multiplications.

    Shape:
        values: `[groups, rows, layers, dimensions]`; shares: `[groups, members, layers]`;
        weight: `[groups, members, outputs, dimensions]`. Output: `[groups, members, rows, outputs]`.
    """
    groups, rows, layers, dimensions = values.shape
    members, outputs = weight.shape[1:3]
    by_layer = values.permute(0, 2, 1, 3).reshape(groups, layers * rows, dimensions)
    products = torch.bmm(weight.flatten(1, 2), by_layer.transpose(1, 2))
    products = products.view(groups, members, outputs, layers, rows)
    return (products * shares[:, :, None, :, None]).sum(3).transpose(2, 3)


def mixed_norms(values: Tensor, shares: Tensor) -> Tensor:
    """Return the norms `[groups, members, rows]` of the mixed layers, from the layers' dot products alone."""
    groups, rows, layers, _ = values.shape
    flat = values.flatten(0, 1)
    grams = torch.bmm(flat, flat.transpose(1, 2)).view(groups, rows, layers * layers)
    pairs = (shares.unsqueeze(-1) * shares.unsqueeze(-2)).flatten(-2)
    return torch.bmm(pairs, grams.transpose(1, 2)).clamp_min(1e-16).sqrt()
