"""Layers that every stack of heads is made of; all parameters are `[groups, members, ...]`.

Values of heads are `[groups, members, rows, features]`; where all members of a group still share them, the second
dimension is 1 and the products are taken once for the whole group.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor, nn

from embedkit.errors import ConfigError
from embedkit.heads.base import HeadShape
from embedkit.heads.products import multiply

Fill = Callable[[Tensor, Generator], object]


def draw(shape: HeadShape, generators: Sequence[Generator], size: Sequence[int], fill: Fill) -> nn.Parameter:
    """Make a parameter `[groups, members, *size]`, each head's part filled from its own generator."""
    parts = []
    for generator in generators:
        part = torch.empty(*size, device=generator.device)
        fill(part, generator)
        parts.append(part)
    return nn.Parameter(torch.stack(parts).view(shape.groups, shape.members, *size))


def constant(shape: HeadShape, size: Sequence[int], value: float) -> nn.Parameter:
    """Make a parameter `[groups, members, *size]` that starts at one value."""
    return nn.Parameter(torch.full((shape.groups, shape.members, *size), value))


def uniform(bound: float) -> Fill:
    """Fill with uniform numbers from -bound to bound."""
    return lambda part, generator: part.uniform_(-bound, bound, generator=generator)


class LayerMix(nn.Module):
    """Weighted mean of the encoder's layers, weights by a softmax that starts uniform; nothing for one layer."""

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.layer_weights = constant(shape, (shape.layers,), 0.0) if shape.layers > 1 else None

    def shares(self) -> Tensor | None:
        """Return the weights `[groups, members, layers]`, summing to one; None for one layer."""
        return None if self.layer_weights is None else self.layer_weights.softmax(-1)

    def forward(self, values: Tensor) -> Tensor:
        """Mix `[groups, rows, layers, dimensions]` into `[groups, members or 1, rows, dimensions]`."""
        shares = self.shares()
        groups, rows, layers, dimensions = values.shape
        if shares is None:
            return values.permute(0, 2, 1, 3)
        by_layer = values.permute(0, 2, 1, 3).reshape(groups, layers, rows * dimensions)
        return torch.bmm(shares, by_layer).view(groups, -1, rows, dimensions)


