"""A store in several files: which utterances share a shard, what shards are called, which ones are still needed.

Shards lie in the folder `<store>.shards` and are named after their content, so that a store that is written anew never
touches the shards of the one that is there before the new one has its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embedkit.store import layout
from embedkit.store.hdf5 import Piece
from embedkit.store.layout import Array
from embedkit.writing import is_temporary

_OURS = re.compile(rf"[0-9a-f]{{{layout.DIGEST_LENGTH}}}\.hdf5|\d+\.part")
"""Our shards, finished and, by the names of earlier versions, unfinished."""


@dataclass(frozen=True)
class Shard:
    """One finished shard file.

    Attributes:
        path: The file.
        digest: Of its utterances' digests.
        utterances, frames: How many it holds.
        size: Bytes of the file.
        checksums: Digests of its utterances.
        is_new: Whether no file of that name was there before.
    """

    path: Path
    digest: str
    utterances: int
    frames: int
    size: int
    checksums: tuple[str, ...]
    is_new: bool


def shard_folder(path: Path) -> Path:
    """Return the folder of a store's shards."""
    return path.with_name(path.name + ".shards")


def shard_name(digest: str) -> str:
    """Return the name of a shard's file; it does not end like a store's."""
    return f"{digest}.hdf5"


def cut_rows(sizes: Sequence[int], most_bytes: float) -> Iterator[tuple[int, int]]:
    """Cut utterances of these sizes into runs `first:last` of at most `most_bytes`, at least one utterance each."""
    first, total = 0, 0
    for index, size in enumerate(sizes):
        if index > first and total + size > most_bytes:
            yield first, index
            first, total = index, 0
        total += size
    yield first, len(sizes)


def shard_columns(path: Path, shards: Sequence[Shard]) -> dict[str, Array]:
    """Return what a store's file keeps of its shards, one row each; nothing where there are none."""
    if not shards:
        return {}
    names = [relative_name(path.parent, shard.path) for shard in shards]
    return {
        layout.SHARD_FILES: layout.encode_texts(layout.SHARD_FILES, names),
        layout.SHARD_DIGESTS: layout.encode_texts(layout.SHARD_DIGESTS, [shard.digest for shard in shards]),
        layout.SHARD_UTTERANCES: np.array([shard.utterances for shard in shards], "<i8"),
        layout.SHARD_FRAMES: np.array([shard.frames for shard in shards], "<i8"),
        layout.SHARD_SIZES: np.array([shard.size for shard in shards], "<i8"),
    }


def pieces_of(folder: Path, shards: Sequence[Shard], name: str) -> list[Piece]:
    """Return where the rows of a virtual dataset lie, for a file in `folder`."""
    framed = name == layout.FRAME_VALUES
    return [Piece(relative_name(folder, shard.path), shard.frames if framed else shard.utterances) for shard in shards]


def relative_name(folder: Path, path: Path) -> str:
    """Return a path relative to a folder, with "/" between its parts."""
    return path.relative_to(folder).as_posix()


def remove_other_shards(path: Path, shards: Iterable[Path]) -> None:
    """Remove all shards of a store but these, which it refers to."""
    folder = shard_folder(path)
    kept = {shard.name for shard in shards}
    if folder.is_dir():
        for file in folder.iterdir():
            if file.name not in kept and (_OURS.fullmatch(file.name) or is_temporary(file.name)):
                file.unlink()
        remove_folder_if_empty(folder)


def remove_folder_if_empty(folder: Path) -> None:
    """Remove the folder of a store's shards unless something lies in it."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
