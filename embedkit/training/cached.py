"""Train all heads of one cell of the table from a store: search on inner folds, refit, score the test folds."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Event

import numpy as np
import torch
from numpy.typing import NDArray

from embedkit.training.features import Features, Standardiser
from embedkit.training.folds import Fold, FoldPlan
from embedkit.training.selection import Choice, choose, pooled_recalls
from embedkit.training.stack import (
    Group,
    GroupResult,
    Member,
    Recipe,
    State,
    score_states,
    steps_per_epoch,
    train_stack,
)

HEADS_PER_STACK = 36
"""Enough heads to hide the cost of a call behind its work, few enough to stay in the cache."""

Progress = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class FoldResult:
    """The finished heads of one fold, one per seed.

    Attributes:
        fold: The fold.
        choices: What was chosen.
        states: The heads.
        standardiser: Statistics of the training side.
        probabilities: On the test side, `[seeds, utterances, classes]`.
    """

    fold: Fold
    choices: tuple[Choice, ...]
    states: tuple[State, ...]
    standardiser: Standardiser
    probabilities: NDArray[np.float64]


def count_heads(plan: FoldPlan, rates: int, seeds: int) -> int:
    """Return how many heads a cell trains."""
    return sum((len(fold.validations) * rates + fold.refit) * seeds for fold in plan.folds)


def train_cell(
    features: Features,
    targets: NDArray[np.int64],
    plan: FoldPlan,
    recipe: Recipe,
    *,
    learning_rates: Sequence[float],
    seeds: Sequence[int],
    threads: int,
    on_heads: Progress = lambda _: None,
) -> list[FoldResult]:
    """Train one cell: every fold, inner fold, seed and learning rate of one head under one loss.

    Learning rate and number of epochs are chosen per fold and seed on validation predictions pooled over the inner
    folds; then the head is trained again on the fold's whole training side. Folds without refit keep the head as
    it was after its best validation epoch.

    Args:
        on_heads: Called with the number of heads just finished, from any thread.
    """
    searches = [
        (fold, seed, _group(pair[0], pair[1], seed, [(rate, recipe.epochs) for rate in learning_rates]))
        for fold in plan.folds
        for seed in seeds
        for pair in fold.validations
    ]
    keep_best = not all(fold.refit for fold in plan.folds)
    results = run_groups(
        features,
        targets,
        [group for *_, group in searches],
        recipe,
        keep_best=keep_best,
        threads=threads,
        on_heads=on_heads,
    )
    found: dict[tuple[str, int], list[GroupResult]] = {}
    for (fold, seed, _), result in zip(searches, results, strict=True):
        found.setdefault((fold.name, seed), []).append(result)
    choices = {
        (fold.name, seed): _choose(fold, targets, found[fold.name, seed], recipe, keep_best=keep_best)
        for fold in plan.folds
        for seed in seeds
    }
    if keep_best:
        finals = {
            key: (found[key][0].states[choice.candidate], found[key][0].standardiser) for key, choice in choices.items()
        }
    else:
        finals = _refit(features, targets, plan, recipe, choices, learning_rates, seeds, threads, on_heads)
    return [_score_fold(features, fold, seeds, choices, finals, recipe) for fold in plan.folds]


def run_groups(
    features: Features,
    targets: NDArray[np.int64],
    groups: Sequence[Group],
    recipe: Recipe,
    *,
    keep_best: bool,
    threads: int,
    on_heads: Progress,
) -> list[GroupResult]:
    """Train groups in stacks, stacks side by side; the result does not depend on how they are stacked.

    Each thread computes on one core, so that a head comes out the same whatever the number of threads.
    """
    stacks = plan_stacks(groups, recipe.batch_size, level=features.level)
    results: dict[int, GroupResult] = {}
    stop = Event()

    def train(stack: list[int]) -> None:
        chosen = [groups[place] for place in stack]
        for place, result in zip(
            stack,
            train_stack(features, targets, chosen, recipe, keep_best=keep_best, on_epoch=lambda _: _raise_if(stop)),
            strict=True,
        ):
            results[place] = result
        on_heads(sum(len(group.members) for group in chosen))

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
        (steps_per_epoch(group, batch_size), len(group.members), max(member.epochs for member in group.members))
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


def _group(
    train: NDArray[np.int64], validate: NDArray[np.int64], seed: int, settings: Sequence[tuple[float, int]]
) -> Group:
    members = tuple(Member(seed=seed, learning_rate=rate, epochs=epochs) for rate, epochs in settings)
    return Group(train=train, validate=validate, seed=seed, members=members)


def _choose(
    fold: Fold, targets: NDArray[np.int64], results: Sequence[GroupResult], recipe: Recipe, *, keep_best: bool
) -> Choice:
    validations = [pair[1] for pair in fold.validations]
    recalls = pooled_recalls(targets, validations, [result.predictions for result in results], recipe.classes)
    return choose(recalls, smoothing=1) if keep_best else choose(recalls)


def _refit(
    features: Features,
    targets: NDArray[np.int64],
    plan: FoldPlan,
    recipe: Recipe,
    choices: dict[tuple[str, int], Choice],
    learning_rates: Sequence[float],
    seeds: Sequence[int],
    threads: int,
    on_heads: Progress,
) -> dict[tuple[str, int], tuple[State, Standardiser]]:
    nothing = np.zeros(0, dtype=np.int64)
    keys, groups = [], []
    for fold in plan.folds:
        for seed in seeds:
            choice = choices[fold.name, seed]
            keys.append((fold.name, seed))
            groups.append(_group(fold.train, nothing, seed, [(learning_rates[choice.candidate], choice.epochs)]))
    results = run_groups(features, targets, groups, recipe, keep_best=False, threads=threads, on_heads=on_heads)
    return {key: (result.states[0], result.standardiser) for key, result in zip(keys, results, strict=True)}


def _score_fold(
    features: Features,
    fold: Fold,
    seeds: Sequence[int],
    choices: dict[tuple[str, int], Choice],
    finals: dict[tuple[str, int], tuple[State, Standardiser]],
    recipe: Recipe,
) -> FoldResult:
    states = tuple(finals[fold.name, seed][0] for seed in seeds)
    standardiser = finals[fold.name, seeds[0]][1]
    return FoldResult(
        fold=fold,
        choices=tuple(choices[fold.name, seed] for seed in seeds),
        states=states,
        standardiser=standardiser,
        probabilities=score_states(features, states, standardiser, fold.test, recipe),
    )