class StackedLinear(nn.Module):
    """One affine layer per head, initialised as `torch.nn.Linear`: weights `[groups, members, outputs, inputs]`."""

    def __init__(self, shape: HeadShape, generators: Sequence[Generator], inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = draw(shape, generators, (outputs, inputs), uniform(bound))
        self.bias = draw(shape, generators, (outputs,), uniform(bound))

    def forward(self, values: Tensor) -> Tensor:
        """Map `[groups, members or 1, rows, inputs]` to `[groups, members, rows, outputs]`."""
        return multiply(values, self.weight) + self.bias.unsqueeze(-2)


class StackedClassifier(nn.Module):
    """The last layer of every head: affine, cosines between the representation and one vector per class, or a probe.

    A probe is affine as well, but sends no gradient to the representation; what trains that are the cosines between
    the utterances of a mini-batch, which follow the logits in training. Where a stack mixes affine and cosine heads,
    the latter have a bias that is zero, stays zero and is no part of them.
    """

    cosine_heads: Tensor

    def __init__(self, shape: HeadShape, generators: Sequence[Generator], inputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = draw(shape, generators, (shape.classes, inputs), uniform(bound))
        self.probes = shape.classifier == "probe"
        kinds = [kind for row in shape.kinds for kind in row] or [shape.classifier] * len(generators)
        has_bias = bool(shape.kinds) or shape.classifier != "cosine"
        self.bias = self._draw_bias(shape, generators, kinds, bound) if has_bias else None
        cosine = [place for place, kind in enumerate(kinds) if kind == "cosine"]
        self.register_buffer("cosine_heads", torch.tensor(cosine, dtype=torch.int64), persistent=False)

    @staticmethod
    def _draw_bias(
        shape: HeadShape, generators: Sequence[Generator], kinds: Sequence[str], bound: float
    ) -> nn.Parameter:
        parts = [torch.zeros(shape.classes, device=generator.device) for generator in generators]
        for part, generator, kind in zip(parts, generators, kinds, strict=True):
            if kind != "cosine":
                part.uniform_(-bound, bound, generator=generator)
        return nn.Parameter(torch.stack(parts).view(shape.groups, shape.members, shape.classes))

    def lacks_bias(self, head: int) -> bool:
        """Tell whether the bias of a head, counted group after group, is none of its parameters."""
        return self.bias is not None and head in self.cosine_heads.tolist()

    def forward(self, values: Tensor) -> Tensor:
        """Score `[groups, members or 1, rows, inputs]` as `[groups, members, rows, classes]`.

        A probe in training gives `[groups, members, rows, classes + rows]`.
        """
        products = multiply(values.detach() if self.probes else values, self.weight)
        scores = self.finish(products, self._norms(values))
        if self.probes and self.training:
            return torch.cat([scores, mutual_cosines(values).expand(-1, scores.shape[1], -1, -1)], -1)
        return scores

    def _norms(self, values: Tensor) -> Tensor:
        """Return the norms `[n, rows]` of what the cosine heads read of `[groups, members or 1, rows, inputs]`."""
        members = self.weight.shape[1]
        norms: Tensor
        if values.shape[1] == members:
            norms = torch.linalg.vector_norm(values.flatten(0, 1).index_select(0, self.cosine_heads), dim=-1)
        else:
            shared = torch.linalg.vector_norm(values, dim=-1).expand(-1, members, -1)
            norms = shared.flatten(0, 1).index_select(0, self.cosine_heads)
        return norms

    def finish(self, products: Tensor, norms: Tensor) -> Tensor:
        """Turn dot products `[groups, members, rows, classes]` into scores.

        Args:
            products: Of the representations and every head's weights.
            norms: Of what the cosine heads read, `[n, rows]`.
        """
        if self.bias is None:
            return cosines(products, norms.view(products.shape[:-1]), self.weight.norm(dim=-1))
        logits = products + self.bias.unsqueeze(-2)
        places = self.cosine_heads
        if not len(places):
            return logits
        # Classes before rows, as the products are laid out: so nothing is copied number by number.
        by_class = products.transpose(2, 3)
        dots, weight = (part.flatten(0, 1).index_select(0, places) for part in (by_class, self.weight))
        found = cosines(dots.transpose(1, 2), norms, weight.norm(dim=-1)).transpose(1, 2)
        joined = logits.transpose(2, 3).flatten(0, 1).index_copy(0, places, found)
        return joined.view_as(by_class).transpose(2, 3)


def cosines(products: Tensor, value_norms: Tensor, weight_norms: Tensor) -> Tensor:
    """Turn dot products `[..., rows, classes]` into cosines; a vector of zeros has cosine 0 with everything."""
    norms = value_norms.clamp_min(1e-8).unsqueeze(-1) * weight_norms.clamp_min(1e-8).unsqueeze(-2)
    return (products / norms).clamp(-1.0, 1.0)


def mutual_cosines(values: Tensor) -> Tensor:
    """Return the cosines `[..., rows, rows]` between all rows of `[..., rows, inputs]`; 0 with a row of zeros."""
    directions = values / values.norm(dim=-1, keepdim=True).clamp_min(1e-8)
    return torch.matmul(directions, directions.transpose(-1, -2))


def drop(values: Tensor, probability: float, generators: Sequence[Generator], *, shared: Sequence[int] = ()) -> Tensor:
    """Zero features of `[groups, members or 1, ...]` at random and scale up the others, head by head.

    A forward pass takes one number from each head's generator whatever the batch's size, and the numbers drawn for
    the first rows do not depend on how many rows follow.

    Args:
        probability: Share of zeros.
        generators: One per head, group after group.
        shared: Dimensions along which one draw counts for all (the frames, in recurrent dropout).
    """
    if probability == 0:
        return values
    groups = values.shape[0]
    members = len(generators) // groups
    size = [1 if i + 2 in shared else n for i, n in enumerate(values.shape[2:])]
    keep = torch.stack([_kept(size, probability, generator) for generator in generators])
    keep = keep.view(groups, members, *size).to(values.device, values.dtype)
    return values * keep.div_(1 - probability)


def _kept(size: Sequence[int], probability: float, generator: Generator) -> Tensor:
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    fresh = Generator(generator.device).manual_seed(seed)
    return torch.empty(*size, device=generator.device).bernoulli_(1 - probability, generator=fresh)


def require(head: str, legal: dict[str, tuple[object, bool, str]]) -> None:
    """Check a head's options, given as name: (value, whether it can be used, what was expected).

    Raises:
        ConfigError: the first one that cannot be used.
    """
    for name, (value, holds, expected) in legal.items():
        if not holds:
            raise ConfigError(f"The head {head!r}: {name} is {value!r}, expected {expected}.")
