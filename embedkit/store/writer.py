"""Write a store: a skeleton by HDF5, then the values by plain writes, under a temporary name until it is whole.

A store larger than one file may be becomes a virtual file beside a folder of shards; see `embedkit.store.split`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from embedkit.errors import StoreError
from embedkit.store import layout
from embedkit.store.described import check_described
from embedkit.store.hdf5 import create_dataset, create_virtual, fill, opened
from embedkit.store.layout import Array
from embedkit.store.split import (
    Shard,
    cut_rows,
    pieces_of,
    remove_folder_if_empty,
    remove_other_shards,
    shard_columns,
    shard_folder,
    shard_name,
)
from embedkit.system import reserve_space, write_at
from embedkit.writing import new_part, writing_to

Texts: TypeAlias = Sequence[str]
Chunks: TypeAlias = dict[str, NDArray[np.uint8]]

_HEADERS = 1 << 16
_PER_DATASET = 1 << 10
_PER_SHARD = 1 << 11


@dataclass(frozen=True)
class UtteranceEmbedding:
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
    def kinds(self) -> dict[str, np.dtype[Any]]:
        """Types of the embedding arrays, in the order in which an utterance's are digested."""
        kinds: dict[str, np.dtype[Any]] = {layout.MEAN: np.dtype("<f4"), layout.STD: np.dtype("<f4")}
        if self.frame_counts:
            kinds[layout.FRAME_VALUES] = np.dtype(self.frame_dtype).newbyteorder("<")
        return kinds

    def shapes(self, first: int, last: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the embedding arrays of the utterances `first:last`."""
        rows = {layout.MEAN: last - first, layout.STD: last - first}
        if self.frame_counts:
            rows[layout.FRAME_VALUES] = sum(self.frame_counts[first:last])
        return {name: (count, *self.row_shape) for name, count in rows.items()}

    def row_bytes(self, index: int) -> int:
        """Return the bytes of one utterance's embeddings."""
        shapes = self.shapes(index, index + 1)
        return sum(math.prod(shapes[name]) * kind.itemsize for name, kind in self.kinds.items())

    @property
    def row_shape(self) -> tuple[int, int]:
        """Layers and dimensions."""
        return len(self.encoder["layers"]), int(self.encoder["dimensions"])

    @property
    def attributes(self) -> dict[str, Any]:
        """The root attributes, without the format's and the seals."""
        return {
            "corpus": self.corpus,
            "fingerprint": self.fingerprint,
            **{name: layout.canonical_json(getattr(self, name)) for name in layout.JSON_ATTRIBUTES},
        }


def write_store(
    path: Path, content: StoreContent, rows: Iterable[UtteranceEmbedding], *, most_bytes: float | None = None
) -> None:
    """Write a store; equal content gives equal bytes.

    Args:
        path: Where it goes; replaced in one step when the new one is whole and synced.
        content: Everything but the embeddings.
        rows: The embeddings, in the order of the columns; taken one by one.
        most_bytes: Embeddings that take more are kept in shards of at most this size, in a folder beside `path`.

    Raises:
        StoreError: content that does not fit together, or too little room (nothing half-written remains).
    """
    _check(content)
    with writing_to(path.parent, _file_size(content, _parts(content), [])):
        path.parent.mkdir(parents=True, exist_ok=True)
        values = _check_rows(content, rows)
        shards: list[Shard] = []
        if most_bytes is not None and values_size(content) > most_bytes:
            shards = _write_shards(path, content, values, most_bytes)
        try:
            _write_file(path, content, values, shards)
        except BaseException:
            _remove_new(path, shards)
            raise
        remove_other_shards(path, [shard.path for shard in shards])


def _write_file(path: Path, content: StoreContent, values: Iterator[Chunks], shards: list[Shard]) -> None:
    """Write the store's file; with shards, all but the embeddings."""
    parts = _parts(content) | shard_columns(path, shards)
    parts = dict(sorted(parts.items()))
    attributes = _attributes(content, shards)
    with new_part(path) as new:
        part = new.path
        _reserve(part, _file_size(content, parts, shards))
        offsets = _write_skeleton(part, content, attributes, parts, shards)
        _reserve(part, part.stat().st_size)
        checksums = [digest for shard in shards for digest in shard.checksums]
        checksums += _write_values(part, offsets, values)
        _check_number(checksums, len(content))
        _seal(part, attributes, parts, checksums)
        new.put(path)


def _write_shards(path: Path, content: StoreContent, values: Iterator[Chunks], most_bytes: float) -> list[Shard]:
    """Write the embeddings into shard files, each named after its content."""
    shards: list[Shard] = []
    folder = shard_folder(path)
    folder.mkdir(exist_ok=True)
    try:
        sizes = [content.row_bytes(index) for index in range(len(content))]
        for first, last in cut_rows(sizes, most_bytes):
            shards.append(_write_shard(folder, content, first, last, values))
    except BaseException:
        _remove_new(path, shards)
        raise
    return shards


def _write_shard(folder: Path, content: StoreContent, first: int, last: int, values: Iterator[Chunks]) -> Shard:
    shapes = content.shapes(first, last)
    attributes = {"format": layout.SHARD_FORMAT, "format_version": layout.SPLIT_VERSION}
    with new_part(folder / str(first)) as new:
        part = new.path
        with opened(part, "w") as file:
            _set_attributes(file, attributes)
            places = {name: create_dataset(file, name, shapes[name], kind) for name, kind in content.kinds.items()}
            offsets = {name: dataset.id.get_offset() for name, dataset in places.items()}
        _reserve(part, part.stat().st_size)
        checksums = _write_values(part, offsets, islice(values, last - first))
        _check_number(checksums, last - first)
        digest = layout.digest_store(checksums, [])
        with opened(part, "r+") as file:
            _set_seals(file, digest)
        path = folder / shard_name(digest)
        is_new = not path.exists()
        new.put(path)
    frames = shapes.get(layout.FRAME_VALUES, (0,))[0]
    return Shard(path, digest, last - first, frames, path.stat().st_size, tuple(checksums), is_new)


def _remove_new(path: Path, shards: list[Shard]) -> None:
    """Remove shards that no store refers to because its file could not be written."""
    for shard in shards:
        if shard.is_new:
            shard.path.unlink(missing_ok=True)
    remove_folder_if_empty(shard_folder(path))


def values_size(content: StoreContent) -> int:
    """Return the bytes of the embeddings alone."""
    shapes = content.shapes(0, len(content))
    return sum(math.prod(shapes[name]) * kind.itemsize for name, kind in content.kinds.items())


def _file_size(content: StoreContent, parts: Mapping[str, Array], shards: Sequence[Shard]) -> int:
    small = sum(values.nbytes + _PER_DATASET for values in parts.values())
    texts = sum(len(str(value).encode()) for value in content.attributes.values())
    embeddings = _PER_SHARD * len(shards) if shards else values_size(content)
    return _HEADERS + small + 2 * texts + layout.DIGEST_LENGTH * len(content) + embeddings


def _check(content: StoreContent) -> None:
    count = len(content)
    try:
        check_described(content.attributes)
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"A store cannot be written so that it could be opened: {error}.") from error
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
    with part.open("ab") as file:
        reserve_space(file.fileno(), size)


