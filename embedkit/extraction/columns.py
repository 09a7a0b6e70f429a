"""What a store says of its corpus: one value per utterance in each column, and what all of them share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from embedkit.corpora.base import IDENTIFIERS, STANDARD_COLUMNS, Corpus
from embedkit.corpora.texts import as_text, read_number
from embedkit.extraction.segments import Stamp
from embedkit.extraction.shards import Measured
from embedkit.store.layout import MEASURED_COLUMNS, Array
from embedkit.store.reader import Store

VOLATILE_COLUMNS = ("audio_size", "audio_mtime")
"""Columns that only say where to look first for a change; the digest decides."""


def corpus_columns(corpus: Corpus, ids: list[str]) -> dict[str, Any]:
    """Return the corpus's columns for these utterances; one named like a measured one gets `corpus.` before it."""
    by_id = {utterance.id: utterance for utterance in corpus.utterances}
    utterances = [by_id[name] for name in ids]
    columns: dict[str, Any] = {
        name: [getattr(utterance, name) for utterance in utterances] for name in STANDARD_COLUMNS
    }
    columns |= {name: [as_text(value) for value in columns[name]] for name in IDENTIFIERS}
    for name in ("start", "end"):
        columns[name] = np.array([np.nan if value is None else value for value in columns[name]], np.float64)
    own = sorted({name for utterance in utterances for name in utterance.columns} - set(STANDARD_COLUMNS))
    for name in own:
        values = [utterance.columns.get(name, "") for utterance in utterances]
        stored = f"corpus.{name}" if name in MEASURED_COLUMNS else name
        # Whole numbers name things (a participant, a session) more often than they rate: --targets reads texts, too.
        numeric = all(isinstance(value, float) for value in values)
        columns[stored] = np.array(values, np.float64) if numeric else [as_text(value) for value in values]
    return columns


def measured_columns(measured: Sequence[Measured], stamps: Sequence[Stamp]) -> dict[str, Any]:
    """Return the columns that the extraction adds."""
    return {
        "duration": np.array([one.duration for one in measured], np.float64),
        "padded": np.array([one.padded for one in measured], np.bool_),
        "digest": [one.digest for one in measured],
        "audio_digest": [one.audio_digest for one in measured],
        **stamp_columns(stamps),
    }


def stamp_columns(stamps: Sequence[Stamp]) -> dict[str, Array]:
    """Return sizes (bytes) and times (nanoseconds) of audio files, int64 `[utterances]` each."""
    sizes, times = (np.array([stamp[place] for stamp in stamps], np.int64) for place in (0, 1))
    return dict(zip(VOLATILE_COLUMNS, (sizes, times), strict=True))


def same_columns(store: Store, columns: Mapping[str, Any]) -> bool:
    """Tell whether a store's columns say what these say (sizes and times aside)."""
    if set(store.columns) != set(columns):
        return False
    return all(_equal(store.column(name), values) for name, values in columns.items() if name not in VOLATILE_COLUMNS)


def describe_corpus(corpus: Corpus) -> dict[str, Any]:
    """Return what a store keeps of a corpus beside its columns."""
    return {
        "kind": corpus.kind,
        "root": str(corpus.root.absolute()),
        "task": {"classes": list(corpus.task.classes), "merge": dict(corpus.task.merge)},
        "notes": list(corpus.notes),
    }


def _equal(stored: Array, values: Any) -> bool:
    numeric = isinstance(values, np.ndarray)
    if not numeric and stored.dtype.kind == "f":
        # Stores of before kept columns of numbers as such; the same numbers as texts make no other corpus.
        numbers = [read_number(text) for text in values]
        return None not in numbers and np.array_equal(stored, np.array(numbers, np.float64), equal_nan=True)
    return bool((stored.dtype.kind != "U") == numeric and np.array_equal(stored, values, equal_nan=numeric))
