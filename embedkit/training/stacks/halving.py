"""Search with fewer candidates after a third of the epochs: the better half goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embedkit.encoders.precision import true_fp32
from embedkit.training.data.features import Features
from embedkit.training.data.targets import Targets, build_targets
from embedkit.training.selection import pooled_scores, smooth_scores
from embedkit.training.stacks.stack import Group, GroupResult, Stack, TrainingConfig

FEWEST = 5
"""Candidates that are worth halving: of four, the best two lack what the whole search would have chosen too often
(benchmarks/README.md)."""


@true_fp32()
def train_halving(
    features: Features,
    targets: NDArray[Any],
    groups: Sequence[Group],
    plan: Sequence[Sequence[int]],
    config: TrainingConfig,
    *,
    keep_best: bool,
) -> list[GroupResult]:
    """Train groups as `train_stack` does; after a third of the epochs the worse candidates of every trial stop.

    Of the candidates under one loss the better half, rounded up, goes on: those with the higher score of the pooled
    validation sets, averaged over the last epochs so far. Those that stop keep the predictions that they ended with.

    Args:
        targets: Class index of every utterance, or its ratings, float64 `[utterances, dimensions]`.
        groups: All groups of each trial among them.
        plan: Which groups share a stack.
    """
    truth = build_targets(targets, config.classes)
    stacks = [
        Stack(features, truth, [groups[place] for place in part], config, keep_best=keep_best, dtype=torch.float32)
        for part in plan
    ]
    found = {
        place: result
        for part, own in zip(plan, stacks, strict=True)
        for place, result in zip(part, own.results, strict=True)
    }
    first = max(1, config.epochs // 3)
    for stack in stacks:
        for epoch in range(first):
            stack.run_epoch(epoch)
    worse = {head for trial in _trials(groups) for head in _find_worse(truth, groups, trial, found, first)}
    for part, stack in zip(plan, stacks, strict=True):
        stack.drop({(part.index(place), member) for place, member in worse if place in part}, first)
        for epoch in range(first, config.epochs):
            if stack.learning.any():
                stack.run_epoch(epoch)
    return [found[place] for place in range(len(groups))]


def _trials(groups: Sequence[Group]) -> list[list[int]]:
    trials: dict[int | None, list[int]] = {}
    for place, group in enumerate(groups):
        trials.setdefault(group.trial, []).append(place)
    return list(trials.values())


def _find_worse(
    truth: Targets, groups: Sequence[Group], trial: Sequence[int], found: dict[int, GroupResult], epochs: int
) -> list[tuple[int, int]]:
    """Name the heads that stop, by the places of their groups and of theirs among the members."""
    members = groups[trial[0]].members
    worse = []
    for loss in dict.fromkeys(member.loss.spec for member in members):
        own = [place for place, member in enumerate(members) if member.loss.spec == loss]
        predictions = [found[place].predictions[own, :epochs] for place in trial]
        scores = pooled_scores(truth, [groups[place].validate for place in trial], predictions)
        order = np.argsort(-smooth_scores(scores)[:, -1], kind="stable")
        kept = -(-len(own) // 2) if len(own) >= FEWEST else len(own)
        worse += [(place, own[one]) for one in order[kept:] for place in trial]
    return worse
