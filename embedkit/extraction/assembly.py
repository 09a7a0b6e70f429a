"""Put a store together from finished shards and from the rows of the store before it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from embedkit.extraction.columns import corpus_columns, describe_corpus, measured_columns, stamp_columns
from embedkit.extraction.compare import StoreComparison
from embedkit.extraction.plan import ExtractionPlan
from embedkit.extraction.request import ExtractionRequest
from embedkit.extraction.segments import AudioSegment, Stamp
from embedkit.extraction.shards import Measured, ShardReader
from embedkit.store.verify import intact_rows
from embedkit.store.writer import StoreContent, UtteranceEmbedding, write_store


class FinishedUtterance(NamedTuple):
    """Where an utterance's rows come from, its number of frames, and what was measured."""

    read: Callable[[], UtteranceEmbedding]
    frames: int
    measured: Measured


def collect_finished(
    found: StoreComparison, shards: Iterable[ShardReader], segments: Sequence[AudioSegment]
) -> dict[str, FinishedUtterance]:
    """Find the rows of every utterance: in the store before, or in a shard whose segment is still wanted.

    Rows of the store before are compared with their digests when they are read: their damage must not get new ones.
    """
    finished: dict[str, FinishedUtterance] = {}
    store, wanted = found.store, set(segments)
    if store is not None:
        counts = np.diff(store.frame_offsets).tolist() if store.has_frames else [0] * len(store)
        read = intact_rows(store)
        for name, (row, measured) in found.kept.items():
            finished[name] = FinishedUtterance(partial(read, row), counts[row], measured)
    for shard in shards:
        for entry in shard.entries:
            if entry.segment in wanted:
                finished[entry.segment.id] = FinishedUtterance(partial(shard.rows, entry), entry.frames, entry.measured)
    return finished


def assemble(
    request: ExtractionRequest, found: StoreComparison, plan: ExtractionPlan, finished: dict[str, FinishedUtterance]
) -> None:
    """Write the store, sorted by id, reading one utterance's rows at a time.

    Args:
        request: What is wanted.
        found: What was there.
        plan: What made the numbers.
        finished: All utterances that could be used.
    """
    most_gb = request.max_file_gb or found.extraction.get("max_file_gb")
    content = _describe(request, found, plan, finished, most_gb)
    rows = (finished[name].read() for name in content.columns["id"])
    write_store(request.out, content, rows, most_bytes=None if most_gb is None else most_gb * 1e9)


def _describe(
    request: ExtractionRequest,
    found: StoreComparison,
    plan: ExtractionPlan,
    finished: dict[str, FinishedUtterance],
    most_gb: float | None,
) -> StoreContent:
    """Describe the store; where no number is new, what made them is what the store says already."""
    ids = sorted(finished)
    measured = measured_columns([finished[name].measured for name in ids], [found.stamps[name] for name in ids])
    failures = dict(sorted(found.failures.items()))
    computed: dict[str, Any] = {**plan.settings, "precision": plan.precision}
    encoder: dict[str, Any] = {**request.identity, "versions": plan.versions}
    if found.store is not None and not plan.shards:
        computed = {name: found.extraction.get(name, value) for name, value in computed.items()}
        encoder = found.store.encoder
    files = {} if most_gb is None else {"max_file_gb": most_gb}
    return StoreContent(
        corpus=request.corpus.name,
        corpus_info=describe_corpus(request.corpus),
        encoder=encoder,
        fingerprint=request.fingerprint,
        columns={**corpus_columns(request.corpus, ids), **measured},
        frame_dtype=request.kept_frames,
        frame_counts=[finished[name].frames for name in ids] if request.kept_frames else None,
        failures=failures,
        failure_columns=stamp_columns([found.stamps.get(name, Stamp(-1, -1)) for name in failures]),
        extraction={
            **computed,
            "options": request.options,
            "selection": request.selection,
            "default_head": request.encoder.default_head,
            **files,
        },
        trained_on=request.trained_on,
    )
