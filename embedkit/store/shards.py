"""Find the shards of a store that is kept in several files, and check that each is the right one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

import h5py

from embedkit.errors import StoreError
from embedkit.received import open_regular
from embedkit.store import layout
from embedkit.store.locations import ArrayLocation, file_stamp, place_of, read_attributes, reading
from embedkit.store.schema import Contents, open_array, open_small


class Expected(NamedTuple):
    """What a store says of one of its shards."""

    file: str
    digest: str
    utterances: int
    frames: int
    size: int


def find_shards(
    path: Path, file: Any, arrays: Sequence[str], contents: Contents
) -> dict[str, tuple[ArrayLocation, ...]]:
    """Return where the arrays of an opened store lie in its shards; no embeddings are read.

    Raises:
        StoreError: a shard is missing, has another size or digest than when the store was written, or lies elsewhere
            than the store's virtual arrays say.
    """
    size = file_stamp(path)[1]
    columns = [open_small(file, name, size)[...].tolist() for name in layout.SHARD_COLUMNS]
    expected = [
        Expected(name.decode(), digest.decode(), *counts) for name, digest, *counts in zip(*columns, strict=True)
    ]
    _check_cuts(expected, contents)
    found = [_open_shard(path, shard, arrays) for shard in expected]
    for name in arrays:
        dataset = open_array(file, name, virtual=True)
        _check_virtual(path, dataset, [shard.file for shard in expected], [places[name] for places in found])
    return {name: tuple(places[name] for places in found) for name in arrays}


def _check_cuts(expected: Sequence[Expected], contents: Contents) -> None:
    """Check that shards hold whole utterances, and all of them."""
    last = list(accumulate(shard.utterances for shard in expected))
    if not expected or min(shard.utterances for shard in expected) < 1 or last[-1] != contents.utterances:
        raise ValueError(f"its shards do not hold the {contents.utterances:,} utterances")
    frames = list(accumulate(shard.frames for shard in expected))
    offsets = contents.frame_offsets
    if frames != ([0] * len(frames) if offsets is None else offsets[last].tolist()):
        raise ValueError("its shards do not hold the frames of their utterances")


def _open_shard(path: Path, expected: Expected, arrays: Sequence[str]) -> dict[str, ArrayLocation]:
    name = PurePosixPath(expected.file)
    if name.is_absolute() or ".." in name.parts or "\\" in expected.file or PureWindowsPath(expected.file).drive:
        raise StoreError(f"The store {str(path)!r} refers to {expected.file!r}, expected a path below its own folder.")
    shard = path.parent / name
    whole = f"restore the folder {shard.parent.name!r} beside the store, or extract again with --overwrite"
    try:
        open_regular(shard).close()
    except FileNotFoundError as error:
        raise StoreError(f"The store {str(path)!r} lacks its shard {expected.file!r}; {whole}.") from error
    except OSError as error:
        raise StoreError(
            f"The shard {expected.file!r} of the store {str(path)!r} cannot be read ({error.strerror}); {whole}."
        ) from error
    stamp = file_stamp(shard)
    if stamp[1] != expected.size:
        raise StoreError(
            f"The shard {expected.file!r} of the store {str(path)!r} has {stamp[1]} bytes, expected {expected.size}; "
            f"{whole}."
        )
    with reading(shard), h5py.File(shard, "r", locking=False) as file:
        attributes = read_attributes(file)
        digest = attributes.get("digest") if attributes.get("complete") is True else "not complete"
        if attributes.get("format") != layout.SHARD_FORMAT or digest != expected.digest:
            raise StoreError(
                f"The shard {expected.file!r} of the store {str(path)!r} has the digest {digest!r}, expected "
                f"{expected.digest!r}; {whole}."
            )
        places = {array: place_of(shard, open_array(file, array), stamp) for array in arrays}
    for array, place in places.items():
        rows = expected.frames if array == layout.FRAME_VALUES else expected.utterances
        if place.shape[0] != rows:
            raise StoreError(
                f"/{array} of the shard {expected.file!r} has {place.shape[0]} rows, expected {rows}; {whole}."
            )
    return places


def _check_virtual(path: Path, dataset: Any, files: list[str], places: list[ArrayLocation]) -> None:
    """Check that others, who read the virtual array, find what we find."""
    start, expected = 0, []
    for file, place in zip(files, places, strict=True):
        expected.append((file, dataset.name, start, place.shape[0]))
        start += place.shape[0]
    row = math.prod(dataset.shape[1:])
    found = []
    for source in dataset.virtual_sources() if dataset.id.get_create_plist().get_virtual_count() == len(files) else []:
        first, last = source.vspace.get_select_bounds()
        rows = int(last[0] - first[0] + 1)
        # As many points as there are in between: whole rows.
        whole = source.vspace.get_select_npoints() == rows * row
        name = f"/{source.dset_name}".replace("//", "/")
        found.append((source.file_name, name, int(first[0]), rows if whole else -1))
    kinds = {(place.dtype, place.shape[1:]) for place in places}
    if found != expected or dataset.shape[0] != start or kinds != {(dataset.dtype, dataset.shape[1:])}:
        raise StoreError(
            f"{dataset.name} of the store {str(path)!r} does not lead to its shards; restore a copy, or extract again "
            "with --overwrite."
        )
