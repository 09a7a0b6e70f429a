"""Which utterances are one recording: told by digests of their audio, whatever name, speaker or corpus they have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

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