def _attributes(content: StoreContent, shards: Sequence[Shard]) -> dict[str, Any]:
    """Return the root attributes without the seals; a store in one file is readable by the oldest version."""
    version = layout.SPLIT_VERSION if shards else layout.SINGLE_VERSION
    return {"format": layout.FORMAT, "format_version": version, **content.attributes}


def _write_skeleton(
    part: Path,
    content: StoreContent,
    attributes: Mapping[str, Any],
    parts: Mapping[str, Array],
    shards: Sequence[Shard],
) -> dict[str, int]:
    """Write all but embeddings and checksums; return where the embeddings go in the file (nowhere with shards)."""
    shapes = content.shapes(0, len(content))
    with opened(part, "w") as file:
        _set_attributes(file, attributes)
        for name, values in {**parts, layout.PART_NAMES: _names(parts)}.items():
            fill(create_dataset(file, name, values.shape, values.dtype), values)
        for name, length in ((layout.UTTERANCE_CHECKSUMS, len(content)), (layout.PART_CHECKSUMS, len(parts) + 1)):
            create_dataset(file, name, (length,), np.dtype(f"S{layout.DIGEST_LENGTH}"))
        if shards:
            for name, kind in content.kinds.items():
                create_virtual(file, name, shapes[name], kind, pieces_of(part.parent, shards, name))
            return {}
        arrays = {name: create_dataset(file, name, shapes[name], kind) for name, kind in content.kinds.items()}
        return {name: dataset.id.get_offset() for name, dataset in arrays.items()}


