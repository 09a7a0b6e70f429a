"""Which heads train together, and several stacks side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from threading import Event
from typing import Any, TypeAlias

import torch
from numpy.typing import NDArray

from embedkit.training.batches import count_steps
from embedkit.training.features import Features
from embedkit.training.journal import Journal
from embedkit.training.stack import Group, GroupResult, Recipe, train_stack

HEADS_PER_STACK = 36
"""Enough heads to hide the cost of a call behind its work, few enough to stay in the cache."""

OnStack: TypeAlias = Callable[[Sequence[Group], Sequence[GroupResult]], None]
"""Called with the groups of a finished stack and their results, from any thread."""


def run_groups(
    features: Features,
    targets: NDArray[Any],
    groups: Sequence[Group],
    recipe: Recipe,
    *,
    keep_best: bool,
    threads: int,
    on_stack: OnStack = lambda groups, results: None,
    journal: Journal | None = None,
) -> list[GroupResult]:
    """Train groups in stacks, stacks side by side; the result does not depend on how they are stacked.

    Each thread computes on one core, so that a head comes out the same whatever the number of threads.

    Args:
        journal: Keeps every finished stack until the run is written, so that one that was stopped goes on there.
    """
    stacks = plan_stacks(groups, recipe.batch_size, level=features.level)
    results: dict[int, GroupResult] = {}
    stop = Event()

    def train(stack: list[int]) -> None:
        chosen = [groups[place] for place in stack]
        found = journal.find(chosen, recipe, keep_best=keep_best) if journal else None
        if found is None:
            found = train_stack(
                features, targets, chosen, recipe, keep_best=keep_best, on_epoch=lambda _: _raise_if(stop)
            )
            if journal:
                journal.add(chosen, recipe, found, keep_best=keep_best)
        results.update(zip(stack, found, strict=True))
        on_stack(chosen, found)

    workers = 1 if features.device.type == "cuda" else min(threads, len(stacks))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            futures = [pool.submit(train, stack) for stack in stacks]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
            _raise_first(futures)
    finally:
        torch.set_num_threads(before)
    return [results[place] for place in range(len(groups))]


def plan_stacks(groups: Sequence[Group], batch_size: int, *, level: str) -> list[list[int]]:
    """Put groups together that take the same number of steps, similar numbers of epochs side by side.

    Groups that read frames stay alone: their mini-batches are padded to different lengths.
    """
    keys = [
        (count_steps(len(group.train), batch_size), len(group.members), max(member.epochs for member in group.members))
        for group in groups
    ]
    order = sorted(range(len(groups)), key=lambda place: (keys[place], place))
    stacks: list[list[int]] = []
    for place in order:
        last = stacks[-1] if stacks else []
        together = level == "utterance" and last and keys[last[0]][:2] == keys[place][:2]
        if together and (len(last) + 1) * len(groups[place].members) <= HEADS_PER_STACK:
            last.append(place)
        else:
            stacks.append([place])
    return stacks


def default_threads() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _StoppedError(Exception):
    """Another stack failed or the user interrupted the run."""


def _raise_if(stop: Event) -> None:
    if stop.is_set():
        raise _StoppedError


def _raise_first(futures: Sequence[Future[None]]) -> None:
    errors = [future.exception() for future in futures if not future.cancelled()]
    for error in errors:
        if error is not None and not isinstance(error, _StoppedError):
            raise error
