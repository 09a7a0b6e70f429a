"""Train many heads of one shape together, each exactly as if it were alone.

What makes that true: a head draws its weights, its dropout and its order of mini-batches from its own seeds; every
mini-batch is filled up to one size with rows that do not count; groups of a stack take the same number of steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from embedkit.evaluation.metrics import recall_scores
from embedkit.heads import resolve_head
from embedkit.heads.base import Head, HeadShape
from embedkit.heads.stack import load_states, slice_state
from embedkit.losses import build_loss
from embedkit.losses.base import Loss
from embedkit.training.features import Features, Standardiser
from embedkit.training.folds import Indices
from embedkit.training.optimiser import StackedAdam

State = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How heads are trained; the same for all heads of a stack."""

    head: str
    loss: str
    classes: int
    epochs: int = 30
    batch_size: int = 32


@dataclass(frozen=True, kw_only=True)
class Member:
    """One head: its seed, learning rate and weight decay, and after how many epochs of the budget it stops."""

    seed: int
    learning_rate: float
    epochs: int
    weight_decay: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Group:
    """Heads that share a training side and the order of its mini-batches.

    Attributes:
        train: Utterances trained on.
        validate: Utterances scored after every epoch; may be empty.
        seed: Seeds the order.
        members: The heads.
    """

    train: Indices
    validate: Indices
    seed: int
    members: tuple[Member, ...]


@dataclass(kw_only=True)
class GroupResult:
    """What became of the heads of one group, in the order of its members.

    Attributes:
        losses: Mean training loss `[members, epochs]`, NaN after a head has stopped.
        recalls: UA on `validate` `[members, epochs]`.
        predictions: Predicted classes on `validate`, `[members, epochs, utterances]`.
        states: The head at its stop, or at its best validation epoch where `keep_best`.
        standardiser: Statistics of the training side.
    """

    losses: NDArray[np.float64]
    recalls: NDArray[np.float64]
    predictions: NDArray[np.int16]
    states: list[State]
    standardiser: Standardiser = field(repr=False)


