"""What is there before an extraction: the finished store, what it holds of the corpus, and what it lacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from embedkit.audio import DIGEST_RATE
from embedkit.corpora.base import Corpus, Utterance
from embedkit.encoders.base import determining
from embedkit.errors import AudioError, ExtractionError
from embedkit.extraction.columns import (
    VOLATILE_COLUMNS,
    corpus_columns,
    describe_corpus,
    measured_columns,
    same_columns,
)
from embedkit.extraction.request import ExtractionRequest
from embedkit.extraction.segments import Failures, OnError, Stamp, recording_digest, segment_digest, stamp_files
from embedkit.extraction.shards import Measured
from embedkit.store.reader import Store, open_store
from embedkit.store.verify import require_undamaged

QUICKLY_CHECKED_BYTES = 512 * 1024**2
"""Embeddings of this size are compared with their digests in less time than an encoder takes to load."""


@dataclass(frozen=True)
class StoreComparison:
    """A corpus compared with the store that is there.

    Attributes:
        store: The finished store of the same fingerprint; None where there is none, or it is to be replaced.
        stamps: Size and time of the audio files, by utterance id.
        failures: Utterances known to fail so far; also those that failed before, with the same audio.
        kept: Rows of the store to keep: utterance id -> (row, what was measured).
        missing: Utterances that must be encoded.
        removed: Number of utterances of the store that the corpus no longer has.
    """

    store: Store | None
    stamps: dict[str, Stamp]
    failures: Failures
    kept: dict[str, tuple[int, Measured]]
    missing: list[Utterance]
    removed: int

    @property
    def extraction(self) -> dict[str, Any]:
        """How the store's numbers were made; empty where there is no store."""
        return {} if self.store is None else self.store.extraction


def compare_request(request: ExtractionRequest) -> StoreComparison:
    """Compare a request with the store that is there.

    Raises:
        ExtractionError: the store holds something else, or more than the request would leave of it.
        StoreError: the store is damaged.
    """
    store = None if request.overwrite or not request.out.exists() else open_store(request.out)
    if store is not None:
        require_undamaged(store, most_bytes=QUICKLY_CHECKED_BYTES)
        _check_same(request, store)
    found = compare_corpus(request.corpus, store, request.on_error)
    if store is not None and found.removed:
        _check_removal(request, store, found)
    if store is not None and not found.kept:
        _check_recordings(request, store, found)
    return found


def compare_corpus(corpus: Corpus, store: Store | None, on_error: OnError) -> StoreComparison:
    """Compare a corpus with the store made of it: sizes and times first, digests where these differ.

    Raises:
        ExtractionError: two utterances have one id, or a file is missing and is not to be skipped.
    """
    failures = Failures(on_error)
    stamps = stamp_files(corpus, failures)
    kept: dict[str, tuple[int, Measured]] = {}
    missing: list[Utterance] = []
    known = {} if store is None else _known(store)
    failed_before = _failed_before(store) if store is not None and on_error == "skip" else {}
    for utterance in corpus.utterances:
        stamp = stamps.get(utterance.id)
        if stamp is None:
            continue
        old = known.get(utterance.id)
        reason, old_stamp = failed_before.get(utterance.id, ("", None))
        measured = None if old is None else _same(old, corpus, utterance, stamp)
        if old is not None and measured is not None:
            kept[utterance.id] = (old.row, measured)
        elif stamp == old_stamp:
            failures[utterance.id] = reason
        else:
            missing.append(utterance)
    removed = len(known.keys() - {utterance.id for utterance in corpus.utterances})
    return StoreComparison(store, stamps, failures, kept, missing, removed)


def is_finished(request: ExtractionRequest, found: StoreComparison) -> bool:
    """Tell whether the store is what the request would write."""
    store = found.store
    if store is None or found.missing or len(found.kept) != len(store) or dict(store.failures) != found.failures:
        return False
    if request.max_file_gb not in (None, store.extraction.get("max_file_gb")):
        return False
    if store.corpus_info != describe_corpus(request.corpus) or store.corpus != request.corpus.name:
        return False
    ids = sorted(found.kept)
    measured = measured_columns([found.kept[name][1] for name in ids], [found.stamps[name] for name in ids])
    if "audio_digest" not in store.columns:
        # A store of before is as good as it was.
        del measured["audio_digest"]
    return same_columns(store, {**corpus_columns(request.corpus, ids), **measured})


