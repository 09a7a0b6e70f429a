"""One array over one or several files, mapped into memory piece by piece."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from embedkit.errors import StoreError
from embedkit.store.layout import Array
from embedkit.store.locations import ArrayLocation, file_stamp
from embedkit.system import OpenFile, read_at


class Pieces:
    """An array `[rows, layers, dimensions]` whose rows lie in one or several files, one after the other.

    Slices of rows within one file are views of the mapped file; others are copies. Files are mapped when first needed.
    """

    def __init__(self, places: Sequence[ArrayLocation]) -> None:
        self._places = tuple(places)
        self._starts = [0, *accumulate(place.shape[0] for place in places)]
        self._maps: dict[int, Array] = {}
        self._files: dict[int, OpenFile] = {}
        self.dtype: np.dtype[Any] = places[0].dtype
        self.shape = (self._starts[-1], *places[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def count(self) -> int:
        """Number of files."""
        return len(self._places)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all values."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def __getitem__(self, key: Any) -> Any:
        rows, *rest = key if isinstance(key, tuple) else (key,)
        if isinstance(rows, slice) and rows.step in (None, 1):
            values = self._slice(*rows.indices(len(self))[:2])
        elif isinstance(rows, int | np.integer):
            index = range(len(self))[int(rows)]
            values = self._slice(index, index + 1)[0]
            return values[tuple(rest)] if rest else values
        else:
            indices = np.arange(len(self))[rows]
            values = np.stack([self[int(index)] for index in indices.reshape(-1)]).reshape(
                *indices.shape, *self.shape[1:]
            )
        return values[(slice(None), *rest)] if rest else values

    def __iter__(self) -> Iterator[Array]:
        return (row for piece in self.maps() for row in piece)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("The values lie in several files, an array of them is a copy.")
        return np.concatenate(list(self.maps())).astype(dtype or self.dtype, copy=False)

    def maps(self) -> Iterator[Array]:
        """Yield every file's part."""
        return (self.map(index) for index in range(self.count))

    def map(self, index: int) -> Array:
        """Return one file's part, read-only.

        Raises:
            StoreError: the file was replaced or removed since the store was opened.
        """
        if index not in self._maps:
            place = self._places[index]
            _check_unchanged(place)
            mapped = np.memmap(place.path, mode="r", dtype=place.dtype, offset=place.offset, shape=place.shape)
            self._maps[index] = mapped.view(np.ndarray)
        return self._maps[index]

    def read(self, start: int, stop: int) -> Array:
        """Return a copy of the rows `start:stop`, which lie in one file, by plain reads that leave no pages mapped."""
        index = self._piece_of(start)
        place = self._places[index]
        row = place.dtype.itemsize * int(np.prod(place.shape[1:]))
        try:
            with place.path.open("rb") as file:
                file.seek(place.offset + (start - self._starts[index]) * row)
                data = bytearray(file.read((stop - start) * row))
        except FileNotFoundError:
            _check_unchanged(place)
            raise
        return np.frombuffer(data, dtype=place.dtype).reshape(stop - start, *place.shape[1:])

    def take(self, rows: NDArray[np.int64]) -> Array:
        """Return copies of rows `[n]`, by plain reads that leave no pages mapped; neighbours are read at once.

        Raises:
            StoreError: a file was replaced, removed or cut short since the store was opened.
        """
        found = np.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        begins = np.append(True, np.diff(rows) != 1) | np.isin(rows, self._starts)
        for first, last in pairwise([*np.flatnonzero(begins[: len(rows)]).tolist(), len(rows)]):
            self._read_into(found[first:last], int(rows[first]))
        return found

    def _read_into(self, values: Array, start: int) -> None:
        """Fill `values` with the rows from `start` on, which lie in one file."""
        index = self._piece_of(start)
        place = self._places[index]
        if index not in self._files:
            _check_unchanged(place)
            self._files[index] = OpenFile(place.path)
        offset = place.offset + (start - self._starts[index]) * (values.nbytes // len(values))
        if read_at(self._files[index].descriptor, values, offset) != values.nbytes:
            raise StoreError(f"The store's file {str(place.path)!r} was cut short since it was opened; open it again.")

    def close(self) -> None:
        """Release the memory maps and the files."""
        self._maps.clear()
        self._files.clear()

    def _piece_of(self, row: int) -> int:
        return min(bisect_right(self._starts, row) - 1, self.count - 1)

    def _slice(self, start: int, stop: int) -> Array:
        first = self._piece_of(start)
        if stop <= self._starts[first + 1]:
            return self.map(first)[start - self._starts[first] : max(start, stop) - self._starts[first]]
        touched = range(first, self._piece_of(stop - 1) + 1)
        parts = [self.map(index)[max(0, start - self._starts[index]) : stop - self._starts[index]] for index in touched]
        return np.concatenate(parts)


def _check_unchanged(place: ArrayLocation) -> None:
    if not place.path.exists() or file_stamp(place.path) != place.stamp:
        raise StoreError(
            f"The store's file {str(place.path)!r} was replaced or removed since it was opened; open it again."
        )
