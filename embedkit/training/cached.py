"""Train all heads of one cell of the table from a store: search on inner folds, refit, score the test folds."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from threading import Event
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from embedkit.training.features import Features, Standardiser
from embedkit.training.folds import Fold, FoldPlan
from embedkit.training.search import Candidate
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


def count_heads(plan: FoldPlan, candidates: int, seeds: int) -> int:
    """Return how many heads a cell trains."""
    return sum((len(fold.validations) * candidates + fold.refit) * seeds for fold in plan.folds)


def train_cell(
    features: Features,
    targets: NDArray[np.int64],
    plan: FoldPlan,
    recipe: Recipe,
    *,
    grid: Sequence[Candidate],
    seeds: Sequence[int],
    threads: int,
    on_heads: Progress = lambda _: None,
) -> list[FoldResult]:
    """Train one cell: every fold, inner fold, seed and candidate of one head under one loss.

    A candidate and the number of epochs are chosen per fold and seed on validation predictions pooled over the inner
    folds; then the head is trained again on the fold's whole training side. Folds without refit keep the head as
    it was after its best validation epoch.

    Args:
        grid: What is searched; heads of different shapes train in different stacks.
        on_heads: Called with the number of heads just finished, from any thread.
    """
    keep_best = not all(fold.refit for fold in plan.folds)
    run = partial(run_groups, features, targets, keep_best=keep_best, threads=threads, on_heads=on_heads)
    found = _search(plan, recipe, grid, seeds, run)
    choices = {
        (fold.name, seed): _choose(fold, targets, found[fold.name, seed], recipe, keep_best=keep_best)
        for fold in plan.folds
        for seed in seeds
    }
    if keep_best:
        finals = {key: found[key][0][choice.candidate] for key, choice in choices.items()}
    else:
        finals = _refit(plan, recipe, grid, choices, seeds, run)
    return [_score_fold(features, fold, grid, seeds, choices, finals, recipe) for fold in plan.folds]


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


_Key: TypeAlias = tuple[str, int]
_Run: TypeAlias = Callable[[Sequence[Group], Recipe], list[GroupResult]]


@dataclass(frozen=True, kw_only=True)
class _Trained:
    """One head: its weights, its statistics, and what it predicted after every epoch."""

    state: State
    standardiser: Standardiser
    predictions: NDArray[np.int16]


_Candidates: TypeAlias = dict[int, _Trained]


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


def _search(
    plan: FoldPlan, recipe: Recipe, grid: Sequence[Candidate], seeds: Sequence[int], run: _Run
) -> dict[_Key, list[_Candidates]]:
    """Train every candidate on every inner fold: for each fold and seed, the candidates by inner fold."""
    found: dict[_Key, list[_Candidates]] = {
        (fold.name, seed): [{} for _ in fold.validations] for fold in plan.folds for seed in seeds
    }
    for head in dict.fromkeys(candidate.head for candidate in grid):
        numbers = [number for number, candidate in enumerate(grid) if candidate.head == head]
        settings = [(grid[number], recipe.epochs) for number in numbers]
        places, groups = [], []
        for fold in plan.folds:
            for seed in seeds:
                for inner, (train, validate) in enumerate(fold.validations):
                    places.append(found[fold.name, seed][inner])
                    groups.append(_group(train, validate, seed, settings))
        for place, result in zip(places, run(groups, replace(recipe, head=head)), strict=True):
            place.update(zip(numbers, _members(result), strict=True))
    return found


def _members(result: GroupResult) -> list[_Trained]:
    return [
        _Trained(state=state, standardiser=result.standardiser, predictions=predictions)
        for state, predictions in zip(result.states, result.predictions, strict=True)
    ]


def _group(
    train: NDArray[np.int64], validate: NDArray[np.int64], seed: int, settings: Sequence[tuple[Candidate, int]]
) -> Group:
    members = tuple(
        Member(seed=seed, learning_rate=candidate.learning_rate, epochs=epochs, weight_decay=candidate.weight_decay)
        for candidate, epochs in settings
    )
    return Group(train=train, validate=validate, seed=seed, members=members)


def _choose(
    fold: Fold, targets: NDArray[np.int64], trained: Sequence[_Candidates], recipe: Recipe, *, keep_best: bool
) -> Choice:
    validations = [pair[1] for pair in fold.validations]
    predictions = [np.stack([inner[number].predictions for number in range(len(inner))]) for inner in trained]
    recalls = pooled_recalls(targets, validations, predictions, recipe.classes)
    return choose(recalls, smoothing=1) if keep_best else choose(recalls)


def _refit(
    plan: FoldPlan,
    recipe: Recipe,
    grid: Sequence[Candidate],
    choices: Mapping[_Key, Choice],
    seeds: Sequence[int],
    run: _Run,
) -> dict[_Key, _Trained]:
    nothing = np.zeros(0, dtype=np.int64)
    finals: dict[_Key, _Trained] = {}
    for head in dict.fromkeys(grid[choice.candidate].head for choice in choices.values()):
        keys, groups = [], []
        for fold in plan.folds:
            for seed in seeds:
                choice = choices[fold.name, seed]
                if grid[choice.candidate].head == head:
                    keys.append((fold.name, seed))
                    groups.append(_group(fold.train, nothing, seed, [(grid[choice.candidate], choice.epochs)]))
        for key, result in zip(keys, run(groups, replace(recipe, head=head)), strict=True):
            finals[key] = _members(result)[0]
    return finals


def _score_fold(
    features: Features,
    fold: Fold,
    grid: Sequence[Candidate],
    seeds: Sequence[int],
    choices: Mapping[_Key, Choice],
    finals: Mapping[_Key, _Trained],
    recipe: Recipe,
) -> FoldResult:
    states = tuple(finals[fold.name, seed].state for seed in seeds)
    standardiser = finals[fold.name, seeds[0]].standardiser
    own = tuple(choices[fold.name, seed] for seed in seeds)
    heads = [grid[choice.candidate].head for choice in own]
    return FoldResult(
        fold=fold,
        choices=own,
        states=states,
        standardiser=standardiser,
        probabilities=score_heads(features, heads, states, standardiser, fold.test, recipe),
    )


def score_heads(
    features: Features,
    heads: Sequence[str],
    states: Sequence[State],
    standardiser: Standardiser,
    index: NDArray[np.int64],
    recipe: Recipe,
) -> NDArray[np.float64]:
    """Return class probabilities `[heads, n, classes]` of finished heads that may differ in their settings."""
    probabilities = np.empty((len(states), len(index), recipe.classes))
    for head in dict.fromkeys(heads):
        places = [place for place, name in enumerate(heads) if name == head]
        own = [states[place] for place in places]
        probabilities[places] = score_states(features, own, standardiser, index, replace(recipe, head=head))
    return probabilities
