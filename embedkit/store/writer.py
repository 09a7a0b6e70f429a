"""Write a store: a skeleton by HDF5, then the values by plain writes, under a temporary name until it is whole."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np
from numpy.typing import NDArray

from embedkit.errors import StoreError
from embedkit.store import layout
from embedkit.store.files import replace_durably, reserve_space, write_at, writing_to
from embedkit.store.layout import Array

Texts: TypeAlias = Sequence[str]

_HEADERS = 1 << 16
_PER_DATASET = 1 << 10
_ALIGNMENT = 64


@dataclass(frozen=True)
class Rows:
    """What is kept of one utterance.

    Attributes:
        mean, std: float32 `[layers, dimensions]`.
        frames: `[frames, layers, dimensions]`; None where frames are not kept.
    """

    mean: Array
    std: Array
    frames: Array | None = None


@dataclass(frozen=True, kw_only=True)
class StoreContent:
    """Everything in a store but the embeddings themselves.

    Attributes:
        corpus: Name of the corpus.
        corpus_info: kind, root, task and notes of the corpus.
        encoder: Everything that determines the numbers; must hold `layers`, `dimensions` and `frame_rate`.
        fingerprint: Digest of the encoder and the options that matter.
        columns: One value per utterance each; texts as `str`, numbers as arrays. Must hold unique `id`s.
        frame_dtype: "float16" or "float32"; None where frames are not kept.
        frame_counts: Frames of each utterance; None where frames are not kept.
        failures: id -> reason, of utterances that could not be used.
        failure_columns: Further columns of the failures, in the order of `failures`.
        extraction: How the numbers were made (plan, threads, device).
        trained_on: Speakers and utterances that the encoder was fine-tuned on.
    """

    corpus: str
    corpus_info: Mapping[str, Any]
    encoder: Mapping[str, Any]
    fingerprint: str
    columns: Mapping[str, Texts | Array]
    frame_dtype: str | None = None
    frame_counts: Sequence[int] | None = None
    failures: Mapping[str, str] = field(default_factory=dict)
    failure_columns: Mapping[str, Array] = field(default_factory=dict)
    extraction: Mapping[str, Any] = field(default_factory=dict)
    trained_on: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.columns["id"])

    @property
    def row_shape(self) -> tuple[int, int]:
        """Layers and dimensions."""
        return len(self.encoder["layers"]), int(self.encoder["dimensions"])

    @property
    def attributes(self) -> dict[str, Any]:
        """The root attributes, without the seals."""
        return {
            "format": layout.FORMAT,
            "format_version": layout.FORMAT_VERSION,
            "corpus": self.corpus,
            "fingerprint": self.fingerprint,
            **{name: layout.canonical_json(getattr(self, name)) for name in layout.JSON_ATTRIBUTES},
        }


def write_store(path: Path, content: StoreContent, rows: Iterable[Rows]) -> None:
    """Write a store; equal content gives equal bytes.

    Args:
        path: Where it goes; replaced in one step when the new one is whole and synced.
        content: Everything but the embeddings.
        rows: The embeddings, in the order of the columns; taken one by one.

    Raises:
        StoreError: content that does not fit together, or too little room (nothing half-written remains).
    """
    _check(content)
    parts = _parts(content)
    size = store_size(content, parts)
    part = path.with_name(path.name + ".part")
    try:
        with writing_to(path.parent, size):
            path.parent.mkdir(parents=True, exist_ok=True)
            _reserve(part, size)
            places = _write_skeleton(part, content, parts)
            _reserve(part, part.stat().st_size)
            checksums = _write_rows(part, places, content, rows)
            _seal(part, content, parts, checksums)
            replace_durably(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def store_size(content: StoreContent, parts: Mapping[str, Array] | None = None) -> int:
    """Return an upper bound of the file's size in bytes."""
    parts = _parts(content) if parts is None else parts
    small = sum(values.nbytes + _PER_DATASET for values in parts.values())
    texts = sum(len(str(value).encode()) for value in content.attributes.values())
    return _HEADERS + small + 2 * texts + layout.DIGEST_LENGTH * len(content) + values_size(content)


