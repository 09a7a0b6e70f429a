"""The contract of every head: many heads of one shape, trained together as one stack.

A stack has `groups` x `members` heads. The heads of a group see the same mini-batches; every parameter and buffer
has the two leading dimensions `[groups, members, ...]`, and nothing computed for one head depends on another.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from torch import Generator, Tensor, nn

Classifier: TypeAlias = Literal["affine", "cosine", "probe"]
"""What a head ends in: logits; cosines with one vector per class; or logits of a probe, whose loss does not reach what
it reads, beside the cosines between the utterances of a mini-batch."""


Pool: TypeAlias = Literal["mean", "mean+std"]
"""What a head on utterances reads of their frames: the mean alone, or the standard deviation behind it as well."""

LATER: Mapping[str, bool] = {"later": True}
"""Metadata of a setting that runs of before do not know; at its default it leaves them what they are."""

LAYER_RATE_FACTOR = 5.0


@dataclass(frozen=True, kw_only=True)
class HeadShape:
    """What a head must know of its stack, its input and its classes (or dimensions: one score for each).

    Attributes:
        classifier: What all heads of the stack end in.
        kinds: What each of them ends in, `[groups][members]`, for stacks of affine and cosine heads; else empty.
    """

    groups: int
    members: int
    layers: int
    dimensions: int
    classes: int
    classifier: Classifier = "affine"
    kinds: tuple[tuple[Classifier, ...], ...] = ()


@dataclass(frozen=True, kw_only=True)
class HeadInputs:
    """One mini-batch for each group, already standardised.

    Attributes:
        values: Utterance level `[groups, batch, layers, dimensions]`;
            frame level `[groups, batch, frames, layers, dimensions]`, padding holds zeros.
        lengths: Frame level only: own frames of each utterance, int64 `[groups, batch]`, at least 1.
        run: How many neighbouring frames of the encoder each of these is the average of.
    """

    values: Tensor
    lengths: Tensor | None = None
    run: int = 1

    def to(self, dtype: torch.dtype) -> HeadInputs:
        """Return the same with values of another type."""
        return replace(self, values=self.values.to(dtype))


class Head(nn.Module, ABC):
    """A stack of heads: a trunk, and a classifier that the loss chooses (see `Classifier`).

    Attributes:
        level: Which embeddings it reads. "utterance" heads read means.
        Options: Frozen keyword-only dataclass of its settings, all with defaults; a `pool` says what is read.
        mixes_kinds: Whether affine and cosine heads may share a stack.
        mixes_layers: Whether what it does first is to mix layers and multiply them, for which there are compiled loops.
        compiled: Whether these are used: by stacks in training, on a CPU.
        fitted: Whether it is fitted in one go, under an objective of its own, instead of trained under a loss.
        searched: Values of settings that are searched where nothing is said, written as in a spec: "0.1/1".
    """

    fitted: ClassVar[bool] = False
    searched: ClassVar[Mapping[str, str]] = MappingProxyType({})
    mixes_kinds: ClassVar[bool] = False
    mixes_layers: ClassVar[bool] = False
    compiled = False
    level: ClassVar[Literal["utterance", "frame"]]
    Options: ClassVar[type[Any]]
    shape: HeadShape
    options: Any
    generators: list[Generator]

    @abstractmethod
    def __init__(self, shape: HeadShape, options: Any, generators: Sequence[Generator]) -> None:
        """Draw the initial weights of head `[g, m]` from `generators[g * members + m]` alone.

        The generators are kept: dropout masks are drawn from the same ones, head by head.
        """
        super().__init__()
        self.shape, self.options, self.generators = shape, options, list(generators)

    @classmethod
    def pool(cls, options: Any) -> Pool:
        """Return what a head of these settings reads of an utterance's frames."""
        found: Pool = getattr(options, "pool", "mean")
        return found

    @classmethod
    def averaged_frames(cls, options: Any) -> int:
        """Return how many neighbouring frames a head of these settings averages into one before anything else.

        It may be given frames of which that was done, see `HeadInputs.run`.
        """
        return 1

    def prepare(self, states: Sequence[Sequence[Mapping[str, Tensor]]]) -> Sequence[Sequence[Mapping[str, Tensor]]]:
        """Return the states `[groups][members]` of single heads as this stack takes them; some make room for them."""
        return states

    def rate_factor(self, name: str) -> float:
        """Return what the learning rate is multiplied by for a parameter.

        Weights over layers learn five times as fast as the rest: a few numbers behind a softmax have further to go
        than thousands that add up. The factor was chosen on validation speakers (see docs/protocol.md).
        """
        return LAYER_RATE_FACTOR if name.endswith("layer_weights") else 1.0

    @abstractmethod
    def forward(self, inputs: HeadInputs) -> Tensor:
        """Return scores `[groups, members, batch, classes]`: logits (affine, probe) or cosines in [-1, 1] (cosine).

        While a head that ends in a probe is trained, they are `[groups, members, batch, classes + batch]`: behind its
        logits an utterance has the cosines between its representation and that of every utterance of the batch.
        """
