"""How things stand before an extraction: what the finished store holds and what it lacks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from embedkit.errors import ExtractionError
from embedkit.extraction.assembly import describe_corpus
from embedkit.extraction.request import Request, determining
from embedkit.extraction.reuse import Reuse, compare, corpus_columns, measured_columns, same_columns
from embedkit.extraction.segments import Failures, Stamp, stamp_files
from embedkit.store.reader import Store, open_store
from embedkit.store.verify import require_undamaged

QUICKLY_CHECKED_BYTES = 512 * 1024**2
"""Embeddings of this size are compared with their digests in less time than an encoder takes to load."""


@dataclass(frozen=True)
class Standing:
    """A request compared with the store that is there.

    Attributes:
        store: The finished store of the same fingerprint; None where there is none, or it is to be replaced.
        stamps: Size and time of the audio files, by utterance id.
        failures: Utterances known to fail so far.
        reuse: What the store holds of the corpus.
    """

    store: Store | None
    stamps: dict[str, Stamp]
    failures: Failures
    reuse: Reuse


def examine(request: Request) -> Standing:
    """Compare a request with the store that is there.

    Raises:
        ExtractionError: the store holds something else, or more than the request would leave of it.
        StoreError: the store is damaged.
    """
    store = None if request.overwrite or not request.out.exists() else open_store(request.out)
    if store is not None:
        require_undamaged(store, most_bytes=QUICKLY_CHECKED_BYTES)
        _check_same(request, store)
    failures = Failures(request.on_error)
    stamps = stamp_files(request.corpus, failures)
    reuse = compare(request.corpus, stamps, failures, store)
    failures.update(reuse.failed)
    if store is not None and reuse.removed:
        _check_removal(request, store, reuse)
    return Standing(store, stamps, failures, reuse)


def is_finished(request: Request, standing: Standing) -> bool:
    """Tell whether the store is what the request would write."""
    store, reuse = standing.store, standing.reuse
    if store is None or reuse.missing or len(reuse.kept) != len(store) or dict(store.failures) != standing.failures:
        return False
    if request.max_file_gb not in (None, store.extraction.get("max_file_gb")):
        return False
    if store.corpus_info != describe_corpus(request.corpus) or store.corpus != request.corpus.name:
        return False
    ids = sorted(reuse.kept)
    measured = measured_columns([reuse.kept[name][1] for name in ids], [standing.stamps[name] for name in ids])
    return same_columns(store, {**corpus_columns(request.corpus, ids), **measured})


def _check_same(request: Request, store: Store) -> None:
    if store.fingerprint == request.fingerprint and store.corpus == request.corpus.name:
        return
    raise ExtractionError(
        f"{str(request.out)!r} holds other embeddings (differing in {', '.join(_differences(request, store))}); choose "
        "another file with --out, or replace it with --overwrite."
    )


def _differences(request: Request, store: Store) -> list[str]:
    if store.corpus != request.corpus.name:
        return [f"the corpus: {store.corpus!r}, not {request.corpus.name!r}"]
    old: dict[str, Any] = {**determining(store.encoder), **store.extraction.get("options", {})}
    new: dict[str, Any] = {**determining(request.identity), **request.options}
    names = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    return [name.replace("_", " ") for name in names] or ["the fingerprint"]


def _check_removal(request: Request, store: Store, reuse: Reuse) -> None:
    selected = store.extraction.get("selection", {}) != request.selection
    if selected or not reuse.kept:
        raise ExtractionError(
            f"{str(request.out)!r} holds {len(store)} utterances, of which this selection would leave "
            f"{len(reuse.kept)}; choose another file with --out, or replace it with --overwrite."
        )
