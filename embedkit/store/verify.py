"""Recompute every digest of a store and name what is damaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from embedkit.errors import StoreError
from embedkit.store import layout
from embedkit.store.reader import Store
from embedkit.store.writer import UtteranceEmbedding
from embedkit.wording import list_some


@dataclass(frozen=True)
class Damage:
    """What is not as it should be.

    Attributes:
        utterances, parts: Ids, and parts ("utterances/label", "frame/offsets", ...), that do not match their digests.
        not_finite: Ids of utterances that hold NaN or infinity, whatever their digests say.
    """

    utterances: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    not_finite: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.utterances or self.parts or self.not_finite)


CHECKED_BYTES = 2 * 1024**3
"""Embeddings of this size are read and compared with their digests in a few seconds."""


def find_damage(store: Store, *, embeddings: bool = True, progress: Callable[[int, int], None] | None = None) -> Damage:
    """Read everything in a store and compare it with the stored digests.

    Args:
        store: The store.
        embeddings: Whether to read the embeddings; without them only columns, attributes and digests are compared.
        progress: Called with the number of utterances done and in all.
    """
    utterances = _checksums(store, layout.UTTERANCE_CHECKSUMS)
    parts = _checksums(store, layout.PART_CHECKSUMS)
    damaged = _damaged_parts(store, parts)
    if layout.digest_store(utterances, parts) != store.digest:
        damaged.append("checksums")
    ids = _ids(store) if embeddings else []
    rotten: list[str] = []
    not_finite: list[str] = []
    for index, name in enumerate(ids):
        rows = store.rows(index)
        if _digest_rows(rows) != utterances[index]:
            rotten.append(name)
        elif not all(np.isfinite(chunk).all() for chunk in _chunks(rows)):
            not_finite.append(name)
        if progress is not None:
            progress(index + 1, len(ids))
    return Damage(tuple(rotten), tuple(damaged), tuple(not_finite))


def require_undamaged(store: Store, *, most_bytes: int = CHECKED_BYTES) -> None:
    """Refuse a store in which something is not what was written.

    Args:
        store: The store.
        most_bytes: Larger embeddings are not read: they are left to `embedkit verify`.

    Raises:
        StoreError: something in it does not match its digest.
    """
    damage = find_damage(store, embeddings=store.size_bytes <= most_bytes)
    if damage.utterances or damage.parts:
        raise _damaged(store, [*damage.utterances, *damage.parts])
    if damage:
        raise StoreError(
            f"The store {str(store.path)!r} holds values that are not finite ({list_some(damage.not_finite, 3)}); "
            "extract again with --overwrite."
        )


def intact_rows(store: Store) -> Callable[[int], UtteranceEmbedding]:
    """Return a reader of one utterance's rows that refuses what does not match its digest."""
    checksums = _checksums(store, layout.UTTERANCE_CHECKSUMS)

    def read(index: int) -> UtteranceEmbedding:
        rows = store.rows(index)
        if _digest_rows(rows) != checksums[index]:
            raise _damaged(store, [_ids(store)[index]])
        return rows

    return read


def _damaged(store: Store, what: list[str]) -> StoreError:
    return StoreError(
        f"The store {str(store.path)!r} is damaged ({list_some(what, 3)}); extract again with --overwrite."
    )


def _digest_rows(rows: UtteranceEmbedding) -> str:
    return layout.digest_bytes(*(np.ascontiguousarray(one).reshape(-1).view(np.uint8).data for one in _chunks(rows)))


def _chunks(rows: UtteranceEmbedding) -> list[layout.Array]:
    return [rows.mean, rows.std, *([] if rows.frames is None else [rows.frames])]


def _ids(store: Store) -> list[str]:
    return [value.decode(errors="replace") for value in store.raw_part(f"{layout.UTTERANCES}/id").tolist()]


def _damaged_parts(store: Store, checksums: list[str]) -> list[str]:
    raw_names = store.raw_part(layout.PART_NAMES).tolist()
    names = [name.decode(errors="replace") for name in raw_names]
    if len(names) != len(checksums):
        return ["checksums"]
    stored = dict(zip(names, checksums, strict=True))
    damaged = [name for name in names if _digest(store, name) != stored[name]]
    expected = {f"{layout.UTTERANCES}/{column}" for column in store.columns} | {"attributes"}
    expected |= {layout.FRAME_OFFSETS} if store.has_frames else set()
    expected |= set(layout.SHARD_COLUMNS) if store.shards else set()
    return damaged + sorted(expected - set(names))


def _digest(store: Store, part: str) -> str:
    if part == "attributes":
        return layout.digest_attributes(store.attributes)
    try:
        return layout.digest_column(store.raw_part(part))
    except StoreError:
        return ""


def _checksums(store: Store, part: str) -> list[str]:
    return [value.decode(errors="replace") for value in store.raw_part(part).tolist()]
