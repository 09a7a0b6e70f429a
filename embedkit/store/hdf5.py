"""Create HDF5 files that are the same bytes each time: fixed format bounds, fixed places, no times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from embedkit.store import layout
from embedkit.store.layout import Array

_ALIGNMENT = 64


class Piece(NamedTuple):
    """Rows of a virtual dataset: the file that holds them, relative to the virtual one, and how many there are."""

    file: str
    rows: int


@contextmanager
def opened(path: Path, mode: str) -> Iterator[h5py.File]:
    """Open a file for writing; every failed write is an `OSError`."""
    try:
        with h5py.File(
            path, mode, libver="earliest", locking=False, alignment_threshold=1, alignment_interval=_ALIGNMENT
        ) as file:
            yield file
    except RuntimeError as error:
        # HDF5 reports some failed writes without the system's error number.
        raise OSError(str(error)) from error


def create_dataset(file: h5py.File, name: str, shape: tuple[int, ...], kind: np.dtype[Any]) -> Any:
    """Create a contiguous dataset whose place in the file is fixed at once, without times."""
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.CONTIGUOUS)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    return _create(file, name, shape, kind, plan)


def create_virtual(
    file: h5py.File, name: str, shape: tuple[int, ...], kind: np.dtype[Any], pieces: Sequence[Piece]
) -> Any:
    """Create a dataset whose rows lie in datasets of the same name in other files, one file after the other.

    Rows whose file is missing read as NaN.
    """
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_fill_value(np.array(np.nan, kind))
    start = 0
    for piece in pieces:
        rows = (piece.rows, *shape[1:])
        target = h5py.h5s.create_simple(shape)
        target.select_hyperslab((start, *(0,) * (len(shape) - 1)), rows)
        plan.set_virtual(target, piece.file.encode(), name.encode(), h5py.h5s.create_simple(rows))
        start += piece.rows
    return _create(file, name, shape, kind, plan)


def fill(dataset: Any, values: Array) -> None:
    """Write a whole dataset."""
    # The dataset's own type says that texts are UTF-8; HDF5 converts no other.
    dataset[...] = values.astype(dataset.dtype)


def _create(file: h5py.File, name: str, shape: tuple[int, ...], kind: np.dtype[Any], plan: Any) -> Any:
    plan.set_obj_track_times(False)
    folder, _, column = name.partition("/")
    group = file.require_group(folder)
    kind = h5py.string_dtype("utf-8", kind.itemsize) if kind.kind == "S" else kind
    kind_id = h5py.h5t.py_create(kind, logical=True)
    space = h5py.h5s.create_simple(shape)
    return h5py.Dataset(h5py.h5d.create(group.id, layout.link_name(column).encode(), kind_id, space, plan))
