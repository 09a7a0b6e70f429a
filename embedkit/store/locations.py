"""Where arrays lie in files, and what goes wrong while files are read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np

from embedkit.errors import StoreError
from embedkit.received import MOST_JSON

_MOST_ATTRIBUTES = 256

Stamp: TypeAlias = tuple[int, int, int]
"""Inode, size and modification time of a file."""


@dataclass(frozen=True)
class ArrayLocation:
    """Where an array, or the part of it that a shard holds, lies: in which file (as it was then), from which byte."""

    path: Path
    stamp: Stamp
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def file_stamp(path: Path) -> Stamp:
    """Return what changes when a file is replaced: inode, size, modification time."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file does to a reader into one sentence."""
    try:
        yield
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
    if "file locking flag" in reason:
        return (
            f"The store {str(path)!r} is open in this program with locks, and cannot be read beside that; close it, or "
            "open it with h5py.File(path, locking=False)."
        )
    if "truncated" in reason:
        reason = "it is truncated"
    return f"The store {str(path)!r} is damaged ({reason}); restore a copy, or extract again with --overwrite."


def read_attributes(file: Any) -> dict[str, Any]:
    """Return the root attributes as plain values.

    Raises:
        ValueError: there are too many, or one is no single text, number or truth value, or too long.
    """
    if len(file.attrs) > _MOST_ATTRIBUTES:
        raise ValueError(f"it has {len(file.attrs)} attributes, expected at most {_MOST_ATTRIBUTES}")
    return {name: _read_attribute(name, file.attrs) for name in file.attrs}


def _read_attribute(name: str, attributes: Any) -> Any:
    known = attributes.get_id(name)
    is_text = known.dtype.kind == "S" or h5py.check_string_dtype(known.dtype) is not None
    if known.shape != () or not (is_text or known.dtype.kind in "iufb"):
        raise ValueError(f"its attribute {name!r} holds {known.dtype} {known.shape}, expected one text or number")
    value = attributes[name]
    value = value.decode() if isinstance(value, bytes) else value.item() if isinstance(value, np.generic) else value
    # HDF5 hands damaged text over with surrogates in it; that must not wait until somebody encodes it.
    if isinstance(value, str) and len(value.encode()) > MOST_JSON:
        raise ValueError(f"its attribute {name!r} has more than {MOST_JSON // 1024**2} MiB")
    return value


def place_of(path: Path, dataset: Any, stamp: Stamp) -> ArrayLocation:
    """Return where a dataset lies.

    Raises:
        StoreError: it is not one contiguous stretch of the file.
    """
    offset = dataset.id.get_offset()
    if offset is None or offset + dataset.nbytes > stamp[1]:
        raise StoreError(f"{dataset.name} in the store {str(path)!r} is not one contiguous stretch of the file.")
    return ArrayLocation(path.absolute(), stamp, offset, dataset.shape, dataset.dtype)
