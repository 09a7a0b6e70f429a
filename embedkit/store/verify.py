"""Recompute every digest of a store and name what is damaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from embedkit.errors import StoreError
from embedkit.store import layout
from embedkit.store.reader import Store


@dataclass(frozen=True)
class Damage:
    """What does not match its digest: ids of utterances, and parts ("utterances/label", "frame/offsets", ...)."""

    utterances: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.utterances or self.parts)


def find_damage(store: Store, *, progress: Callable[[int, int], None] | None = None) -> Damage:
    """Read everything in a store and compare it with the stored digests.

    Args:
        store: The store.
        progress: Called with the number of utterances done and in all.
    """
    utterances = _checksums(store, layout.UTTERANCE_CHECKSUMS)
    parts = _checksums(store, layout.PART_CHECKSUMS)
    damaged = _damaged_parts(store, parts)
    if layout.digest_store(utterances, parts) != store.digest:
        damaged.append("checksums")
    ids = [value.decode(errors="replace") for value in store.raw_part(f"{layout.UTTERANCES}/id").tolist()]
    rotten: list[str] = []
    for index, name in enumerate(ids):
        rows = store.rows(index)
        chunks = [rows.mean, rows.std, *([] if rows.frames is None else [rows.frames])]
        flat = (np.ascontiguousarray(chunk).reshape(-1).view(np.uint8).data for chunk in chunks)
        if layout.digest_bytes(*flat) != utterances[index]:
            rotten.append(name)
        if progress is not None:
            progress(index + 1, len(ids))
    return Damage(tuple(rotten), tuple(damaged))


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
