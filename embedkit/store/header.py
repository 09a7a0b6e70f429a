"""Read and check what describes a store: attributes, shapes, types, and where the values lie in the file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from embedkit.errors import StoreError
from embedkit.received import describe_pointer, open_regular
from embedkit.store import layout
from embedkit.store.described import check_described
from embedkit.store.layout import Array
from embedkit.store.locations import ArrayLocation, Stamp, file_stamp, place_of, read_attributes, reading
from embedkit.store.schema import check_contents, open_array
from embedkit.store.shards import find_shards

_DIGEST = re.compile(rf"[0-9a-f]{{{layout.DIGEST_LENGTH}}}")


@dataclass(frozen=True)
class Header:
    """What a store says of itself.

    Attributes:
        path: The file, absolute: the current folder may be another one when something is read later.
        attributes: Root attributes as stored.
        described: The JSON attributes, decoded.
        columns: Names of the columns.
        places: Embedding arrays by name: one place, or one in every shard.
        frame_offsets: int64 `[utterances + 1]`; None where frames are not kept.
        stamp: The file as it was when the header was read.
    """

    path: Path
    attributes: dict[str, Any]
    described: dict[str, dict[str, Any]]
    columns: tuple[str, ...]
    places: dict[str, tuple[ArrayLocation, ...]]
    frame_offsets: Array | None
    stamp: Stamp

    @property
    def size(self) -> int:
        """Bytes of the store's file and its shards."""
        files = {place.path: place.stamp[1] for places in self.places.values() for place in places}
        return sum({**files, self.path: self.stamp[1]}.values())


def read_header(path: Path) -> Header:
    """Read the header of a store and check that the file is a whole one, and that every shard is there.

    Raises:
        StoreError: no such file, a foreign, incomplete, damaged or truncated one, a newer format, or a shard that is
            missing or another one.
    """
    try:
        open_regular(path).close()
    except FileNotFoundError as error:
        raise StoreError(f"There is no store {str(path)!r}; `embedkit extract` writes one.") from error
    except OSError as error:
        raise StoreError(f"The store {str(path)!r} cannot be read ({error.strerror}); check the path.") from error
    if not h5py.is_hdf5(path):
        pointer = describe_pointer(path)
        found = f": {pointer}" if pointer else ", or its beginning is damaged; expected a store of embedkit"
        raise StoreError(f"{str(path)!r} is not an HDF5 file{found}.")
    with reading(path):
        stamp = file_stamp(path)
        with h5py.File(path, "r", locking=False) as file:
            return _read(path, file, stamp)


def _read(path: Path, file: Any, stamp: tuple[int, int, int]) -> Header:
    attributes = read_attributes(file)
    _check_kind(path, attributes)
    described = check_described(attributes)
    found = check_contents(file, stamp[1], attributes["format_version"])
    first = [name for name in (*layout.STANDARD_COLUMNS, *layout.MEASURED_COLUMNS) if name in found.columns]
    columns = (*first, *sorted(set(found.columns) - set(first)))
    arrays = [layout.MEAN, layout.STD, *([] if found.frame_offsets is None else [layout.FRAME_VALUES])]
    if found.shards:
        places = find_shards(path, file, arrays, found)
    else:
        places = {name: (place_of(path, open_array(file, name), stamp),) for name in arrays}
    header = Header(
        path=path.absolute(),
        attributes=attributes,
        described=described,
        columns=columns,
        places=places,
        frame_offsets=found.frame_offsets,
        stamp=stamp,
    )
    _check_shapes(path, header, found.utterances)
    return header


def _check_kind(path: Path, attributes: dict[str, Any]) -> None:
    if attributes.get("format") == layout.SHARD_FORMAT:
        raise StoreError(f"{str(path)!r} is a shard of a store; expected the store, which lies beside its folder.")
    if attributes.get("format") != layout.FORMAT:
        raise StoreError(f"{str(path)!r} is an HDF5 file, but not a store of embedkit.")
    version = attributes.get("format_version")
    if type(version) is not int or not layout.SINGLE_VERSION <= version <= layout.FORMAT_VERSION:
        raise StoreError(
            f"The store {str(path)!r} has format version {version!r}, and this embedkit reads "
            f"{layout.SINGLE_VERSION} up to version {layout.FORMAT_VERSION}; update embedkit."
        )
    if attributes.get("complete") is not True:
        raise StoreError(f"The store {str(path)!r} is not complete; run the extraction that writes it again.")
    if not _DIGEST.fullmatch(attributes["digest"]):
        raise ValueError(f"its digest is {attributes['digest'][:40]!r}")


def _check_shapes(path: Path, header: Header, count: int) -> None:
    encoder = header.described["encoder"]
    row = (len(encoder["layers"]), encoder["dimensions"])
    expected: dict[str, tuple[int, ...]] = {layout.MEAN: (count, *row), layout.STD: (count, *row)}
    offsets = header.frame_offsets
    if offsets is not None:
        expected[layout.FRAME_VALUES] = (int(offsets[-1]), *row)
    for name, shape in expected.items():
        places = header.places[name]
        found = (sum(place.shape[0] for place in places), *places[0].shape[1:])
        if found != shape or any(place.shape[1:] != shape[1:] for place in places):
            raise StoreError(f"/{name} of the store {str(path)!r} has the shape {found}, expected {shape}.")
