"""Put a store together from finished shards and from the rows of the store before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from embedkit.corpora.base import Corpus
from embedkit.extraction.reuse import Reuse, corpus_columns, measured_columns
from embedkit.extraction.segments import Stamp
from embedkit.extraction.shards import Measured, ShardReader
from embedkit.store.reader import Store
from embedkit.store.verify import intact_rows
from embedkit.store.writer import StoreContent, UtteranceEmbedding, write_store


@dataclass(frozen=True)
class Source:
    """Where an utterance's rows come from."""

    read: Callable[[], UtteranceEmbedding]
    frames: int
    measured: Measured


@dataclass(frozen=True, kw_only=True)
class Described:
    """What a store says beside its rows and columns; see `StoreContent`."""

    encoder: dict[str, Any]
    fingerprint: str
    frame_dtype: str | None
    extraction: dict[str, Any]
    trained_on: dict[str, Any] = field(default_factory=dict)


def collect_sources(
    reuse: Reuse, store: Store | None, shards: list[ShardReader], wanted: set[Any]
) -> dict[str, Source]:
    """Find the rows of every utterance: in the store before, or in a shard whose item is still wanted.

    Rows of the store before are compared with their digests when they are read: their damage must not get new ones.
    """
    sources: dict[str, Source] = {}
    if store is not None:
        counts = np.diff(store.frame_offsets).tolist() if store.has_frames else [0] * len(store)
        read = intact_rows(store)
        for name, (row, measured) in reuse.kept.items():
            sources[name] = Source(partial(read, row), counts[row], measured)
    for shard in shards:
        for entry in shard.entries:
            if entry.item in wanted:
                sources[entry.item.id] = Source(partial(shard.rows, entry), entry.frames, entry.measured)
    return sources


def describe_content(
    corpus: Corpus,
    described: Described,
    sources: dict[str, Source],
    stamps: dict[str, Stamp],
    failures: dict[str, str],
) -> StoreContent:
    """Describe the store of these utterances, sorted by id."""
    ids = sorted(sources)
    measured = measured_columns([sources[name].measured for name in ids], [stamps[name] for name in ids])
    failed = dict(sorted(failures.items()))
    failed_stamps = [stamps.get(name, Stamp(-1, -1)) for name in failed]
    return StoreContent(
        corpus=corpus.name,
        corpus_info=describe_corpus(corpus),
        encoder=described.encoder,
        fingerprint=described.fingerprint,
        columns={**corpus_columns(corpus, ids), **measured},
        frame_dtype=described.frame_dtype,
        frame_counts=[sources[name].frames for name in ids] if described.frame_dtype else None,
        failures=failed,
        failure_columns={
            "audio_size": np.array([stamp.size for stamp in failed_stamps], np.int64),
            "audio_mtime": np.array([stamp.mtime for stamp in failed_stamps], np.int64),
        },
        extraction=described.extraction,
        trained_on=described.trained_on,
    )


def assemble(out: Path, content: StoreContent, sources: dict[str, Source], *, most_bytes: float | None = None) -> None:
    """Write the store, reading one utterance's rows at a time; one larger than `most_bytes` into several files."""
    rows: Iterator[UtteranceEmbedding] = (sources[name].read() for name in content.columns["id"])
    write_store(out, content, rows, most_bytes=most_bytes)


def describe_corpus(corpus: Corpus) -> dict[str, Any]:
    """Return what a store keeps of a corpus beside its columns."""
    return {
        "kind": corpus.kind,
        "root": str(corpus.root.absolute()),
        "task": {"classes": list(corpus.task.classes), "merge": dict(corpus.task.merge)},
        "notes": list(corpus.notes),
    }
