"""How many frames a model gives for so many samples: from its own rule, or by trial."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeAlias

import torch

FrameCounter: TypeAlias = Callable[[int], int]

OWN_RULES = ("_get_feat_extract_output_lengths", "_get_subsampling_output_length")
"""What transformers' models call the rule from the length of their input to that of their output."""


def find_own_rule(model: Any, seen: dict[int, int]) -> FrameCounter | None:
    """Return a model's own rule from features to frames if it agrees with what was seen, else None.

    Args:
        model: A transformers model.
        seen: Frames of some passes, by the number of their features.
    """
    if len(seen) == 1:
        [frames] = seen.values()
        return lambda features: frames
    for rule in _rules(model, seen):
        try:
            if all(rule(features) == frames for features, frames in seen.items()):
                return rule
        except (TypeError, ValueError, RuntimeError):
            continue
    return None


def _rules(model: Any, seen: dict[int, int]) -> Iterator[FrameCounter]:
    plain: list[FrameCounter] = [
        int,
        *(partial(_ask, getattr(model, name)) for name in OWN_RULES if hasattr(model, name)),
    ]
    yield from plain
    features, frames = max(seen.items())
    for rule in plain:
        # Layers beyond the first convolutions pool several of their frames into one.
        if (factor := round(rule(features) / max(1, frames))) > 1:
            yield partial(_pooled, rule, factor)


def _ask(method: Callable[[torch.Tensor], Any], features: int) -> int:
    return int(method(torch.tensor(features)))


def _pooled(rule: FrameCounter, factor: int, features: int) -> int:
    return rule(features) // factor