def steps_per_epoch(group: Group, batch_size: int) -> int:
    """Return how many mini-batches an epoch of the group has."""
    return -(-len(group.train) // batch_size)


def train_stack(
    features: Features,
    targets: NDArray[np.int64],
    groups: Sequence[Group],
    recipe: Recipe,
    *,
    keep_best: bool = False,
    on_epoch: Callable[[int], None] | None = None,
) -> list[GroupResult]:
    """Train every head of every group.

    Args:
        features: The embeddings.
        targets: Class index of every utterance.
        groups: Same number of members and of steps an epoch in each.
        recipe: Head, loss and budget.
        keep_best: Keep each head as it was after its best validation epoch (the first of equals).
        on_epoch: Called after every epoch with the number of epochs done.

    Returns:
        One result per group, in order.
    """
    device = features.device
    standardiser, parts = _standardise(features, groups)
    head, loss = build_stack(recipe, groups, features)
    members = [group.members for group in groups]
    rates = torch.tensor([[m.learning_rate for m in row] for row in members], dtype=torch.float64, device=device)
    decays = torch.tensor([[m.weight_decay for m in row] for row in members], dtype=torch.float64, device=device)
    stops = np.array([[m.epochs for m in row] for row in members])
    names, parameters = zip(*head.named_parameters(), strict=True)
    factors = [head.rate_factor(name) for name in names]
    optimiser = StackedAdam(parameters, rates, weight_decay=decays, factors=factors)
    weights = _class_weights(loss, targets, groups, recipe.classes, device)
    orders = [np.random.default_rng([group.seed, len(group.train)]) for group in groups]
    results = [_empty_result(group, recipe, part) for group, part in zip(groups, parts, strict=True)]
    best = np.full(stops.shape, -1.0)
    for epoch in range(int(stops.max())):
        head.train()
        progress = epoch / recipe.epochs
        total = torch.zeros(stops.shape, dtype=torch.float64, device=device)
        batches = list(_epoch_batches(groups, orders, recipe.batch_size, features.durations))
        for index, mask in batches:
            scores = head(features.gather(index, standardiser))
            labels = torch.from_numpy(targets[index]).to(device)[:, None]
            values = loss(
                scores,
                labels,
                mask=torch.from_numpy(mask).to(device)[:, None],
                class_weights=weights,
                progress=progress,
            )
            values.sum().backward()  # type: ignore[no-untyped-call]
            optimiser.step(learning_rate_factor(progress))
            total += values.detach()
        alive = stops > epoch
        _record_losses(results, total.cpu().numpy() / len(batches), alive, epoch)
        _validate(features, targets, groups, head, standardiser, results, alive, epoch, recipe)
        _keep_states(results, head, stops, best, alive, epoch, keep_best=keep_best)
        if on_epoch is not None:
            on_epoch(epoch + 1)
    return results


def learning_rate_factor(progress: float) -> float:
    """Let the learning rate fall linearly to a tenth over the budget of epochs."""
    return 1.0 - 0.9 * progress


def build_stack(recipe: Recipe, groups: Sequence[Group], features: Features) -> tuple[Head, Loss]:
    """Build the untrained stack and its loss."""
    loss = build_loss(recipe.loss)
    _, head_class, options = resolve_head(recipe.head)
    shape = HeadShape(
        groups=len(groups),
        members=len(groups[0].members),
        layers=features.layers,
        dimensions=features.dimensions,
        classes=recipe.classes,
        classifier=loss.classifier,
    )
    generators = [Generator().manual_seed(member.seed) for group in groups for member in group.members]
    return head_class(shape, options, generators).to(features.device), loss


@torch.no_grad()
def score_utterances(
    features: Features, head: Head, standardiser: Standardiser, index: Indices, *, rows: int = 128
) -> Tensor:
    """Score utterances `[groups, n]` without training: `[groups, members, n, classes]` on the CPU."""
    head.eval()
    order = np.argsort(features.durations[index[0]], kind="stable") if features.durations is not None else None
    arranged = index if order is None else index[:, order]
    parts = [
        head(features.gather(arranged[:, start : start + rows], standardiser)).cpu()
        for start in range(0, arranged.shape[1], rows)
    ]
    scores = torch.cat(parts, dim=2)
    return scores if order is None else scores[:, :, np.argsort(order, kind="stable")]


def score_states(
    features: Features, states: Sequence[State], standardiser: Standardiser, index: Indices, recipe: Recipe
) -> NDArray[np.float64]:
    """Return class probabilities `[heads, n, classes]` of finished heads that share a standardiser."""
    members = tuple(Member(seed=0, learning_rate=0.0, epochs=0) for _ in states)
    head, loss = build_stack(recipe, [Group(train=index, validate=index, seed=0, members=members)], features)
    load_states(head, [list(states)])
    stacked = Standardiser.stack([standardiser], features.device)
    scores = score_utterances(features, head, stacked, index[None])
    probabilities: NDArray[np.float64] = loss.probabilities(scores[0].double()).numpy()
    return probabilities


def _standardise(features: Features, groups: Sequence[Group]) -> tuple[Standardiser, list[Standardiser]]:
    known: dict[bytes, Standardiser] = {}
    parts = []
    for group in groups:
        key = group.train.tobytes()
        if key not in known:
            known[key] = features.moments(group.train)
        parts.append(known[key])
    return Standardiser.stack(parts, features.device), parts


def _class_weights(
    loss: Loss, targets: NDArray[np.int64], groups: Sequence[Group], classes: int, device: torch.device
) -> Tensor | None:
    counts = np.stack([np.bincount(targets[group.train], minlength=classes) for group in groups])
    weights = loss.weigh_classes(torch.from_numpy(counts))
    return None if weights is None else weights.float().to(device)[:, None]


def _epoch_batches(
    groups: Sequence[Group],
    orders: Sequence[np.random.Generator],
    batch_size: int,
    durations: NDArray[np.int64] | None,
) -> Iterator[tuple[Indices, NDArray[np.bool_]]]:
    steps = steps_per_epoch(groups[0], batch_size)
    index = np.zeros((steps, len(groups), batch_size), dtype=np.int64)
    mask = np.zeros(index.shape, dtype=bool)
    for place, (group, generator) in enumerate(zip(groups, orders, strict=True)):
        for step, part in enumerate(_split_epoch(group.train, generator, steps, durations)):
            index[step, place] = part[0]
            index[step, place, : len(part)] = part
            mask[step, place, : len(part)] = True
    yield from zip(index, mask, strict=True)


def _split_epoch(
    train: Indices, generator: np.random.Generator, steps: int, durations: NDArray[np.int64] | None
) -> list[Indices]:
    """Deal the training side into mini-batches whose sizes differ by one at most.

    With durations, neighbours in length share a batch; noise on the lengths keeps the batches different every epoch.
    """
    order = generator.permutation(train)
    if durations is None:
        return np.array_split(order, steps)
    noisy = durations[order] * generator.uniform(0.8, 1.25, len(order))
    parts = np.array_split(order[np.argsort(noisy, kind="stable")], steps)
    return [parts[place] for place in generator.permutation(steps)]


def _empty_result(group: Group, recipe: Recipe, standardiser: Standardiser) -> GroupResult:
    shape = (len(group.members), recipe.epochs)
    return GroupResult(
        losses=np.full(shape, np.nan),
        recalls=np.full(shape, np.nan),
        predictions=np.full((*shape, len(group.validate)), -1, dtype=np.int16),
        states=[{} for _ in group.members],
        standardiser=standardiser,
    )


def _record_losses(
    results: Sequence[GroupResult], losses: NDArray[np.float64], alive: NDArray[np.bool_], epoch: int
) -> None:
    for place, result in enumerate(results):
        result.losses[alive[place], epoch] = losses[place, alive[place]]


def _validate(
    features: Features,
    targets: NDArray[np.int64],
    groups: Sequence[Group],
    head: Head,
    standardiser: Standardiser,
    results: Sequence[GroupResult],
    alive: NDArray[np.bool_],
    epoch: int,
    recipe: Recipe,
) -> None:
    longest = max(len(group.validate) for group in groups)
    if not longest:
        return
    index = np.zeros((len(groups), longest), dtype=np.int64)
    for place, group in enumerate(groups):
        index[place, : len(group.validate)] = group.validate
    predicted = score_utterances(features, head, standardiser, index).argmax(-1).numpy().astype(np.int16)
    for place, (group, result) in enumerate(zip(groups, results, strict=True)):
        own = predicted[place][:, : len(group.validate)]
        recalls = recall_scores(targets[group.validate], own, recipe.classes)
        result.predictions[alive[place], epoch] = own[alive[place]]
        result.recalls[alive[place], epoch] = recalls[alive[place]]


def _keep_states(
    results: Sequence[GroupResult],
    head: Head,
    stops: NDArray[np.int64],
    best: NDArray[np.float64],
    alive: NDArray[np.bool_],
    epoch: int,
    *,
    keep_best: bool,
) -> None:
    for place, member in np.argwhere(alive):
        if keep_best:
            recall = results[place].recalls[member, epoch]
            wanted = recall > best[place, member]
            best[place, member] = max(best[place, member], recall)
        else:
            wanted = stops[place, member] == epoch + 1
        if wanted:
            results[place].states[member] = slice_state(head, place, member)