def _check_same(request: ExtractionRequest, store: Store) -> None:
    if store.fingerprint == request.fingerprint and store.corpus == request.corpus.name:
        return
    if _differences(request, store) == ["last layer"]:
        raise ExtractionError(
            f"{str(request.out)!r} was written before the last layer of every encoder was transformers' "
            "last_hidden_state: its last layer lacks the encoder's final norm; write it anew with --overwrite, or "
            "choose another file with --out."
        )
    raise ExtractionError(
        f"{str(request.out)!r} holds other embeddings (differing in {', '.join(_differences(request, store))}); choose "
        "another file with --out, or replace it with --overwrite."
    )


def _differences(request: ExtractionRequest, store: Store) -> list[str]:
    if store.corpus != request.corpus.name:
        return [f"the corpus: {store.corpus!r}, not {request.corpus.name!r}"]
    old: dict[str, Any] = {**determining(store.encoder), **store.extraction.get("options", {})}
    new: dict[str, Any] = {**determining(request.identity), **request.options}
    names = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    return [name.replace("_", " ") for name in names] or ["the fingerprint"]


def _check_removal(request: ExtractionRequest, store: Store, found: StoreComparison) -> None:
    selected = store.extraction.get("selection", {}) != request.selection
    if selected or not found.kept:
        raise ExtractionError(
            f"{str(request.out)!r} holds {len(store)} utterances, of which this selection would leave "
            f"{len(found.kept)}; choose another file with --out, or replace it with --overwrite."
        )


def _check_recordings(request: ExtractionRequest, store: Store, found: StoreComparison) -> None:
    """Refuse to replace a store none of whose recordings the corpus has: it holds another corpus of the same name."""
    known = {name: set(store.column(name).tolist()) for name in _DIGESTS if name in store.columns}
    if not len(store) or any(_is_known(one, request.corpus, found.stamps, known) for one in found.missing):
        return
    raise ExtractionError(
        f"{str(request.out)!r} holds another corpus that is called {store.corpus!r}, too: {len(store)} utterances, "
        f"none of which is a recording of the {len(request.corpus.utterances)} in {str(request.corpus.root)!r}; give "
        "this one a name with --corpus-name, choose another file with --out, or replace it with --overwrite."
    )


_DIGESTS = ("digest", "audio_digest")


def _is_known(utterance: Utterance, corpus: Corpus, stamps: Mapping[str, Stamp], known: Mapping[str, set[str]]) -> bool:
    """Tell whether a store has the audio of an utterance, under whatever id."""
    where = corpus.audio_path(utterance), stamps[utterance.id], utterance.start, utterance.end
    try:
        if segment_digest(*where) in known["digest"]:
            return True
        return "audio_digest" in known and recording_digest(*where) in known["audio_digest"]
    except AudioError:
        return False


class _Known(NamedTuple):
    row: int
    where: tuple[Path, float | None, float | None]
    stamp: Stamp
    measured: Measured
    sampling_rate: int


def _same(old: _Known, corpus: Corpus, utterance: Utterance, stamp: Stamp) -> Measured | None:
    """Return what was measured where an utterance's audio is the store's; None where it is another one."""
    path, times = corpus.audio_path(utterance), (utterance.start, utterance.end)
    if old.where == (path.absolute(), *times) and old.stamp == stamp:
        return old.measured
    try:
        digest = segment_digest(path, stamp, *times)
        if digest == old.measured.digest:
            return old.measured
        # Samples that are equal at one rate may differ at a higher one.
        comparable = 0 < old.sampling_rate <= DIGEST_RATE and old.measured.audio_digest
        if not comparable or recording_digest(path, stamp, *times) != old.measured.audio_digest:
            return None
    except AudioError:
        return None
    return old.measured._replace(digest=digest)


def _known(store: Store) -> dict[str, _Known]:
    names = ("id", "path", "start", "end", "audio_size", "audio_mtime", "duration", "padded", "digest")
    columns = [store.column(name).tolist() for name in names]
    own = "audio_digest" in store.columns
    columns.append(store.column("audio_digest").tolist() if own else [""] * len(store))
    root, rate = Path(store.corpus_info["root"]), int(store.encoder.get("sampling_rate") or 0)
    return {
        name: _Known(row, (root / path, _seconds(start), _seconds(end)), Stamp(size, mtime), Measured(*measured), rate)
        for row, (name, path, start, end, size, mtime, *measured) in enumerate(zip(*columns, strict=True))
    }


def _failed_before(store: Store) -> dict[str, tuple[str, Stamp]]:
    sizes, times = (store.failure_column(name).tolist() for name in VOLATILE_COLUMNS)
    stamps = map(Stamp, sizes, times)
    return {name: (reason, stamp) for (name, reason), stamp in zip(store.failures.items(), stamps, strict=False)}


def _seconds(value: float) -> float | None:
    return None if np.isnan(value) else value
