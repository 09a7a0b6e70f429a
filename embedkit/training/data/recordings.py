"""Which utterances are one recording, by digests of their audio, and which overlap in a file: these are kept apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embedkit.errors import FitError
from embedkit.store.layout import digest_bytes
from embedkit.training.data.folds import Fold, Indices, Names
from embedkit.training.data.source import Source
from embedkit.training.data.task import TaskData
from embedkit.wording import list_some

SHOWN = 3
"""Pairs of utterances that a sentence names."""

SKETCH = 64
"""Digests, the smallest ones, that stand for the recordings of a corpus."""


def recording_keys(sources: Sequence[Source], parts: Sequence[TaskData]) -> Names:
    """Return what is equal for equal recordings, `[utterances]` of all parts end to end; empty where it is unknown.

    Where a store is older than the digests of decoded samples, all are told apart by those of files and times.
    """
    found = [source.audio_digests() for source in sources]
    if any(one is None for one in found):
        found = [
            source.column("digest") if "digest" in source.columns else np.full(len(source), "") for source in sources
        ]
    return np.concatenate([keys[data.rows] for keys, data in zip(found, parts, strict=True) if keys is not None])


def note_older_stores(sources: Sequence[Source]) -> list[str]:
    """Say of each store that is older than the digests of decoded samples what that means."""
    return [
        f"{source.path} keeps no digests of decoded audio: copies of a recording are found only where their files are "
        "equal to the byte; extract it again with --overwrite to find all."
        for source in sources
        if source.audio_digests() is None and "digest" in source.columns
    ]


def drop_copies(sources: Sequence[Source], parts: Sequence[TaskData]) -> tuple[TaskData, ...]:
    """Keep one utterance, the first, of each recording.

    Raises:
        FitError: nothing, or nothing of a class, is left of a part.
    """
    keys = recording_keys(sources, parts)
    firsts = np.isin(np.arange(len(keys)), np.unique(keys, return_index=True)[1]) | (keys == "")
    kept: list[TaskData] = []
    owned = np.split(firsts, np.cumsum([len(one) for one in parts])[:-1])
    for source, data, own in zip(sources, parts, owned, strict=True):
        left = data.take(np.flatnonzero(own))
        lost = [name for name in data.classes if name not in set(left.labels.tolist())]
        if lost or not len(left):
            what = f"the class {lost[0]!r}" if lost else "it"
            raise FitError(
                f"Without copies of recordings nothing of {what} is left of {source.path}; leave out --duplicates "
                "drop, or choose other classes."
            )
        kept.append(replace(left, copies=len(data) - len(left)))
    return tuple(kept)


def find_copied(keys: Names, corpora: Names) -> set[str]:
    """Name the corpora of which another one has a recording, by keys and corpora `[utterances]`."""
    pairs = {(key, corpus) for key, corpus in zip(keys.tolist(), corpora.tolist(), strict=True) if key}
    counts = Counter(key for key, _ in pairs)
    return {corpus for key, corpus in pairs if counts[key] > 1}


def number_recordings(keys: Names) -> Indices:
    """Return a number for each recording, by their keys `[utterances]`; -1 where it is unknown."""
    numbers = np.unique(keys, return_inverse=True)[1].astype(np.int64)
    return np.where(keys == "", -1, numbers)


def require_untrained(data: TaskData, numbers: Indices, fold: Fold) -> None:
    """Refuse a fold that tests recordings which it trains on, by their numbers `[utterances]`.

    Raises:
        FitError: names some of them, and what to do.
    """
    tested = find_trained(numbers, fold)
    if not len(tested):
        return
    owner = {numbers[place]: place for place in fold.train[::-1].tolist()}
    pairs = [f"{data.ids[place]} = {data.ids[owner[numbers[place]]]}" for place in tested.tolist()]
    raise FitError(
        f"{len(tested)} of {len(fold.test)} test utterances of the fold {fold.name!r} are recordings that are trained "
        f"on, too ({list_some(pairs, SHOWN)}); take one of each with --duplicates drop, or add "
        "--allow-leak, which marks every number."
    )


def find_trained(numbers: Indices, fold: Fold) -> Indices:
    """Return the tested utterances whose recordings, by their numbers `[utterances]`, are trained or chosen on."""
    # The last place is that of the number -1.
    trained = np.zeros(numbers.max(initial=-1) + 2, dtype=np.bool_)
    trained[numbers[fold.train]] = True
    trained[-1] = False
    return fold.test[trained[numbers[fold.test]]]


def digest_recordings(keys: Names) -> str | None:
    """Digest which recordings there are, by their keys `[utterances]` in any order; None where some are unknown."""
    return None if np.any(keys == "") else digest_bytes("".join(sorted(keys.tolist())).encode())[:16]


def sketch_recordings(keys: Names) -> str:
    """Return the smallest of digests `[utterances]`, shortened: two corpora without a common one are not the same."""
    return " ".join(sorted({key[:16] for key in keys.tolist() if key})[:SKETCH])


def share_recordings(first: str, second: str) -> bool:
    """Tell whether two sketches have a digest in common, or one of them says nothing."""
    return not (first and second) or bool(set(first.split()) & set(second.split()))


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
