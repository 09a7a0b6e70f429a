"""In which order a training set is seen: mini-batches of one size, drawn anew every epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from embedkit.training.data.folds import Indices


def count_steps(utterances: int, batch_size: int) -> int:
    """Return how many mini-batches an epoch has."""
    return -(-utterances // batch_size)


def epoch_batches(
    sides: Sequence[Indices],
    orders: Sequence[np.random.Generator],
    batch_size: int,
    durations: NDArray[np.int64] | None,
) -> Iterator[tuple[Indices, NDArray[np.bool_]]]:
    """Yield the mini-batches of one epoch: utterances `[sides, batch]`, and which of them count.

    Every mini-batch is filled up to one size with rows that do not count.

    Args:
        sides: Training sets that take the same number of steps.
        orders: One generator for each.
        batch_size: Most utterances in a mini-batch.
        durations: Frames per utterance, where batches of similar length are wanted.
    """
    steps = count_steps(len(sides[0]), batch_size)
    index = np.zeros((steps, len(sides), batch_size), dtype=np.int64)
    mask = np.zeros(index.shape, dtype=bool)
    for place, (side, order) in enumerate(zip(sides, orders, strict=True)):
        for step, part in enumerate(_split(side, order, steps, durations)):
            index[step, place] = part[0]
            index[step, place, : len(part)] = part
            mask[step, place, : len(part)] = True
    yield from zip(index, mask, strict=True)


def _split(side: Indices, order: np.random.Generator, steps: int, durations: NDArray[np.int64] | None) -> list[Indices]:
    """Deal a training set into mini-batches whose sizes differ by one at most.

    With durations, neighbours in length share a batch; noise on the lengths keeps the batches different every epoch.
    """
    shuffled = order.permutation(side)
    if durations is None:
        return np.array_split(shuffled, steps)
    noisy = durations[shuffled] * order.uniform(0.8, 1.25, len(shuffled))
    parts = np.array_split(shuffled[np.argsort(noisy, kind="stable")], steps)
    return [parts[place] for place in order.permutation(steps)]
