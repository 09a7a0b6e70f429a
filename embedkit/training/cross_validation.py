"""Train all heads of a row of the table from a store: search on inner folds, refit, score the test folds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from embedkit.heads import ResolvedHead
from embedkit.losses.base import Loss
from embedkit.training.data.features import Features, Standardiser
from embedkit.training.data.folds import Fold, FoldPlan
from embedkit.training.data.targets import Scale, Targets, build_targets
from embedkit.training.search import Candidate, Edge, find_edges
from embedkit.training.selection import SMOOTHING, Choice, choose, pooled_scores, smooth_scores
from embedkit.training.stacks.cache import ResultCache
from embedkit.training.stacks.fitting import fit_groups
from embedkit.training.stacks.mixed_loss import kind_in_stack
from embedkit.training.stacks.schedule import OnPart, OnStack, run_groups
from embedkit.training.stacks.scoring import score_heads
from embedkit.training.stacks.stack import Group, GroupResult, State, TrainingConfig
from embedkit.training.stacks.temperature import find_temperature


@dataclass(frozen=True, kw_only=True)
class FoldResult:
    """The finished heads of one fold under one loss, one per seed.

    Attributes:
        fold: The fold.
        choices: What was chosen.
        states: The heads.
        standardiser: Statistics of the training set.
        scale: By what ratings were standardised; None for classes.
        outputs: On the test set, `[seeds, utterances, outputs]`: class probabilities, or ratings in their own unit.
        losses: What was chosen in its search, `[seeds, epochs]`: mean training loss over the inner folds; or empty.
        dev_scores: The same by UA, or mean CCC, of the predictions of the inner folds together; or empty.
        edges: The choices that lie at an end of what was searched, for each seed; or none.
        temperatures: Of the heads' probabilities, from the predictions of the inner folds together.
    """

    fold: Fold
    choices: tuple[Choice, ...]
    states: tuple[State, ...]
    standardiser: Standardiser
    scale: Scale | None
    outputs: NDArray[np.float64]
    losses: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    dev_scores: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    edges: tuple[tuple[Edge, ...], ...] = ()
    temperatures: tuple[float, ...] = ()


def repeat_seeds(results: Sequence[FoldResult], seeds: int) -> list[FoldResult]:
    """Take heads that no seed changes for those of every seed; they have no curves."""
    nothing = np.empty((0, 0))
    return [
        replace(
            result,
            choices=result.choices * seeds,
            states=result.states * seeds,
            outputs=np.repeat(result.outputs, seeds, axis=0),
            edges=result.edges * seeds,
            temperatures=result.temperatures * seeds,
            losses=nothing,
            dev_scores=nothing,
        )
        for result in results
    ]


def count_heads(plan: FoldPlan, candidates: int, seeds: int) -> int:
    """Return how many heads one loss trains."""
    return sum((len(fold.validations) * candidates + fold.refit) * seeds for fold in plan.folds)


def train_losses(
    features: Features,
    targets: NDArray[Any],
    plan: FoldPlan,
    config: TrainingConfig,
    losses: Sequence[Loss],
    *,
    grid: Sequence[Candidate],
    seeds: Sequence[int],
    threads: int,
    on_stack: OnStack = lambda groups, results: None,
    on_epoch: OnPart = lambda groups, epochs, results: None,
    cache: ResultCache | None = None,
) -> dict[str, list[FoldResult]]:
    """Train one head under several losses together: every fold, inner fold, seed and candidate.

    A candidate and the number of epochs are chosen per loss, fold and seed on validation predictions pooled over the
    inner folds; then the head is trained again on the fold's whole training set. Folds without refit keep the head
    as it was after its best validation epoch. What comes out for a loss does not depend on the others.

    Args:
        targets: Class index of every utterance, or its ratings, float64 `[utterances, dimensions]`.
        losses: The losses.
        grid: What is searched; heads of different shapes train in different stacks.
        seeds: Of initial weights, dropout and the order of mini-batches.
        threads: Stacks trained side by side.
        on_stack: Called after every stack.
        on_epoch: Called after every epoch of a stack in which an encoder ran.
        cache: Where finished stacks are kept.

    Returns:
        For each loss, by its spec, the results fold by fold.
    """
    keep_best = not all(fold.refit for fold in plan.folds)
    run: _Run = partial(
        run_groups,
        features,
        targets,
        keep_best=keep_best,
        threads=threads,
        on_stack=on_stack,
        on_epoch=on_epoch,
        cache=cache,
    )
    if config.head.cls.fitted:
        run = partial(fit_groups, features, targets, threads=threads, on_stack=on_stack)
    cells = [(loss.spec, fold, seed) for loss in losses for fold in plan.folds for seed in seeds]
    truth = build_targets(targets, config.classes)
    found = _search(plan, config, losses, grid, seeds, run)
    searched = {
        (loss, fold.name, seed): _choose(
            fold, truth, grid, found[loss, fold.name, seed], keep_best=keep_best, halving=config.halving
        )
        for loss, fold, seed in cells
    }
    choices = {key: choice for key, (choice, _) in searched.items()}
    if keep_best:
        finals = {key: found[key][0][choice.candidate] for key, choice in choices.items()}
    else:
        finals = _refit(plan, config, losses, grid, choices, seeds, run)
    return {
        loss.spec: [_score_fold(features, fold, loss, grid, seeds, searched, finals, config) for fold in plan.folds]
        for loss in losses
    }


def test_again(
    features: Features,
    result: FoldResult,
    fold: Fold,
    loss: Loss,
    grid: Sequence[Candidate],
    config: TrainingConfig,
) -> FoldResult:
    """Score the finished heads of a fold on the test set of another one with the same training set.

    Args:
        features: The embeddings that the other fold indexes.
        result: The heads.
        fold: The other fold.
        loss, grid, config: How they were trained.
    """
    standardiser = features.moments(fold.train)
    heads = [grid[choice.candidate].head for choice in result.choices]
    outputs = score_heads(features, heads, loss, result.states, standardiser, fold.test, config, scale=result.scale)
    return replace(result, fold=fold, standardiser=standardiser, outputs=outputs)


_Key: TypeAlias = tuple[str, str, int]
"""Loss, fold and seed."""

_Run: TypeAlias = Callable[[Sequence[Group], TrainingConfig], list[GroupResult]]


@dataclass(frozen=True, kw_only=True)
class _Trained:
    """One head: its weights, the statistics of its training set; loss, predictions and slopes epoch by epoch."""

    state: State
    standardiser: Standardiser
    scale: Scale | None
    losses: NDArray[np.float64]
    predictions: NDArray[Any]
    slopes: NDArray[np.float64]


_Candidates: TypeAlias = dict[int, _Trained]


def _search(
    plan: FoldPlan,
    config: TrainingConfig,
    losses: Sequence[Loss],
    grid: Sequence[Candidate],
    seeds: Sequence[int],
    run: _Run,
) -> dict[_Key, list[_Candidates]]:
    """Train every candidate on every inner fold: for each loss, fold and seed, the candidates by inner fold."""
    found: dict[_Key, list[_Candidates]] = {
        (loss.spec, fold.name, seed): [{} for _ in fold.validations]
        for loss in losses
        for fold in plan.folds
        for seed in seeds
    }
    for head, together in _shapes(grid, losses):
        wanted = [(loss, number) for loss in together for number, one in enumerate(grid) if one.head == head]
        places, groups = [], []
        for number, fold in enumerate(plan.folds):
            for seed in seeds:
                trial = number * len(seeds) + seeds.index(seed)
                for inner, (train, validate) in enumerate(fold.validations):
                    places.append([found[loss.spec, fold.name, seed][inner] for loss, _ in wanted])
                    members = tuple(grid[one].member(loss, seed, config.epochs) for loss, one in wanted)
                    groups.append(Group(train=train, validate=validate, seed=seed, members=members, trial=trial))
        for own, result in zip(places, run(groups, replace(config, head=head)), strict=True):
            for place, (_, number), trained in zip(own, wanted, _members(result), strict=True):
                place[number] = trained
    return found


def _shapes(grid: Sequence[Candidate], losses: Sequence[Loss]) -> list[tuple[ResolvedHead, list[Loss]]]:
    """Return which losses share a stack, for every shape of head."""
    found = []
    for head in dict.fromkeys(one.head for one in grid):
        together: dict[str, list[Loss]] = {}
        for loss in losses:
            together.setdefault(kind_in_stack(head, loss), []).append(loss)
        found += [(head, own) for own in together.values()]
    return found


def _members(result: GroupResult) -> list[_Trained]:
    return [
        _Trained(
            state=state,
            standardiser=result.standardiser,
            scale=result.scale,
            **{name: getattr(result, name)[member] for name in ("losses", "predictions", "slopes")},
        )
        for member, state in enumerate(result.states)
    ]


@dataclass(frozen=True)
class _Curve:
    """What was chosen in its search, `[epochs]`: mean training loss, and score of the pooled validation sets.

    Its temperature is that of the epoch chosen.
    """

    losses: NDArray[np.float64]
    dev_scores: NDArray[np.float64]
    edges: tuple[Edge, ...]
    temperature: float


def _choose(
    fold: Fold,
    targets: Targets,
    grid: Sequence[Candidate],
    trained: Sequence[_Candidates],
    *,
    keep_best: bool,
    halving: bool,
) -> tuple[Choice, _Curve]:
    validations = [pair[1] for pair in fold.validations]
    predictions = [np.stack([inner[number].predictions for number in range(len(inner))]) for inner in trained]
    scores = pooled_scores(targets, validations, predictions)
    smoothing = 1 if keep_best else SMOOTHING
    choice = choose(np.where(_stopped(trained)[:, None], -np.inf, scores) if halving else scores, smoothing=smoothing)
    edges = find_edges(grid, smooth_scores(scores, smoothing).max(axis=1).tolist(), choice.candidate)
    losses = np.mean([_hold_last(inner[choice.candidate].losses) for inner in trained], axis=0)
    slopes = np.sum([inner[choice.candidate].slopes[choice.epochs - 1] for inner in trained], axis=0)
    temperature = find_temperature(slopes, sum(map(len, validations)))
    return choice, _Curve(losses, scores[choice.candidate], edges, temperature)


def _stopped(trained: Sequence[_Candidates]) -> NDArray[np.bool_]:
    """Tell which candidates a search by halves stopped before the others, in every inner fold, `[candidates]`."""
    last = [[np.count_nonzero(~np.isnan(one.losses)) for _, one in sorted(inner.items())] for inner in trained]
    return np.asarray(np.max(last, axis=0) < np.max(last))


def _hold_last(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """Carry the loss of the last epoch on where a head stopped early, as its predictions are."""
    trained = np.flatnonzero(~np.isnan(losses))
    return losses[np.minimum(np.arange(len(losses)), trained[-1])] if len(trained) else losses


def _refit(
    plan: FoldPlan,
    config: TrainingConfig,
    losses: Sequence[Loss],
    grid: Sequence[Candidate],
    choices: Mapping[_Key, Choice],
    seeds: Sequence[int],
    run: _Run,
) -> dict[_Key, _Trained]:
    """Train what was chosen on the whole training sets; losses whose choices have one shape share a group."""
    nothing = np.zeros(0, dtype=np.int64)
    finals: dict[_Key, _Trained] = {}
    for head, together in _shapes(grid, losses):
        keys, groups = [], []
        for fold in plan.folds:
            for seed in seeds:
                chosen = [(loss, choices[loss.spec, fold.name, seed]) for loss in together]
                chosen = [(loss, one) for loss, one in chosen if grid[one.candidate].head == head]
                if chosen:
                    members = [grid[one.candidate].member(loss, seed, one.epochs) for loss, one in chosen]
                    keys.append([(loss.spec, fold.name, seed) for loss, _ in chosen])
                    groups.append(Group(train=fold.train, validate=nothing, seed=seed, members=tuple(members)))
        if groups:
            for own, result in zip(keys, run(groups, replace(config, head=head)), strict=True):
                finals.update(zip(own, _members(result), strict=True))
    return finals


def _score_fold(
    features: Features,
    fold: Fold,
    loss: Loss,
    grid: Sequence[Candidate],
    seeds: Sequence[int],
    searched: Mapping[_Key, tuple[Choice, _Curve]],
    finals: Mapping[_Key, _Trained],
    config: TrainingConfig,
) -> FoldResult:
    states = tuple(finals[loss.spec, fold.name, seed].state for seed in seeds)
    one = finals[loss.spec, fold.name, seeds[0]]
    own, curves = zip(*(searched[loss.spec, fold.name, seed] for seed in seeds), strict=True)
    heads = [grid[choice.candidate].head for choice in own]
    # A head that reads means alone knows less than others of the grid read.
    whole = one.standardiser.mean.shape[-1] == features.dimensions
    standardiser = one.standardiser if whole else features.moments(fold.train)
    return FoldResult(
        fold=fold,
        choices=own,
        states=states,
        standardiser=standardiser,
        scale=one.scale,
        outputs=score_heads(features, heads, loss, states, standardiser, fold.test, config, scale=one.scale),
        losses=np.stack([curve.losses for curve in curves]),
        dev_scores=np.stack([curve.dev_scores for curve in curves]),
        edges=tuple(curve.edges for curve in curves),
        temperatures=tuple(curve.temperature for curve in curves),
    )