def _set_attributes(file: Any, attributes: Mapping[str, Any]) -> None:
    for name, value in attributes.items():
        file.attrs[name] = value
    file.attrs["complete"] = np.bool_(False)
    file.attrs["digest"] = np.bytes_(b"0" * layout.DIGEST_LENGTH)


def _set_seals(file: Any, digest: str) -> None:
    file.attrs.modify("digest", np.bytes_(digest.encode()))
    file.attrs.modify("complete", np.bool_(True))


def _names(parts: Mapping[str, Array]) -> Array:
    return layout.encode_texts("part_names", [*parts, "attributes"])


def _write_values(part: Path, offsets: Mapping[str, int], values: Iterable[Chunks]) -> list[str]:
    """Write embeddings at their places; return the digest of every utterance."""
    checksums: list[str] = []
    following = dict(offsets)
    with part.open("r+b", buffering=0) as file:
        for chunks in values:
            for name, chunk in chunks.items():
                write_at(file.fileno(), chunk, following[name])
                following[name] += chunk.nbytes
            checksums.append(layout.digest_bytes(*(chunk.data for chunk in chunks.values())))
    return checksums


def _check_rows(content: StoreContent, rows: Iterable[UtteranceEmbedding]) -> Iterator[Chunks]:
    """Yield the bytes of each utterance's embeddings, by array."""
    for index, row in enumerate(rows):
        if index >= len(content):
            raise StoreError(f"More than {len(content)} utterances have embeddings.")
        yield _chunks(content, index, row)


def _check_number(checksums: Sequence[str], expected: int) -> None:
    if len(checksums) != expected:
        raise StoreError(f"{len(checksums)} utterances have embeddings, expected {expected}.")


def _chunks(content: StoreContent, index: int, row: UtteranceEmbedding) -> Chunks:
    name_of = content.columns["id"][index]
    arrays = {layout.MEAN: row.mean, layout.STD: row.std, layout.FRAME_VALUES: row.frames}
    chunks: Chunks = {}
    for name, shape in content.shapes(index, index + 1).items():
        array = arrays[name]
        if array is None:
            raise StoreError(f"Utterance {name_of!r} has no frames.")
        expected = shape if name == layout.FRAME_VALUES else shape[1:]
        if array.shape != expected:
            raise StoreError(f"{name} of utterance {name_of!r} has the shape {array.shape}, expected {expected}.")
        chunks[name] = np.ascontiguousarray(array, dtype=content.kinds[name]).reshape(-1).view(np.uint8)
    return chunks


def _seal(part: Path, attributes: Mapping[str, Any], parts: Mapping[str, Array], checksums: list[str]) -> None:
    """Write the checksums and mark the file as complete."""
    of_parts = [layout.digest_column(values) for values in parts.values()]
    of_parts.append(layout.digest_attributes(attributes))
    with opened(part, "r+") as file:
        fill(file[layout.UTTERANCE_CHECKSUMS], np.array(checksums, dtype="S"))
        fill(file[layout.PART_CHECKSUMS], np.array(of_parts, dtype="S"))
        _set_seals(file, layout.digest_store(checksums, of_parts))
