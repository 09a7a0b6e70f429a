"""What a finished store already holds of a corpus: rows to keep, utterances to encode, utterances to drop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from embedkit.corpora.base import STANDARD_COLUMNS, Corpus, Utterance
from embedkit.errors import AudioError
from embedkit.extraction.segments import Failures, Stamp, segment_digest
from embedkit.extraction.shards import Measured
from embedkit.store.layout import MEASURED_COLUMNS, Array
from embedkit.store.reader import Store

VOLATILE_COLUMNS = ("audio_size", "audio_mtime")
"""Columns that only say where to look first for a change; the digest decides."""


@dataclass(frozen=True)
class Reuse:
    """How a store and a corpus compare.

    Attributes:
        kept: Rows of the store to keep: utterance id -> (row, what was measured).
        missing: Utterances that must be encoded.
        failed: Utterances that failed before, with the same audio: id -> reason.
        removed: Number of utterances of the store that the corpus no longer has.
    """

    kept: dict[str, tuple[int, Measured]]
    missing: list[Utterance]
    failed: dict[str, str]
    removed: int


def compare(corpus: Corpus, stamps: Mapping[str, Stamp], failures: Failures, store: Store | None) -> Reuse:
    """Compare a corpus with the store made of it: sizes and times first, digests where these differ."""
    kept: dict[str, tuple[int, Measured]] = {}
    missing: list[Utterance] = []
    known = _known(store) if store is not None else {}
    failed_before = _failed_before(store) if store is not None and failures.on_error == "skip" else {}
    failed: dict[str, str] = {}
    for utterance in corpus.utterances:
        stamp = stamps.get(utterance.id)
        if stamp is None:
            continue
        old = known.get(utterance.id)
        reason, old_stamp = failed_before.get(utterance.id, ("", None))
        if old is not None and old.same(corpus, utterance, stamp):
            kept[utterance.id] = (old.row, old.measured)
        elif stamp == old_stamp:
            failed[utterance.id] = reason
        else:
            missing.append(utterance)
    current = {utterance.id for utterance in corpus.utterances}
    return Reuse(kept, missing, failed, sum(1 for name in known if name not in current))


def corpus_columns(corpus: Corpus, ids: list[str]) -> dict[str, Any]:
    """Return the corpus's columns for these utterances; a column named like a measured one gets `corpus.` before it."""
    by_id = {utterance.id: utterance for utterance in corpus.utterances}
    utterances = [by_id[name] for name in ids]
    columns: dict[str, Any] = {
        name: [getattr(utterance, name) for utterance in utterances] for name in STANDARD_COLUMNS
    }
    for name in ("start", "end"):
        columns[name] = np.array([np.nan if value is None else value for value in columns[name]], np.float64)
    own = sorted({name for utterance in utterances for name in utterance.columns} - set(STANDARD_COLUMNS))
    for name in own:
        values = [utterance.columns.get(name, "") for utterance in utterances]
        stored = f"corpus.{name}" if name in MEASURED_COLUMNS else name
        numeric = all(isinstance(value, int | float) for value in values)
        columns[stored] = np.array(values, np.float64) if numeric else [str(value) for value in values]
    return columns


def measured_columns(measured: list[Measured], stamps: list[Stamp]) -> dict[str, Any]:
    """Return the columns that the extraction adds."""
    return {
        "duration": np.array([one.duration for one in measured], np.float64),
        "padded": np.array([one.padded for one in measured], np.bool_),
        "digest": [one.digest for one in measured],
        "audio_size": np.array([one.size for one in stamps], np.int64),
        "audio_mtime": np.array([one.mtime for one in stamps], np.int64),
    }


def same_columns(store: Store, columns: Mapping[str, Any]) -> bool:
    """Tell whether a store's columns say what these say (sizes and times aside)."""
    if set(store.columns) != set(columns):
        return False
    return all(_equal(store.column(name), values) for name, values in columns.items() if name not in VOLATILE_COLUMNS)


def _equal(stored: Array, values: Any) -> bool:
    numeric = isinstance(values, np.ndarray)
    return bool((stored.dtype.kind != "U") == numeric and np.array_equal(stored, values, equal_nan=numeric))


@dataclass(frozen=True)
class _Known:
    row: int
    where: tuple[Path, float | None, float | None]
    stamp: Stamp
    measured: Measured

    def same(self, corpus: Corpus, utterance: Utterance, stamp: Stamp) -> bool:
        if (
            self.where == (corpus.audio_path(utterance).absolute(), utterance.start, utterance.end)
            and self.stamp == stamp
        ):
            return True
        try:
            digest = segment_digest(corpus.audio_path(utterance), stamp, utterance.start, utterance.end)
        except AudioError:
            return False
        return digest == self.measured.digest


def _known(store: Store) -> dict[str, _Known]:
    names = ("id", "path", "start", "end", "audio_size", "audio_mtime", "duration", "padded", "digest")
    columns = [store.column(name).tolist() for name in names]
    root = Path(store.corpus_info["root"])
    return {
        name: _Known(
            row, (root / path, _seconds(start), _seconds(end)), Stamp(size, mtime), Measured(duration, padded, digest)
        )
        for row, (name, path, start, end, size, mtime, duration, padded, digest) in enumerate(
            zip(*columns, strict=True)
        )
    }


def _failed_before(store: Store) -> dict[str, tuple[str, Stamp]]:
    sizes, times = (store.failure_column(name).tolist() for name in VOLATILE_COLUMNS)
    stamps = map(Stamp, sizes, times)
    return {name: (reason, stamp) for (name, reason), stamp in zip(store.failures.items(), stamps, strict=False)}


def _seconds(value: float) -> float | None:
    return None if np.isnan(value) else value