def values_size(content: StoreContent) -> int:
    """Return the bytes of the embeddings alone."""
    row = content.row_shape[0] * content.row_shape[1]
    frames = sum(content.frame_counts or ())
    return 2 * 4 * row * len(content) + frames * row * np.dtype(content.frame_dtype or "float32").itemsize


def _check(content: StoreContent) -> None:
    count = len(content)
    ids = list(content.columns["id"])
    if not count or len(set(ids)) != count:
        found = "none" if not count else f"{count - len(set(ids))} ids twice"
        raise StoreError(f"A store needs utterances with unique ids, found {found}.")
    odd = next((name for name, values in content.columns.items() if len(values) != count), None)
    if odd is not None:
        raise StoreError(f"Column {odd!r} has {len(content.columns[odd])} values, expected {count}.")
    if content.frame_counts is not None and (len(content.frame_counts) != count or min(content.frame_counts) < 1):
        raise StoreError("Every utterance needs its number of frames, at least 1.")
    if (content.frame_counts is None) != (content.frame_dtype is None):
        raise StoreError("Frames need both their counts and their type.")
    if content.frame_dtype not in (None, *layout.FRAME_DTYPES):
        raise StoreError(f"Frames of type {content.frame_dtype!r} cannot be stored, expected float16 or float32.")


def _parts(content: StoreContent) -> dict[str, Array]:
    """Return every small dataset that has a checksum of its own."""
    parts = {f"{layout.UTTERANCES}/{name}": _column(name, values) for name, values in content.columns.items()}
    if content.frame_counts is not None:
        parts[layout.FRAME_OFFSETS] = np.concatenate([[0], np.cumsum(content.frame_counts, dtype="<i8")]).astype("<i8")
    parts[f"{layout.FAILURES}/id"] = layout.encode_texts("failures/id", content.failures)
    parts[f"{layout.FAILURES}/reason"] = layout.encode_texts("failures/reason", content.failures.values())
    for name, values in content.failure_columns.items():
        parts[f"{layout.FAILURES}/{name}"] = _column(name, values)
    return dict(sorted(parts.items()))


def _column(name: str, values: Texts | Array) -> Array:
    if not isinstance(values, np.ndarray) or values.dtype.kind in "UO":
        return layout.encode_texts(name, [str(value) for value in values])
    if values.dtype.kind == "b":
        return values
    if values.dtype.kind not in "if":
        raise StoreError(f"Column {name!r} has the type {values.dtype}, expected text, numbers or booleans.")
    return values.astype("<i8" if values.dtype.kind == "i" else "<f8")


def _reserve(part: Path, size: int) -> None:
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        reserve_space(descriptor, size)
    finally:
        os.close(descriptor)


def _write_skeleton(part: Path, content: StoreContent, parts: Mapping[str, Array]) -> dict[str, int]:
    """Write all but embeddings and checksums; return where the embeddings go in the file."""
    count, row = len(content), content.row_shape
    arrays = {layout.MEAN: ((count, *row), "<f4"), layout.STD: ((count, *row), "<f4")}
    if content.frame_counts is not None:
        arrays[layout.FRAME_VALUES] = ((sum(content.frame_counts), *row), np.dtype(content.frame_dtype).str)
    with _hdf5(part, "w") as file:
        for name, value in content.attributes.items():
            file.attrs[name] = value
        file.attrs["complete"] = np.bool_(False)
        file.attrs["digest"] = np.bytes_(b"0" * layout.DIGEST_LENGTH)
        for name, values in {**parts, layout.PART_NAMES: _names(parts)}.items():
            _fill(_create(file, name, values.shape, values.dtype), values)
        for name, length in ((layout.UTTERANCE_CHECKSUMS, count), (layout.PART_CHECKSUMS, len(parts) + 1)):
            _create(file, name, (length,), np.dtype(f"S{layout.DIGEST_LENGTH}"))
        places = {name: _create(file, name, shape, np.dtype(kind)) for name, (shape, kind) in arrays.items()}
        return {name: dataset.id.get_offset() for name, dataset in places.items()}


