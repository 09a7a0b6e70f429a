"""Convert: write a store's columns and embeddings in a form that other programs read."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from embedkit.arguments import checked
from embedkit.cells import write_cell
from embedkit.errors import ConfigError, StoreError
from embedkit.registry import import_extra
from embedkit.store import open_store
from embedkit.store.frames import embedding_columns
from embedkit.writing import new_file

Form = Literal["npy", "csv", "parquet"]

_OTHERWISE = "name another file with --out"

_HDF5 = b"\x89HDF\r\n\x1a\n"
"""What files of HDF5 begin with."""


@checked("embedkit.convert")
def convert_store(
    store: str | os.PathLike[str],
    to: Form,
    *,
    out: str | os.PathLike[str] | None = None,
    layer: int | Literal["average", "all"] = "average",
    statistic: Literal["mean", "std"] = "mean",
    overwrite: bool = False,
) -> list[Path]:
    """Write a store's utterances with their embeddings.

    "csv" and "parquet" hold a row an utterance: the store's columns, then `mean_0`, `mean_1`, ...; in Parquet, texts
    are texts and numbers numbers, embeddings float32. "npy" is the array alone, `[utterances, dimensions]` (with
    `layer` "all" `[utterances, layers, dimensions]`), and the columns are a CSV file beside it.

    Args:
        store: Its path.
        to: The form.
        out: The file; None for the store's name with another ending, beside it.
        layer: A layer's number, "average" or "all".
        statistic: "mean" or "std".
        overwrite: Whether files that are there are replaced.

    Returns:
        The files.

    Raises:
        ConfigError: a file that is there, or cannot be written.
        StoreError: a damaged store, a layer that is not kept, or pyarrow is missing for Parquet.
    """
    opened = open_store(store)
    path = Path(opened.path.with_suffix(f".{to}") if out is None else out).expanduser()
    beside = [path.with_name(f"{path.stem}.columns.csv")] if to == "npy" else []
    for place in (path, *beside):
        if place.exists() and not overwrite:
            raise ConfigError(f"{str(place)!r} is there already; {_OTHERWISE}, or give --overwrite.")
        if _is_hdf5(place):
            raise ConfigError(f"{str(place)!r} is a store, or a part of one, and no table replaces it; {_OTHERWISE}.")
    columns = {name: opened.column(name) for name in opened.columns}
    if to == "npy":
        with new_file(path, error=ConfigError, otherwise=_OTHERWISE) as part, part.open("wb") as file:
            np.save(file, (opened.mean if statistic == "mean" else opened.std)(layer), allow_pickle=False)
        _write_csv(beside[0], columns, [], np.empty((len(opened), 0), np.float32))
        return [path, *beside]
    names, values = embedding_columns(opened, statistic, layer)
    (_write_csv if to == "csv" else _write_parquet)(path, columns, names, values)
    return [path]


def _is_hdf5(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_HDF5)) == _HDF5


def _write_csv(path: Path, columns: dict[str, Any], names: list[str], values: NDArray[np.float32]) -> None:
    with (
        new_file(path, error=ConfigError, otherwise=_OTHERWISE) as part,
        part.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*columns, *names])
        writer.writerows(_rows(columns, values))


def _rows(columns: dict[str, Any], values: NDArray[np.float32]) -> Iterator[list[Any]]:
    lists = [column.tolist() for column in columns.values()]
    for number, row in enumerate(values):
        cells = [one[number] for one in lists]
        # A missing rating is an empty cell; float32 is written in as few digits as it takes to read it back.
        yield [*("" if cell != cell else write_cell(cell) for cell in cells), *map(str, row)]


def _write_parquet(path: Path, columns: dict[str, Any], names: list[str], values: NDArray[np.float32]) -> None:
    arrow = import_extra(
        "pyarrow", extra="tables", needed_by="--to parquet", error=StoreError, otherwise="take --to csv"
    )
    from pyarrow import parquet

    arrays = {
        name: arrow.array(column.tolist() if column.dtype.kind == "U" else column) for name, column in columns.items()
    }
    arrays |= {name: arrow.array(values[:, place]) for place, name in enumerate(names)}
    with new_file(path, error=ConfigError, otherwise=_OTHERWISE) as part:
        parquet.write_table(arrow.table(arrays), part)
