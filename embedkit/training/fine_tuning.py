"""Train heads and the encoder behind them together: a head, an encoder, a fold at a time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from embedkit.losses.base import Loss
from embedkit.training.cross_validation import FoldResult
from embedkit.training.data.folds import ONE_SPEAKER_GROUP, Fold, FoldPlan
from embedkit.training.data.targets import build_targets
from embedkit.training.live.features import LiveFeatures
from embedkit.training.live.fine_tuner import FineTuner
from embedkit.training.search import Candidate
from embedkit.training.selection import Choice, choose, pooled_scores
from embedkit.training.stacks.batches import count_steps
from embedkit.training.stacks.cache import ResultCache
from embedkit.training.stacks.packing import pack
from embedkit.training.stacks.schedule import OnPart, OnStack
from embedkit.training.stacks.scoring import score_heads
from embedkit.training.stacks.stack import Group, GroupResult, TrainingConfig, train_stack
from embedkit.training.stacks.temperature import find_temperature

BEST_EPOCH = "best epoch kept"

_OUTPUTS = "test/outputs"
"""Where the cache keeps what a head says of its test set."""

SaveEncoder: TypeAlias = Callable[[Fold, int], None]
"""Called with the fold and the seed of a head that is finished, while the encoder is the one that belongs to it."""


def plan_tuning(plan: FoldPlan) -> FoldPlan:
    """Choose epoch and rates on the one development group, and keep what was best there: nothing is trained again."""
    folds = tuple(replace(fold, validations=fold.validations[:1], refit=False) for fold in plan.folds)
    held_out = ONE_SPEAKER_GROUP if any(len(fold.validations) > 1 for fold in plan.folds) else plan.selection
    return replace(plan, folds=folds, selection=f"{held_out.partition(', then refit')[0]}, {BEST_EPOCH}")


def count_tuned(plan: FoldPlan, candidates: int, seeds: int) -> int:
    """Return how many heads, each with an encoder of its own, one loss trains."""
    return len(plan.folds) * candidates * seeds


def tune_loss(
    features: LiveFeatures,
    targets: NDArray[Any],
    plan: FoldPlan,
    config: TrainingConfig,
    loss: Loss,
    *,
    grid: Sequence[Candidate],
    seeds: Sequence[int],
    tuner: FineTuner,
    cache: ResultCache,
    on_stack: OnStack = lambda groups, results: None,
    on_epoch: OnPart = lambda groups, epochs, results: None,
    save_encoder: SaveEncoder | None = None,
) -> list[FoldResult]:
    """Train one head and one encoder for every fold, seed and candidate; keep the best on the development group.

    Args:
        features: Of the tuner's encoder.
        targets: Class index of every utterance, or its ratings, float64 `[utterances, dimensions]`.
        plan: As `plan_tuning` makes it.
        cache: What is finished, and the last checkpoint; the same call goes on from there.
        on_stack: Called with every finished head.
        on_epoch: Called after every epoch of a head.
        save_encoder: Called with what was best for each fold and seed.

    Returns:
        One result per fold.
    """
    features.tuned = tuner
    tuner.load(tuner.initial)
    _ = features.measured
    results = []
    for fold in plan.folds:
        own = []
        for seed in seeds:
            runs = [
                _Run(features, targets, fold, config, loss, grid, number, seed, tuner) for number in range(len(grid))
            ]
            tried = []
            for run in runs:
                tried.append(run.finished(cache) or run.train(cache, on_epoch, keep_encoder=save_encoder is not None))
                on_stack([run.group], [tried[-1].result])
            best = max(tried, key=lambda one: one.choice.score)
            own.append(best)
            if save_encoder is not None:
                chosen = runs[best.choice.candidate]
                for run in runs:
                    if run is not chosen:
                        cache.drop(run.encoder_key)
                if not cache.path(chosen.encoder_key).is_file():
                    # It was finished when nobody wanted its encoder.
                    chosen.train(cache, on_epoch, keep_encoder=True)
                tuner.load(cache.read(chosen.encoder_key))
                tuner.train(False)
                save_encoder(fold, seed)
        results.append(_join(fold, own))
    return results


@dataclass(frozen=True, kw_only=True)
class _Tuned:
    """One finished head: what was chosen for it, what became of it, and what it says of the test set."""

    choice: Choice
    result: GroupResult
    scores: NDArray[np.float64]
    outputs: NDArray[np.float64]


def _join(fold: Fold, own: Sequence[_Tuned]) -> FoldResult:
    return FoldResult(
        fold=fold,
        choices=tuple(one.choice for one in own),
        states=tuple(one.result.states[0] for one in own),
        standardiser=own[0].result.standardiser,
        scale=own[0].result.scale,
        outputs=np.stack([one.outputs for one in own]),
        losses=np.stack([one.result.losses[0] for one in own]),
        dev_scores=np.stack([one.scores for one in own]),
        temperatures=tuple(
            find_temperature(one.result.slopes[0, one.choice.epochs - 1], len(fold.validations[0][1])) for one in own
        ),
    )


class _Run:
    """The training of one head and its encoder."""

    def __init__(
        self,
        features: LiveFeatures,
        targets: NDArray[Any],
        fold: Fold,
        config: TrainingConfig,
        loss: Loss,
        grid: Sequence[Candidate],
        number: int,
        seed: int,
        tuner: FineTuner,
    ) -> None:
        self.features, self.targets, self.fold, self.loss = features, targets, fold, loss
        self.seed, self.tuner = seed, tuner
        self.number, self.candidate = number, grid[number]
        # What folds are called comes from the corpus, and is no file name.
        told = json.dumps([loss.spec, fold.name, seed, number])
        self.key = hashlib.sha256(told.encode()).hexdigest()[:24]
        self.encoder_key = f"{self.key}.encoder"
        self.config = replace(config, head=self.candidate.head)
        self.truth = build_targets(targets, config.classes)
        train, validate = fold.validations[0]
        member = self.candidate.member(loss, seed, config.epochs)
        self.group = Group(train=train, validate=validate, seed=seed, members=(member,))

    def train(self, cache: ResultCache, on_epoch: OnPart, *, keep_encoder: bool) -> _Tuned:
        steps = count_steps(len(self.group.train), self.config.batch_size)
        self.tuner.start(self.seed, self.config.epochs * steps)
        checkpoint = cache.checkpoint(self.key, [self.tuner])
        (result,) = train_stack(
            self.features,
            self.targets,
            [self.group],
            self.config,
            keep_best=True,
            on_epoch=lambda epochs, results: on_epoch([self.group], epochs, results),
            checkpoint=checkpoint,
        )
        self.tuner.load(self.tuner.best)
        outputs = self._score_test(result)
        if keep_encoder:
            cache.add(self.encoder_key, self.tuner.best)
        cache.add(self.key, pack([result], {_OUTPUTS: torch.from_numpy(outputs)}))
        self.tuner.processes.wait()
        checkpoint.clear()
        return self._judge(result, outputs)

    def finished(self, cache: ResultCache) -> _Tuned | None:
        found = cache.find(self.key, [self.group])
        return None if found is None else self._judge(found[0], cache.read(self.key)[_OUTPUTS].numpy())

    def _judge(self, result: GroupResult, outputs: NDArray[np.float64]) -> _Tuned:
        scores = pooled_scores(self.truth, [self.group.validate], [result.predictions])
        choice = replace(choose(scores, smoothing=1), candidate=self.number)
        return _Tuned(choice=choice, result=result, scores=scores[0], outputs=outputs)

    def _score_test(self, result: GroupResult) -> NDArray[np.float64]:
        heads = [self.candidate.head]
        index, standardiser = self.fold.test, result.standardiser
        found: NDArray[np.float64] = score_heads(
            self.features, heads, self.loss, result.states, standardiser, index, self.config, scale=result.scale
        )[0]
        return found