@contextmanager
def _hdf5(part: Path, mode: str) -> Iterator[h5py.File]:
    try:
        with h5py.File(
            part, mode, libver="earliest", locking=False, alignment_threshold=1, alignment_interval=_ALIGNMENT
        ) as file:
            yield file
    except RuntimeError as error:
        # HDF5 reports some failed writes without the system's error number.
        raise OSError(str(error)) from error


def _names(parts: Mapping[str, Array]) -> Array:
    return layout.encode_texts("part_names", [*parts, "attributes"])


def _create(file: h5py.File, name: str, shape: tuple[int, ...], kind: np.dtype[Any]) -> Any:
    """Create a contiguous dataset whose place in the file is fixed at once, without times."""
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.CONTIGUOUS)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    plan.set_obj_track_times(False)
    folder, _, column = name.partition("/")
    group = file.require_group(folder)
    kind = h5py.string_dtype("utf-8", kind.itemsize) if kind.kind == "S" else kind
    kind_id = h5py.h5t.py_create(kind, logical=True)
    space = h5py.h5s.create_simple(shape)
    return h5py.Dataset(h5py.h5d.create(group.id, layout.link_name(column).encode(), kind_id, space, plan))


def _fill(dataset: Any, values: Array) -> None:
    # The dataset's own type says that texts are UTF-8; HDF5 converts no other.
    dataset[...] = values.astype(dataset.dtype)


def _write_rows(part: Path, places: Mapping[str, int], content: StoreContent, rows: Iterable[Rows]) -> list[str]:
    """Write the embeddings at their places; return the digest of every utterance."""
    checksums: list[str] = []
    following = dict(places)
    descriptor = os.open(part, os.O_WRONLY)
    try:
        for index, row in enumerate(rows):
            chunks = _chunks(content, index, row)
            for name, chunk in chunks.items():
                write_at(descriptor, chunk, following[name])
                following[name] += chunk.nbytes
            checksums.append(layout.digest_bytes(*(chunk.data for chunk in chunks.values())))
    finally:
        os.close(descriptor)
    if len(checksums) != len(content):
        raise StoreError(f"{len(checksums)} utterances have embeddings, expected {len(content)}.")
    return checksums


def _chunks(content: StoreContent, index: int, row: Rows) -> dict[str, NDArray[np.uint8]]:
    if index >= len(content):
        raise StoreError(f"More than {len(content)} utterances have embeddings.")
    values: dict[str, tuple[Array, str, tuple[int, ...]]] = {}
    values |= {layout.MEAN: (row.mean, "<f4", content.row_shape), layout.STD: (row.std, "<f4", content.row_shape)}
    if content.frame_counts is not None and row.frames is not None:
        frames_shape = (content.frame_counts[index], *content.row_shape)
        values[layout.FRAME_VALUES] = (row.frames, np.dtype(content.frame_dtype).str, frames_shape)
    elif content.frame_counts is not None:
        raise StoreError(f"Utterance {content.columns['id'][index]!r} has no frames.")
    for name, (array, _, shape) in values.items():
        if array.shape != shape:
            raise StoreError(
                f"{name} of utterance {content.columns['id'][index]!r} has the shape {array.shape}, expected {shape}."
            )
    return {
        name: np.ascontiguousarray(array, dtype=kind).reshape(-1).view(np.uint8)
        for name, (array, kind, _) in values.items()
    }


def _seal(part: Path, content: StoreContent, parts: Mapping[str, Array], checksums: list[str]) -> None:
    """Write the checksums and mark the file as complete."""
    of_parts = [layout.digest_column(values) for values in parts.values()]
    of_parts.append(layout.digest_attributes(content.attributes))
    with _hdf5(part, "r+") as file:
        _fill(file[layout.UTTERANCE_CHECKSUMS], np.array(checksums, dtype="S"))
        _fill(file[layout.PART_CHECKSUMS], np.array(of_parts, dtype="S"))
        file.attrs.modify("digest", np.bytes_(layout.digest_store(checksums, of_parts).encode()))
        file.attrs.modify("complete", np.bool_(True))
