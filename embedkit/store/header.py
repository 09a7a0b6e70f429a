"""Read and check what describes a store: attributes, shapes, types, and where the values lie in the file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from embedkit.errors import StoreError
from embedkit.store import layout
from embedkit.store.layout import Array


@dataclass(frozen=True)
class Place:
    """Where an array lies in the file."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Header:
    """What a store says of itself.

    Attributes:
        attributes: Root attributes as stored.
        described: The JSON attributes, decoded.
        columns: Names of the columns.
        places: Embedding arrays by name.
        frame_offsets: int64 `[utterances + 1]`; None where frames are not kept.
        stamp: Inode, size and modification time when the header was read.
    """

    attributes: dict[str, Any]
    described: dict[str, dict[str, Any]]
    columns: tuple[str, ...]
    places: dict[str, Place]
    frame_offsets: Array | None
    stamp: tuple[int, int, int]


def file_stamp(path: Path) -> tuple[int, int, int]:
    """Return what changes when a file is replaced: inode, size, modification time."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def read_header(path: Path) -> Header:
    """Read the header of a store and check that the file is a whole one.

    Raises:
        StoreError: no such file, a foreign, incomplete, damaged or truncated one, or a newer format.
    """
    if not path.is_file():
        raise StoreError(f"There is no store {str(path)!r}; `embedkit extract` writes one.")
    if not h5py.is_hdf5(path):
        raise StoreError(
            f"{str(path)!r} is not an HDF5 file, or its beginning is damaged; expected a store of embedkit."
        )
    try:
        stamp = file_stamp(path)
        with h5py.File(path, "r", locking=False) as file:
            return _read(path, file, stamp)
    except StoreError:
        raise
    except (
        OSError,
        RuntimeError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        OverflowError,
        MemoryError,
    ) as error:
        raise StoreError(damaged(path, error)) from error


def damaged(path: Path, error: Exception) -> str:
    """Write the sentence for a file that HDF5 cannot read."""
    reason = " ".join(str(error).split()).rstrip(".")
    if "truncated" in reason:
        reason = "it is truncated"
    return f"The store {str(path)!r} is damaged ({reason}); restore a copy, or extract again with --overwrite."


def _read(path: Path, file: Any, stamp: tuple[int, int, int]) -> Header:
    attributes = {name: _plain(value) for name, value in file.attrs.items()}
    _check_kind(path, attributes)
    described = {name: json.loads(attributes[name]) for name in layout.JSON_ATTRIBUTES}
    names = [layout.column_name(link) for link in file[layout.UTTERANCES]]
    first = [name for name in (*layout.STANDARD_COLUMNS, *layout.MEASURED_COLUMNS) if name in names]
    columns = (*first, *sorted(set(names) - set(first)))
    framed = layout.FRAME_VALUES in file
    arrays = [layout.MEAN, layout.STD, *([layout.FRAME_VALUES] if framed else [])]
    header = Header(
        attributes=attributes,
        described=described,
        columns=columns,
        places={name: _place(path, file[name]) for name in arrays},
        frame_offsets=file[layout.FRAME_OFFSETS][...] if framed else None,
        stamp=stamp,
    )
    _check_shapes(path, header, len(file[f"{layout.UTTERANCES}/id"]))
    return header


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return value.item() if isinstance(value, np.generic) else value


def _check_kind(path: Path, attributes: dict[str, Any]) -> None:
    if attributes.get("format") != layout.FORMAT:
        raise StoreError(f"{str(path)!r} is an HDF5 file, but not a store of embedkit.")
    version = attributes.get("format_version")
    if not isinstance(version, int) or version > layout.FORMAT_VERSION:
        raise StoreError(
            f"The store {str(path)!r} has format version {version}, and this embedkit reads up to version "
            f"{layout.FORMAT_VERSION}; update embedkit."
        )
    if attributes.get("complete") is not True:
        raise StoreError(f"The store {str(path)!r} is not complete; run the extraction that writes it again.")


def _place(path: Path, dataset: Any) -> Place:
    offset = dataset.id.get_offset()
    if offset is None or offset + dataset.nbytes > path.stat().st_size:
        raise StoreError(f"{dataset.name} in the store {str(path)!r} is not one contiguous stretch of the file.")
    return Place(offset, dataset.shape, dataset.dtype)


def _check_shapes(path: Path, header: Header, count: int) -> None:
    encoder = header.described["encoder"]
    row = (len(encoder["layers"]), encoder["dimensions"])
    expected: dict[str, tuple[int, ...]] = {layout.MEAN: (count, *row), layout.STD: (count, *row)}
    offsets = header.frame_offsets
    if offsets is not None:
        if len(offsets) != count + 1 or offsets[0] != 0 or (np.diff(offsets) < 1).any():
            raise StoreError(f"The frame offsets of the store {str(path)!r} do not ascend from 0; the file is damaged.")
        expected[layout.FRAME_VALUES] = (int(offsets[-1]), *row)
    for name, shape in expected.items():
        if header.places[name].shape != shape:
            found = header.places[name].shape
            raise StoreError(f"/{name} of the store {str(path)!r} has the shape {found}, expected {shape}.")
