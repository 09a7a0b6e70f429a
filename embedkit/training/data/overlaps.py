"""Stretches of one audio file that overlap: what is tested must not have been heard in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedkit.errors import FitError
from embedkit.training.data.folds import Fold, Indices, Names
from embedkit.training.data.recordings import SHOWN
from embedkit.training.data.source import Source
from embedkit.training.data.task import TaskData
from embedkit.wording import list_some

LEAST = 0.5
"""The share of a tested stretch that was trained on from which it counts: speakers also interrupt each other."""


@dataclass(frozen=True)
class Stretches:
    """Where utterances lie in their files, `[utterances]`.

    Attributes:
        files: A number for each file with several stretches, -1 for all others.
        starts, ends: Seconds; an end that is unknown is infinite.
    """

    files: Indices
    starts: NDArray[np.float64]
    ends: NDArray[np.float64]

    def find_trained(self, fold: Fold) -> Indices:
        """Return the tested utterances `[tested]` of which half or more is trained on, or a part of one without end."""
        if not np.any(self.files >= 0):
            return fold.test[:0]
        tested = fold.test[np.isin(self.files[fold.test], np.setdiff1d(self.files[fold.train], [-1]))]
        train = fold.train[self.files[fold.train] >= 0]
        found, known = [], self._by_file(train)
        for file, own in self._by_file(tested).items():
            heard = known[file]
            covered = _cover(self.starts[heard], self.ends[heard], self.starts[own], self.ends[own])
            lengths = self.ends[own] - self.starts[own]
            found.append(own[(covered > 0) & (covered >= np.where(np.isinf(lengths), 0.0, LEAST * lengths))])
        return np.sort(np.concatenate([*found, fold.test[:0]]))

    def _by_file(self, index: Indices) -> dict[int, Indices]:
        """Divide utterances by their files, each group in the order given."""
        order = index[np.argsort(self.files[index], kind="stable")]
        numbers, begins = np.unique(self.files[order], return_index=True)
        return dict(zip(numbers.tolist(), np.split(order, begins)[1:], strict=True))


def _cover(
    starts: NDArray[np.float64], ends: NDArray[np.float64], froms: NDArray[np.float64], tos: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how many seconds of each stretch from `froms` to `tos` lie in any of those from `starts` to `ends`."""
    order = np.argsort(starts)
    begins, reached = starts[order], np.maximum.accumulate(ends[order])
    # Joined stretches begin where nothing before reaches.
    first = np.flatnonzero(np.append(True, begins[1:] > reached[:-1]))
    borders = np.column_stack([begins[first], reached[np.append(first[1:] - 1, len(begins) - 1)]])
    # Whatever ends nowhere goes on a second further than all that is known.
    known = np.concatenate([borders.ravel(), froms, tos])
    borders, tos = (np.minimum(times, known[np.isfinite(known)].max() + 1) for times in (borders, tos))
    before = np.column_stack([np.zeros(len(first)), borders[:, 1] - borders[:, 0]]).ravel().cumsum()
    return np.asarray(np.interp(tos, borders.ravel(), before) - np.interp(froms, borders.ravel(), before))


def find_stretches(sources: Sequence[Source], parts: Sequence[TaskData]) -> Stretches:
    """Find which utterances of all parts, end to end, lie in one file, and where; none of a store without times."""
    paths = np.concatenate([_files(source)[data.rows] for source, data in zip(sources, parts, strict=True)])
    _, numbers, counts = np.unique(paths, return_inverse=True, return_counts=True)
    files = np.where((paths == "") | (counts[numbers] < 2), -1, numbers)
    starts, ends = (
        np.concatenate([times[data.rows] for times, data in zip(found, parts, strict=True)])
        for found in zip(*map(_times, sources), strict=True)
    )
    return Stretches(files.astype(np.int64), starts, ends)


def _files(source: Source) -> Names:
    return source.audio_files() if {"start", "end"} <= set(source.columns) else np.full(len(source), "")


def _times(source: Source) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    starts, ends = (
        np.asarray(source.column(name), dtype=np.float64) if name in source.columns else np.full(len(source), np.nan)
        for name in ("start", "end")
    )
    starts = np.nan_to_num(starts)
    lengths = source.column("duration") if "duration" in source.columns else np.full(len(source), np.inf)
    return starts, np.where(np.isnan(ends), starts + lengths, ends)


def require_apart(data: TaskData, stretches: Stretches, fold: Fold) -> None:
    """Refuse a fold that tests stretches of audio which it trains on.

    Raises:
        FitError: names some of them, and what to do.
    """
    tested = stretches.find_trained(fold)
    if not len(tested):
        return
    shown = list_some(data.ids[tested].tolist(), SHOWN)
    raise FitError(
        f"{len(tested)} of {len(fold.test)} test utterances of the fold {fold.name!r} lie by half or more in stretches "
        f"of the same audio file that are trained on ({shown}); cut them apart, leave one side out, or add "
        "--allow-leak, which marks every number."
    )
