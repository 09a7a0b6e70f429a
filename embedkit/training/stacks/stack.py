"""Train many heads of one shape together, each exactly as if it were alone.

What makes that true: a head draws its weights, its dropout and its order of mini-batches from its own seeds; every
mini-batch is filled up to one size with rows that do not count; groups of a stack take the same number of steps; and
loss, gradient, clipping, learning rate and stop of a head are its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from embedkit import kernels
from embedkit.devices import place_of_float64, to_float64
from embedkit.encoders.precision import true_fp32
from embedkit.heads import ResolvedHead
from embedkit.heads.base import Classifier, Head, HeadShape
from embedkit.heads.stack import restack, slice_state
from embedkit.losses.base import Loss
from embedkit.received import parse_json
from embedkit.training.data.features import Features, Standardiser
from embedkit.training.data.folds import Indices
from embedkit.training.data.targets import ClassTargets, Scale, Targets, build_targets
from embedkit.training.stacks.batches import count_steps, epoch_batches
from embedkit.training.stacks.checkpoint import Checkpoint
from embedkit.training.stacks.initial import InitialHead
from embedkit.training.stacks.mixed_loss import MixedLoss
from embedkit.training.stacks.optimizer import StackedAdam
from embedkit.training.stacks.temperature import KEPT, likelihood_slopes

State = dict[str, Tensor]

RESULT_ARRAYS = ("losses", "dev_scores", "predictions", "slopes")
"""What results hold of every epoch."""

WORTH_RESTACKING = 0.75
"""A stack is made smaller once its heads still learning fit into this share of it."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How heads are trained; the same for all heads of a stack.

    Attributes:
        head: The head with its settings.
        classes: Number of classes (and of ratings learned beside them), or of dimensions.
        epochs: The budget; the learning rate falls over all of it.
        batch_size: Most utterances in a mini-batch.
        patience: A head stops after so many epochs without a better validation score; None to use the whole budget.
        clip: Largest norm of a head's gradient; None for no limit.
        halving: Whether the worse candidates of a search stop after a third of the epochs.
        initial: What all heads begin with, reading embeddings as they are; None to draw them and to standardise.
    """

    head: ResolvedHead
    classes: int
    epochs: int = 30
    batch_size: int = 32
    patience: int | None = None
    clip: float | None = None
    halving: bool = False
    initial: InitialHead | None = None


@dataclass(frozen=True, kw_only=True)
class Member:
    """One head: its loss, seed, learning rate and weight decay, and after how many epochs of the budget it stops."""

    loss: Loss
    seed: int
    learning_rate: float
    epochs: int
    weight_decay: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Group:
    """Heads that share a training set and the order of its mini-batches.

    Attributes:
        train: Utterances trained on.
        validate: Utterances scored after every epoch; may be empty.
        seed: Seeds the order.
        members: The heads.
        trial: A number that groups have in common whose predictions are scored together; those of a refit have none.
    """

    train: Indices
    validate: Indices
    seed: int
    members: tuple[Member, ...]
    trial: int | None = None


@dataclass(kw_only=True)
class GroupResult:
    """What became of the heads of one group, in the order of its members.

    Attributes:
        losses: Mean training loss `[members, epochs]`, NaN after a head has stopped.
        dev_scores: UA, or mean CCC, on `validate` `[members, epochs]`, NaN after a head has stopped.
        predictions: On `validate`: classes `[members, epochs, utterances]`, or ratings `[..., dimensions]`; after a
            head has stopped for want of progress those of its last epoch, after the end of its epochs -1 or NaN.
        slopes: What finds a temperature from `validate` (see `likelihood_slopes`), `[members, epochs, KEPT]`,
            held as predictions are; NaN for ratings.
        states: The head at its stop, or at its best validation epoch where `keep_best`.
        standardiser: Statistics of the training set.
        scale: By what its ratings were standardised; None for classes.
    """

    losses: NDArray[np.float64]
    dev_scores: NDArray[np.float64]
    predictions: NDArray[Any]
    slopes: NDArray[np.float64]
    states: list[State]
    standardiser: Standardiser = field(repr=False)
    scale: Scale | None = None


@true_fp32()
def train_stack(
    features: Features,
    targets: NDArray[Any],
    groups: Sequence[Group],
    config: TrainingConfig,
    *,
    keep_best: bool = False,
    on_epoch: Callable[[int, Sequence[GroupResult]], None] = lambda epochs, results: None,
    checkpoint: Checkpoint | None = None,
    dtype: torch.dtype = torch.float32,
) -> list[GroupResult]:
    """Train every head of every group.

    Args:
        features: The embeddings.
        targets: Class index of every utterance, or its ratings, float64 `[utterances, dimensions]`; or both,
            `[utterances, 1 + ratings]`; or classes and shares of annotators, `[utterances, 1 + classes]`.
        groups: Same number of members and of steps an epoch in each; losses whose heads may share a stack.
        config: Head and budget.
        keep_best: Keep each head as it was after its best validation epoch (the first of equals).
        on_epoch: Called after every epoch with the number of epochs done and the results so far.
        checkpoint: Where the training is kept after epochs, for features that are encoded anew in each; to be
            cleared once the results are kept.
        dtype: What heads compute in.

    Returns:
        One result per group, in order.
    """
    stack = Stack(features, build_targets(targets, config.classes), groups, config, keep_best=keep_best, dtype=dtype)
    epoch = 0 if checkpoint is None else checkpoint.restore(stack)
    while stack.learning.any():
        stack.run_epoch(epoch)
        epoch += 1
        if checkpoint is not None:
            checkpoint.save(stack, epoch)
        on_epoch(epoch, stack.results)
    return stack.results


def learning_rate_factor(progress: float) -> float:
    """Let the learning rate fall linearly to a tenth over the budget of epochs."""
    return 1.0 - 0.9 * progress


def features_for(config: TrainingConfig, features: Features) -> Features:
    """Return the features as a head reads them, with what it does first done once for all epochs."""
    head = config.head
    return features.pooled(head.cls.pool(head.options)).averaged(head.cls.averaged_frames(head.options))


def build_head(
    config: TrainingConfig, seeds: Sequence[Sequence[int]], features: Features, kinds: Sequence[Sequence[Classifier]]
) -> Head:
    """Build the untrained stack, one head per seed and kind of classifier, `[groups][members]`."""
    shape = HeadShape(
        groups=len(seeds),
        members=len(seeds[0]),
        layers=features.layers,
        dimensions=features.dimensions,
        classes=config.classes,
        classifier=kinds[0][0],
        kinds=tuple(map(tuple, kinds)) if len({kind for row in kinds for kind in row}) > 1 else (),
    )
    generators = [Generator().manual_seed(seed) for row in seeds for seed in row]
    return config.head.cls(shape, config.head.options, generators).to(features.device)


@torch.no_grad()
@true_fp32()
def score_utterances(
    features: Features, head: Head, standardiser: Standardiser, index: Indices, *, rows: int = 128
) -> Tensor:
    """Score utterances `[groups, n]` without training: `[groups, members, n, classes]` on the CPU."""
    head.eval()
    features.train(False)
    order = np.argsort(features.durations[index[0]], kind="stable") if features.durations is not None else None
    arranged = index if order is None else index[:, order]
    dtype = next(head.parameters()).dtype
    parts = [
        head(features.gather(arranged[:, start : start + rows], standardiser).to(dtype)).cpu()
        for start in range(0, arranged.shape[1], rows)
    ]
    scores = torch.cat(parts, dim=2)
    return scores if order is None else scores[:, :, np.argsort(order, kind="stable")]


class Stack:
    """Heads in training. `places[g][m]` names the head now at (g, m) by its group and member at the start."""

    def __init__(
        self,
        features: Features,
        targets: Targets,
        groups: Sequence[Group],
        config: TrainingConfig,
        *,
        keep_best: bool,
        dtype: torch.dtype,
    ) -> None:
        self.features, self.targets, self.config, self.keep_best = features, targets, config, keep_best
        self.groups = list(groups)
        self.standardiser, parts = _standardise(features, groups, plain=config.initial is not None)
        self.orders = [np.random.default_rng([group.seed, len(group.train)]) for group in groups]
        self.scales = [targets.scale(group.train) for group in groups]
        self.results = [
            _empty_result(group, config, targets, part, scale)
            for group, part, scale in zip(groups, parts, self.scales, strict=True)
        ]
        self.places = [[(g, m) for m in range(len(group.members))] for g, group in enumerate(groups)]
        self.learning = np.array([[member.epochs > 0 for member in group.members] for group in groups])
        self.best = np.full(self.learning.shape, -np.inf)
        self.since = np.zeros(self.learning.shape, dtype=np.int64)
        self.dtype = dtype
        self.loss = self._make_loss()
        seeds = [[member.seed for member in row] for row in self.members]
        self.head = build_head(config, seeds, features, self.loss.kinds).to(dtype)
        self.head.compiled = self._worth_compiling()
        if config.initial is not None:
            config.initial.fill(self.head, targets, [group.train for group in groups])
        self.optimizer = self._make_optimiser()

    @property
    def members(self) -> list[list[Member]]:
        """The heads now in the stack; those of a group are listed under the group they came from."""
        return [[group.members[m] for _, m in row] for group, row in zip(self.groups, self.places, strict=True)]

    def run_epoch(self, epoch: int) -> None:
        """Train, validate, and let heads finish."""
        self.train_epoch(epoch)
        self.validate(epoch)
        self.finish_heads(epoch)

    def snapshot(self) -> dict[str, Any]:
        """Return all that a stack that was never made smaller goes on from, as tensors and plain values."""
        return {
            "head": self.head.state_dict(),
            "generators": [generator.get_state() for generator in self.head.generators],
            "moments": [self.optimizer.first, self.optimizer.second],
            "steps": self.optimizer.steps,
            "orders": [json.dumps(order.bit_generator.state) for order in self.orders],
            "progress": {name: torch.from_numpy(getattr(self, name)) for name in ("learning", "best", "since")},
            "results": [
                {name: torch.from_numpy(getattr(result, name)) for name in RESULT_ARRAYS} for result in self.results
            ],
            "states": [result.states for result in self.results],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `snapshot` gave into a stack that was made alike."""
        self.head.load_state_dict(state["head"])
        for generator, kept in zip(self.head.generators, state["generators"], strict=True):
            generator.set_state(kept)
        self.optimizer.steps = state["steps"]
        for own, kept in zip((self.optimizer.first, self.optimizer.second), state["moments"], strict=True):
            for moments, values in zip(own, kept, strict=True):
                moments.copy_(values)
        for order, kept in zip(self.orders, state["orders"], strict=True):
            order.bit_generator.state = parse_json(kept)
        for name, values in state["progress"].items():
            setattr(self, name, values.numpy())
        for result, arrays, states in zip(self.results, state["results"], state["states"], strict=True):
            for name, values in arrays.items():
                getattr(result, name)[...] = values.numpy()
            result.states[:] = states

    def train_epoch(self, epoch: int) -> None:
        """Pass over every training set once."""
        self.head.train()
        self.features.train(True)
        device = self.features.device
        progress = epoch / self.config.epochs
        total = torch.zeros(self.learning.shape, dtype=torch.float64, device=place_of_float64(device))
        sides = [group.train for group in self.groups]
        for index, mask in epoch_batches(sides, self.orders, self.config.batch_size, self.features.durations):
            total += to_float64(self.train_batch(index, mask, progress))
        means = total.cpu().numpy() / count_steps(len(sides[0]), self.config.batch_size)
        for g, m in np.argwhere(self.learning):
            group, member = self.places[g][m]
            self.results[group].losses[member, epoch] = means[g, m]

    def train_batch(self, index: Indices, mask: NDArray[np.bool_], progress: float) -> Tensor:
        """Learn from one mini-batch of each group and return the losses, `[groups, members]`.

        Args:
            index: Utterances, `[groups, rows]`.
            mask: Which of them count.
            progress: Share of the training that is over.
        """
        device = self.features.device
        scores = self.head(self.features.gather(index, self.standardiser).to(self.dtype))
        wanted = self.targets.gather(index, self.scales, self.dtype).to(device)
        values: Tensor = self.loss(scores, wanted, torch.from_numpy(mask).to(device), progress)
        values.sum().backward()  # type: ignore[no-untyped-call]
        self.optimizer.step(learning_rate_factor(progress), clip=self.config.clip)
        self.features.step()
        return values.detach()

    def validate(self, epoch: int) -> None:
        """Score every validation set with the heads that learn."""
        longest = max(len(group.validate) for group in self.groups)
        if not longest:
            return
        # Filled up with utterances that the group may read, as mini-batches are.
        index = np.repeat([[group.train[0]] for group in self.groups], longest, axis=1)
        for g, group in enumerate(self.groups):
            index[g, : len(group.validate)] = group.validate
        scores = score_utterances(self.features, self.head, self.standardiser, index)
        slopes = self._slopes(scores, index)
        for g, group in enumerate(self.groups):
            own = self.targets.predict(scores[g][:, : len(group.validate)], self.scales[g])
            found = self.targets.score(group.validate, own)
            for m in np.flatnonzero(self.learning[g]):
                origin, member = self.places[g][m]
                self.results[origin].dev_scores[member, epoch] = found[m]
                self.results[origin].predictions[member, epoch] = own[m]
                if slopes is not None:
                    self.results[origin].slopes[member, epoch] = slopes[g, m, : len(group.validate)].sum(0)

    def _slopes(self, scores: Tensor, index: Indices) -> NDArray[np.float64] | None:
        """Return the slopes of every utterance, `[groups, members, utterances, KEPT]`; None for ratings."""
        if not isinstance(self.targets, ClassTargets):
            return None
        truth = torch.from_numpy(self.targets.values[index]).unsqueeze(1)
        return likelihood_slopes(self.loss.probabilities(scores), truth).double().numpy()

    def finish_heads(self, epoch: int) -> None:
        """Keep the heads that end here, or are the best so far, and drop from the stack what no longer learns."""
        for g, m in np.argwhere(self.learning):
            group, member = self.places[g][m]
            result = self.results[group]
            better = result.dev_scores[member, epoch] > self.best[g, m]
            self.since[g, m] = 0 if better else self.since[g, m] + 1
            if better:
                self.best[g, m] = result.dev_scores[member, epoch]
            ends = self.groups[g].members[member].epochs == epoch + 1
            # Without a validation set, as in a refit, there is no progress to wait for.
            waits = self.config.patience is not None and len(self.groups[g].validate) > 0
            tired = waits and self.since[g, m] >= self.config.patience
            if (self.keep_best and better) or (not self.keep_best and (ends or tired)):
                result.states[member] = slice_state(self.head, g, m)
                self.features.keep()
            if tired:
                for kept in (result.predictions, result.slopes):
                    kept[member, epoch + 1 :] = kept[member, epoch]
            if ends or tired:
                self.learning[g, m] = False
        self._shrink()

    def drop(self, heads: Collection[tuple[int, int]], epochs: int) -> None:
        """Stop heads, named by their group and member at the start, after so many epochs."""
        for g, m in np.argwhere(self.learning):
            group, member = self.places[g][m]
            if (group, member) in heads:
                self.learning[g, m] = False
                for kept in (self.results[group].predictions, self.results[group].slopes):
                    kept[member, epochs:] = kept[member, epochs - 1]
        self._shrink()

    def _shrink(self) -> None:
        """Go on in a smaller stack where enough heads have finished.

        Groups keep equal numbers of heads: one with fewer heads still learning carries finished ones along. Beside an
        encoder that runs in every epoch a head costs nothing, and a checkpoint wants the stack as it was made.
        """
        if self.features.live:
            return
        alive = self.learning.sum(1)
        rows = np.flatnonzero(alive)
        if not len(rows) or len(rows) * alive.max() > WORTH_RESTACKING * self.learning.size:
            return
        kept = [np.sort(np.argsort(~self.learning[g], kind="stable")[: alive.max()]) for g in rows]
        self.head = restack(self.head, [[(int(g), int(m)) for m in row] for g, row in zip(rows, kept, strict=True)])
        chosen = (rows[:, None], np.stack(kept))
        previous = self.optimizer
        self.groups, self.orders = [self.groups[g] for g in rows], [self.orders[g] for g in rows]
        self.scales = [self.scales[g] for g in rows]
        self.places = [[self.places[g][m] for m in row] for g, row in zip(rows, kept, strict=True)]
        self.learning, self.best, self.since = self.learning[chosen], self.best[chosen], self.since[chosen]
        self.standardiser = self.standardiser.take(rows)
        self.optimizer = self._make_optimiser()
        self.optimizer.go_on(previous, *chosen)
        self.loss = self._make_loss()

    def _worth_compiling(self) -> bool:
        """Tell whether compiled loops are used: however heads are stacked, for their roundings differ from torch's."""
        features = self.features
        fits = features.device.type == "cpu" and self.dtype == torch.float32 and not features.live
        mixes = self.config.head.cls.mixes_layers and features.layers > 1
        large = features.layers * features.dimensions >= kernels.WORTH_COMPILING
        return fits and mixes and large and kernels.compiled_loops() is not None

    def _make_optimiser(self) -> StackedAdam:
        rates, decays = (
            torch.tensor([[getattr(member, name) for member in row] for row in self.members], dtype=torch.float64)
            for name in ("learning_rate", "weight_decay")
        )
        names, parameters = zip(*self.head.named_parameters(), strict=True)
        factors = [self.head.rate_factor(name) for name in names]
        return StackedAdam(parameters, rates, weight_decay=decays, factors=factors, compiled=self.head.compiled)

    def _make_loss(self) -> MixedLoss:
        losses = [[member.loss for member in row] for row in self.members]
        counts = np.stack([self.targets.count_classes(group.train) for group in self.groups])
        return MixedLoss(losses, counts, self.features.device, self.dtype, self.targets.choose)


def _standardise(
    features: Features, groups: Sequence[Group], *, plain: bool
) -> tuple[Standardiser, list[Standardiser]]:
    known: dict[bytes, Standardiser] = {}
    parts = []
    for group in groups:
        key = group.train.tobytes()
        if key not in known:
            found = features.moments(group.train)
            known[key] = Standardiser.identity(found) if plain else found
        parts.append(known[key])
    return Standardiser.stack(parts, features.device), parts


def _empty_result(
    group: Group, config: TrainingConfig, targets: Targets, standardiser: Standardiser, scale: Scale | None
) -> GroupResult:
    shape = (len(group.members), config.epochs)
    return GroupResult(
        losses=np.full(shape, np.nan),
        dev_scores=np.full(shape, np.nan),
        predictions=targets.reserve(*shape, len(group.validate)),
        slopes=np.full((*shape, KEPT), np.nan),
        states=[{} for _ in group.members],
        standardiser=standardiser,
        scale=scale,
    )
