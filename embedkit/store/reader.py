"""Read a store: columns and statistics as numpy arrays, frames straight from the file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from embedkit.arguments import checked
from embedkit.errors import StoreError
from embedkit.registry import unknown_name
from embedkit.showing import draw_facts
from embedkit.store import layout
from embedkit.store.frames import as_frame
from embedkit.store.header import Header, read_header
from embedkit.store.layout import Array
from embedkit.store.locations import file_stamp, reading
from embedkit.store.pieces import Pieces
from embedkit.store.schema import open_small
from embedkit.store.writer import UtteranceEmbedding


@checked("embedkit.open_store")
def open_store(path: str | os.PathLike[str]) -> Store:
    """Open a store for reading.

    Raises:
        StoreError: no such file, a foreign, incomplete, damaged or truncated one, or a newer format.
    """
    return Store(path)


class Store:
    """The embeddings of one encoder over one corpus, with the corpus's columns.

    No HDF5 handle stays open: columns are read when first asked for, embeddings are mapped into memory. A store can
    be used as a context manager, can cross a fork, and travels to another process as its path.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._header: Header = read_header(self.path)
        self._columns: dict[str, Array] = {}
        self._pieces = {name: Pieces(places) for name, places in self._header.places.items()}

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return open_store, (self._header.path,)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the memory maps; a store that is used again maps the file again."""
        for pieces in self._pieces.values():
            pieces.close()

    def __len__(self) -> int:
        return len(self._pieces[layout.MEAN])

    def __repr__(self) -> str:
        name = self.encoder.get("name", "?")
        return f"<Store {self.path}: {self.corpus}, {name}, {len(self)} utterances>"

    def _repr_html_(self) -> str:
        facts = {
            "corpus": self.corpus,
            "encoder": self.encoder.get("name"),
            "utterances": f"{len(self):,}",
            "layers": len(self.layers),
            "dimensions": self.dimensions,
            "kept": "utterance statistics and frames" if self.has_frames else "utterance statistics",
            "columns": ", ".join(self.columns),
        }
        return draw_facts(f"Store {self.path}", facts)

    @property
    def corpus(self) -> str:
        """Name of the corpus."""
        return str(self._header.attributes["corpus"])

    @property
    def corpus_info(self) -> dict[str, Any]:
        """kind, root, task and notes of the corpus."""
        return {"root": "", **self._header.described["corpus_info"]}

    @property
    def task(self) -> dict[str, Any]:
        """The corpus's standard task: `classes` (empty means every label) and `merge` (label -> label)."""
        return {"classes": [], "merge": {}, **self.corpus_info.get("task", {})}

    @property
    def encoder(self) -> dict[str, Any]:
        """Everything that determines the numbers."""
        return self._header.described["encoder"]

    @property
    def extraction(self) -> dict[str, Any]:
        """How the numbers were made: plan, threads, device, selection."""
        return self._header.described["extraction"]

    @property
    def trained_on(self) -> dict[str, Any]:
        """Speakers and utterances that the encoder was fine-tuned on; empty where it was not."""
        return self._header.described["trained_on"]

    @property
    def fingerprint(self) -> str:
        """Digest of the encoder and of the options that matter."""
        return str(self._header.attributes["fingerprint"])

    @property
    def digest(self) -> str:
        """Digest of everything in the store; two stores with equal content have the same."""
        return str(self._header.attributes["digest"])

    @property
    def attributes(self) -> dict[str, Any]:
        """The root attributes as stored."""
        return dict(self._header.attributes)

    @property
    def layers(self) -> tuple[int, ...]:
        """Numbers of the layers kept."""
        return tuple(self.encoder["layers"])

    @property
    def dimensions(self) -> int:
        """Size of a frame's vector."""
        return int(self.encoder["dimensions"])

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return float(self.encoder["frame_rate"])

    @property
    def has_frames(self) -> bool:
        """Whether the frames are kept."""
        return self._header.frame_offsets is not None

    @property
    def size_bytes(self) -> int:
        """Bytes of the store's file, and of its shards where it has some."""
        return self._header.size

    @property
    def shards(self) -> tuple[Path, ...]:
        """Files that hold the embeddings of a store kept in several files; empty where it is one file."""
        paths = [place.path for place in self._header.places[layout.MEAN]]
        return tuple(paths) if paths != [self._header.path] else ()

    @property
    def levels(self) -> tuple[str, ...]:
        """What is kept: ("utterance",) or ("utterance", "frame")."""
        return ("utterance", "frame") if self.has_frames else ("utterance",)

    @property
    def frame_dtype(self) -> str | None:
        """Type of the frames, "float16" or "float32"; None where they are not kept."""
        return self._pieces[layout.FRAME_VALUES].dtype.name if self.has_frames else None

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns: the standard ones, the measured ones, then the corpus's own."""
        return self._header.columns

    @property
    def ids(self) -> Array:
        """Utterance ids, `[utterances]`."""
        return self.column("id")

    @property
    def labels(self) -> Array:
        """Labels, `[utterances]`."""
        return self.column("label")

    @property
    def speakers(self) -> Array:
        """Speakers, `[utterances]`; empty text where unknown."""
        return self.column("speaker")

    @property
    def sessions(self) -> Array:
        """Sessions, `[utterances]`; empty text where the corpus has none."""
        return self.column("session")

    @property
    def splits(self) -> Array:
        """Given splits, `[utterances]`; empty text where the corpus has none."""
        return self.column("split")

    def column(self, name: str) -> Array:
        """Return a column `[utterances]`: texts as `str`, numbers as int64 or float64, booleans.

        Raises:
            StoreError: there is no such column, or it is damaged.
        """
        if name not in self.columns:
            raise StoreError(unknown_name("column", name, self.columns))
        if name not in self._columns:
            self._columns[name] = self._decode(name, self.raw_part(f"{layout.UTTERANCES}/{name}"))
        return self._columns[name]

    @property
    def failures(self) -> Mapping[str, str]:
        """Utterances that could not be used: id -> reason."""
        return dict(zip(self.failure_column("id").tolist(), self.failure_column("reason").tolist(), strict=True))

    def failure_column(self, name: str) -> Array:
        """Return a column of the failures, `[failures]`; empty where there is no such column."""
        part = f"{layout.FAILURES}/{name}"
        return self._decode(part, self.raw_part(part)) if self.has_part(part) else np.empty(0)

    def mean(self, layer: int | Literal["average", "all"] = "average") -> NDArray[np.float32]:
        """Return each utterance's mean over its own frames.

        Args:
            layer: A layer's number or "average" (the mean over the layers kept), both `[utterances, dimensions]`;
                or "all", `[utterances, layers, dimensions]`.

        Raises:
            StoreError: the layer is not kept.
        """
        return self._statistics(layout.MEAN, layer)

    def std(self, layer: int | Literal["average", "all"] = "average") -> NDArray[np.float32]:
        """Return the population standard deviation over each utterance's own frames; `[N, ...]` as in `mean`."""
        return self._statistics(layout.STD, layer)

    def frames(self, index: int) -> Array:
        """Return the frames of one utterance, `[frames, layers, dimensions]`, read-only and straight from the file.

        Raises:
            StoreError: the store keeps no frames.
        """
        offsets = self.frame_offsets
        if not -len(self) <= index < len(self):
            raise IndexError(f"There is no utterance {index}, the store has {len(self)}.")
        index %= len(self)
        return np.asarray(self.frame_values[offsets[index] : offsets[index + 1]])

    def to_frame(
        self, embeddings: Literal["mean", "std"] | None = None, *, layer: int | Literal["average", "all"] = "average"
    ) -> Any:
        """Return a data frame of pandas: a row an utterance, its columns, and embeddings as "mean_0", "mean_1", ...

        Args:
            embeddings: Which statistic is added; None for the columns alone.
            layer: As for `mean`; with "all" the names tell the layer ("mean_12_0").

        Raises:
            StoreError: pandas is not installed (extra `tables`), the layer is not kept, or one is named without
                embeddings.
        """
        if embeddings is None and layer != "average":
            raise StoreError(
                f"The layer {layer!r} is named, but no embeddings; give embeddings='mean' or 'std' as well."
            )
        return as_frame(self, embeddings, layer)

    def take(self, statistic: Literal["mean", "std"], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the means or deviations of rows `[n]`, `[n, layers, dimensions]`, and leave none in memory beside."""
        name = {"mean": layout.MEAN, "std": layout.STD}[statistic]
        return self._pieces[name].take(rows).astype(np.float32, copy=False)

    @property
    def frame_offsets(self) -> NDArray[np.int64]:
        """int64 `[utterances + 1]`: the frames of utterance i are rows `offsets[i]:offsets[i + 1]`."""
        if self._header.frame_offsets is None:
            raise StoreError(
                f"The store {str(self.path)!r} keeps no frames; extract again with --level frame and another --out."
            )
        return self._header.frame_offsets

    @property
    def frame_values(self) -> Array | Pieces:
        """All frames, `[all frames, layers, dimensions]`, mapped into memory read-only.

        Of a store in several files they are no single array, but are sliced, indexed and converted like one.
        """
        _ = self.frame_offsets
        pieces = self._pieces[layout.FRAME_VALUES]
        return pieces.map(0) if pieces.count == 1 else pieces

    def rows(self, index: int) -> UtteranceEmbedding:
        """Return copies of everything kept of one utterance, by plain reads that leave no pages mapped."""
        frames = None
        if self._header.frame_offsets is not None:
            start, stop = (int(offset) for offset in self._header.frame_offsets[index : index + 2])
            frames = self._pieces[layout.FRAME_VALUES].read(start, stop)
        mean, std = (self._pieces[name].read(index, index + 1)[0] for name in (layout.MEAN, layout.STD))
        return UtteranceEmbedding(mean, std, frames)

    def has_part(self, name: str) -> bool:
        """Tell whether a dataset exists ("utterances/label")."""
        folder, _, column = name.partition("/")
        with reading(self.path), self._opened() as file:
            return folder in file and layout.link_name(column) in file[folder]

    def raw_part(self, name: str) -> Array:
        """Return a small dataset as stored: texts as UTF-8 bytes.

        Raises:
            StoreError: it is missing or cannot be read.
        """
        with reading(self.path), self._opened() as file:
            values: Array = open_small(file, name, self._header.stamp[1])[...]
        return values

    def _opened(self) -> Any:
        self._check_unchanged()
        return h5py.File(self._header.path, "r", locking=False)

    def _check_unchanged(self) -> None:
        if not self._header.path.exists() or file_stamp(self._header.path) != self._header.stamp:
            raise StoreError(
                f"The store {str(self.path)!r} was replaced or removed since it was opened; open it again."
            )

    def _decode(self, name: str, values: Array) -> Array:
        if values.dtype.kind != "S":
            return values
        try:
            return np.array([value.decode() for value in values.tolist()], dtype=np.str_)
        except UnicodeDecodeError as error:
            raise StoreError(
                f"Column {name!r} of the store {str(self.path)!r} is damaged; run `embedkit verify`."
            ) from error

    def _statistics(self, name: str, layer: int | str) -> NDArray[np.float32]:
        pieces = self._pieces[name]
        if layer == "all":
            return np.concatenate([np.asarray(piece, np.float32) for piece in pieces.maps()])
        if layer == "average":
            return np.concatenate([piece.mean(axis=1, dtype=np.float32) for piece in pieces.maps()])
        if layer not in self.layers:
            kept = ", ".join(map(str, self.layers))
            raise StoreError(
                f"The store {str(self.path)!r} has no layer {layer!r}; expected one of {kept}, average, all."
            )
        place = self.layers.index(int(layer))
        return np.concatenate([np.asarray(piece[:, place], np.float32) for piece in pieces.maps()])
