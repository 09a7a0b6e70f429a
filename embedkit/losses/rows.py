"""What every loss does with its rows: leave out the masked ones, weight the others, take their mean."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class WeightedOptions:
    """Settings that every loss has.

    Attributes:
        weights: "balanced" asks the trainer for class weights inversely proportional to the classes' counts in
            the training data, mean 1 over its utterances; "none" for none.
    """

    weights: Literal["none", "balanced"] = "none"


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Scores and targets in which masked rows hold zeros, and what each row counts.

    Attributes:
        scores: `[..., batch, classes]`, at least float32.
        targets: int64 `[..., batch]`, with the scores' leading dimensions.
        counts: `[..., batch]`: 1 for a row that counts, 0 for a masked one; None where all rows count.
        weights: `[..., batch]`: `counts` times the class weight of the row; None where all rows weigh 1.
    """

    scores: Tensor
    targets: Tensor
    counts: Tensor | None
    weights: Tensor | None


def prepare_rows(scores: Tensor, targets: Tensor, mask: Tensor | None, class_weights: Tensor | None) -> Rows:
    """Bring a loss's arguments to `[..., batch, classes]`; masked rows may hold NaN and illegal targets."""
    scores, counts = mask_scores(scores, mask)
    if mask is not None:
        targets = targets.masked_fill(~mask, 0)
    targets = targets.expand(scores.shape[:-1])
    weights = counts
    if class_weights is not None:
        per_class = class_weights.to(scores.dtype).expand(*scores.shape[:-2], scores.shape[-1])
        weights = per_class.gather(-1, targets)
        weights = weights if counts is None else weights * counts
    return Rows(scores=scores, targets=targets, counts=counts, weights=weights)


def mask_scores(scores: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return scores `[..., batch, classes]`, zero in masked rows, and what each row counts, None where all do."""
    if scores.dtype in (torch.float16, torch.bfloat16):
        scores = scores.float()
    if mask is None:
        return scores, None
    return scores.masked_fill(~mask.unsqueeze(-1), 0.0), mask.to(scores.dtype).expand(scores.shape[:-1])


def mean_over_rows(values: Tensor, weights: Tensor | None) -> Tensor:
    """Return the weighted mean of `[..., batch]` over its last dimension; zero where nothing weighs anything."""
    if weights is None:
        return values.sum(-1) / max(values.shape[-1], 1)
    return safe_ratio((values * weights).sum(-1), weights.sum(-1))


def safe_ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Divide finite `[...]` by `[...]`; zero where the denominator, never negative, is zero."""
    return numerator / denominator.masked_fill(denominator == 0, math.inf)


def balance(counts: Tensor) -> Tensor:
    """Return weights `[..., classes]` inversely proportional to the counts, with mean 1 over the utterances."""
    counts = counts.double()
    return counts.sum(-1, keepdim=True) / (counts.clamp_min(1) * (counts > 0).sum(-1, keepdim=True))


def target_log_probabilities(logits: Tensor, targets: Tensor) -> Tensor:
    """Return `[..., batch]`: the log of the softmax probability of each row's true class."""
    return log_softmax(logits).gather(-1, targets.unsqueeze(-1)).squeeze(-1)


def log_softmax(scores: Tensor) -> Tensor:
    """Return the logarithms of the softmax over the classes, `[..., batch, classes]`.

    Computed along the batch, of which there is more than of classes: so CPUs fill their vectors.
    """
    return scores.transpose(-1, -2).log_softmax(-2).transpose(-1, -2)


def softmax(scores: Tensor) -> Tensor:
    """Return the softmax over the classes, `[..., batch, classes]`, computed as `log_softmax` is."""
    return scores.transpose(-1, -2).softmax(-2).transpose(-1, -2)
