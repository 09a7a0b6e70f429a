"""Which heads train together, and several stacks side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from embedkit.errors import RunError
from embedkit.training.data.features import Features
from embedkit.training.stacks.batches import count_steps
from embedkit.training.stacks.cache import ResultCache
from embedkit.training.stacks.checkpoint import Checkpoint
from embedkit.training.stacks.halving import train_halving
from embedkit.training.stacks.packing import pack, unpack
from embedkit.training.stacks.stack import Group, GroupResult, TrainingConfig, features_for, train_stack
from embedkit.training.stacks.workers import work_side_by_side

MOST_HEADS, FEWEST_HEADS = 240, 60
"""In one stack: enough to hide the cost of a call behind its work, few enough for the caches."""

TRIED_STACKS = 3
"""Whose heads wait for each other while a search goes on by halves."""

OnStack: TypeAlias = Callable[[Sequence[Group], Sequence[GroupResult]], None]
"""Called with the groups of a finished stack and their results."""

OnPart: TypeAlias = Callable[[Sequence[Group], int, Sequence[GroupResult]], None]
"""Called with the groups of a stack, its epochs done, and their results so far."""


def run_groups(
    features: Features,
    targets: NDArray[Any],
    groups: Sequence[Group],
    config: TrainingConfig,
    *,
    keep_best: bool,
    threads: int,
    on_stack: OnStack = lambda groups, results: None,
    on_epoch: OnPart = lambda groups, epochs, results: None,
    cache: ResultCache | None = None,
) -> list[GroupResult]:
    """Train groups in stacks, stacks side by side; the result does not depend on how they are stacked.

    Each stack computes on one core, so that a head comes out the same whatever the number of threads.

    Args:
        targets: Class index of every utterance, or its ratings, float64 `[utterances, dimensions]`.
        threads: Stacks trained at once, on a CPU.
        on_epoch: Called after every epoch of a stack in which an encoder ran.
        cache: Keeps every finished stack until the run is written, so that one that was stopped goes on there.
    """
    features = features_for(config, features)
    halved = config.halving and all(group.trial is not None for group in groups)
    plan = (plan_trials if halved else plan_stacks)(groups, config, features.level, threads)
    stacks = [[groups[place] for place in stack] for stack in plan]
    keys = [cache.stack_key(stack, config, keep_best=keep_best) if cache else "" for stack in stacks]
    known = [cache and cache.find(key, stack) for key, stack in zip(keys, stacks, strict=True)]
    parent = os.getpid()

    def checkpoint_of(place: int) -> Checkpoint | None:
        return cache.checkpoint(keys[place]) if features.live and cache else None

    def train(place: int) -> bytes:
        def after_epoch(epochs: int, found: Sequence[GroupResult]) -> None:
            _stop_without(parent)
            if features.live:
                on_epoch(stacks[place], epochs, found)

        own = stacks[place]
        if halved:
            parts = plan_stacks(own, config, features.level, 1)
            return pack(train_halving(features, targets, own, parts, config, keep_best=keep_best))
        return pack(
            train_stack(
                features,
                targets,
                stacks[place],
                config,
                keep_best=keep_best,
                on_epoch=after_epoch,
                checkpoint=checkpoint_of(place),
            )
        )

    results: dict[int, GroupResult] = {}

    def keep(place: int, found: Sequence[GroupResult]) -> None:
        results.update(zip(plan[place], found, strict=True))
        on_stack(stacks[place], found)

    for place, found in enumerate(known):
        if found:
            keep(place, found)
    missing = [place for place, found in enumerate(known) if not found]
    workers = 1 if features.live or features.device.type != "cpu" else threads
    for place, packed in work_side_by_side(train, missing, workers):
        found = unpack(packed, stacks[place])
        if cache:
            # The cache only saves time: a full disk is told where the run itself is written.
            with suppress(RunError):
                cache.add(keys[place], packed)
        if (checkpoint := checkpoint_of(place)) is not None:
            checkpoint.clear()
        keep(place, found)
    return [results[place] for place in range(len(groups))]


def plan_trials(groups: Sequence[Group], config: TrainingConfig, level: str, threads: int) -> list[list[int]]:
    """Put trials together that train on one core, in stacks of groups that take the same number of steps.

    So they are more heads than one stack holds.
    """
    most = TRIED_STACKS * _most_heads(groups, TRIED_STACKS * threads)
    parts: list[list[int]] = []
    for trial in dict.fromkeys(group.trial for group in groups):
        own = [place for place, group in enumerate(groups) if group.trial == trial]
        if parts and level == "utterance" and _count([groups[place] for place in parts[-1] + own]) <= most:
            parts[-1] += own
        else:
            parts.append(own)
    return parts


def _count(groups: Sequence[Group]) -> int:
    return sum(len(group.members) for group in groups)


def _most_heads(groups: Sequence[Group], threads: int) -> int:
    return min(max(-(-_count(groups) // threads), FEWEST_HEADS), MOST_HEADS)


def plan_stacks(groups: Sequence[Group], config: TrainingConfig, level: str, threads: int) -> list[list[int]]:
    """Put groups together that take the same number of steps, similar numbers of epochs side by side.

    Stacks are as large as pays, as long as every thread gets one. Groups that read frames stay alone: their
    mini-batches are padded to different lengths.
    """
    steps = [count_steps(len(group.train), config.batch_size) for group in groups]
    epochs = [max(member.epochs for member in group.members) for group in groups]
    keys = [(step, len(group.members), last) for step, group, last in zip(steps, groups, epochs, strict=True)]
    order = sorted(range(len(groups)), key=lambda place: (keys[place], place))
    if level != "utterance":
        return [[place] for place in order]
    most = _most_heads(groups, threads)
    stacks: list[list[int]] = []
    for (_, members), found in groupby(order, key=lambda place: keys[place][:2]):
        own = list(found)
        parts = -(-len(own) // max(1, most // members))
        # As many for every thread where they stay large enough: none then waits for another's last stack.
        even = -(-parts // threads) * threads
        if even <= len(own) and len(own) * members >= even * FEWEST_HEADS:
            parts = even
        stacks += [part.tolist() for part in np.array_split(own, parts)]
    return stacks


def _stop_without(parent: int) -> None:
    """End a process whose parent was killed: nobody waits for its heads."""
    if parent not in (os.getpid(), os.getppid()):
        os._exit(1)
