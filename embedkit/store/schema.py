"""What a file must look like to be a store: links, layouts, types and lengths, before anything large is read.

HDF5 may lead out of its file (external links and storage, virtual datasets) and declare more than it holds; a store
does neither. See docs/store-format.md.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from embedkit.store import layout
from embedkit.store.layout import Array

MOST_MEMBERS = 1 << 14
"""Datasets of a group, or columns."""
LONGEST_NAME = 1000
"""Characters of a column's name."""

_NUMBERS = (np.dtype(np.int64), np.dtype(np.float64))
TEXT, WHOLE, NUMBER, TRUTH = "text of fixed size", "int64", "float64", "booleans"

_COLUMNS: Mapping[str, str] = {
    **dict.fromkeys(("id", "path", "label", "speaker", "session", "split", "digest", layout.SEEN_COLUMN), TEXT),
    **dict.fromkeys(("start", "end", "duration"), NUMBER),
    "padded": TRUTH,
    **dict.fromkeys(("audio_size", "audio_mtime"), WHOLE),
}
_FAILURES: Mapping[str, str] = {"id": TEXT, "reason": TEXT, "audio_size": WHOLE, "audio_mtime": WHOLE}
_SHARDS: Mapping[str, str] = {"file": TEXT, "digest": TEXT, "utterances": WHOLE, "frames": WHOLE, "size": WHOLE}


@dataclass(frozen=True)
class Contents:
    """What a store's file holds, of the right kinds.

    Attributes:
        columns: Names of the columns.
        utterances: How many rows each has.
        frame_offsets: int64 `[utterances + 1]`, ascending from 0; None where frames are not kept.
        shards: Whether the embeddings lie in several files.
    """

    columns: tuple[str, ...]
    utterances: int
    frame_offsets: Array | None
    shards: bool


def check_contents(file: Any, size: int, version: int) -> Contents:
    """Check everything in a store's file but its embeddings; no more is read than ids and offsets.

    Args:
        file: The opened file.
        size: Its bytes.
        version: Of its format.

    Raises:
        ValueError: the first thing that is not as the format has it.
    """
    groups = _list_members(file["/"])
    columns = _check_group(file, layout.UTTERANCES, _COLUMNS, size)
    if "id" not in columns:
        raise ValueError("/utterances has no column id")
    ids = columns["id"][...].tolist()
    if not 0 < len(set(ids)) == len(ids):
        raise ValueError(f"of its {len(ids):,} ids {len(set(ids)):,} differ, expected one or more of which all do")
    failures = _check_group(file, layout.FAILURES, _FAILURES, size) if layout.FAILURES in groups else {}
    if failures and not {"id", "reason"} <= set(failures):
        raise ValueError("/failures needs the columns id and reason")
    _check_checksums(file, size, len(ids))
    shards = layout.SHARDS in groups
    if shards != (version == layout.SPLIT_VERSION):
        raise ValueError(f"its format version is {version}, but it has {'' if shards else 'no '}shards")
    if shards and set(_check_group(file, layout.SHARDS, _SHARDS, size)) != set(_SHARDS):
        raise ValueError(f"/shards needs the columns {', '.join(_SHARDS)}")
    return Contents(tuple(columns), len(ids), _read_offsets(file, groups, size, len(ids)), shards)


def open_small(file: Any, part: str, size: int) -> Any:
    """Return a dataset of one dimension that is kept inside the file ("utterances/label").

    Raises:
        KeyError, ValueError: it is missing, or of no kind that a store has.
    """
    folder, _, column = part.partition("/")
    return _require_small(part, open_member(_open_group(file, folder), layout.link_name(column)), size)


def open_member(group: Any, name: str) -> Any:
    """Return a dataset of a group that a hard link leads to.

    Raises:
        KeyError, ValueError: there is none, or another kind of link or object.
    """
    return h5py.Dataset(_open_hard(group, name, h5py.h5d.DatasetID, "dataset"))


def open_array(file: Any, name: str, *, virtual: bool = False) -> Any:
    """Return a dataset of embeddings: little-endian floats in three dimensions, without filters.

    Args:
        file: The opened file.
        name: Such as "frame/values".
        virtual: Whether it leads to shards, or lies inside the file.

    Raises:
        KeyError, ValueError: it is missing, or something else.
    """
    folder, _, column = name.partition("/")
    dataset = open_member(_open_group(file, folder), column)
    kinds = layout.FRAME_DTYPES if name == layout.FRAME_VALUES else ("float32",)
    if dataset.dtype not in [np.dtype(kind).newbyteorder("<") for kind in kinds] or len(dataset.shape or ()) != 3:
        raise ValueError(
            f"/{name} holds {dataset.dtype} in the shape {dataset.shape}, expected {' or '.join(kinds)} in three "
            "dimensions"
        )
    plan = dataset.id.get_create_plist()
    wanted = h5py.h5d.VIRTUAL if virtual else h5py.h5d.CONTIGUOUS
    if plan.get_layout() != wanted or plan.get_nfilters() or plan.get_external_count():
        expected = "does not lead to its shards" if virtual else "is not one contiguous stretch of the file"
        raise ValueError(f"/{name} {expected}")
    return dataset


def _open_group(file: Any, name: str) -> Any:
    return h5py.Group(_open_hard(file, name, h5py.h5g.GroupID, "group"))


def _open_hard(group: Any, name: str, kind: type[Any], told: str) -> Any:
    """Return what a hard link of a group leads to, of one kind."""
    where, link = f"{group.name.rstrip('/')}/{name}", name.encode()
    if link not in group.id:
        raise KeyError(f"it has no {where}")
    if group.id.links.get_info(link).type != h5py.h5l.TYPE_HARD:
        raise ValueError(f"{where} is a link that leads elsewhere, expected a {told}")
    found = h5py.h5o.open(group.id, link)
    if not isinstance(found, kind):
        raise ValueError(f"{where} is no {told}")
    return found


def _list_members(group: Any) -> list[str]:
    """Return the names of a group's members; all of them are hard links."""
    if len(group) > MOST_MEMBERS:
        raise ValueError(f"{group.name} has {len(group):,} members, expected at most {MOST_MEMBERS:,}")
    found: dict[bytes, int] = {}
    group.id.links.iterate(lambda name, info: found.setdefault(name, info.type) and None, info=True)
    elsewhere = next((name for name, kind in found.items() if kind != h5py.h5l.TYPE_HARD), None)
    if elsewhere is not None:
        raise ValueError(f"{elsewhere!r} in {group.name} is a link that leads elsewhere")
    return [name.decode() for name in found]


def _check_group(file: Any, name: str, known: Mapping[str, str], size: int) -> dict[str, Any]:
    """Check the columns of a group: as many rows in each, of the types they should have."""
    group = _open_group(file, name)
    columns = dict(_read_columns(group, size))
    lengths = {dataset.shape[0] for dataset in columns.values()}
    if len(lengths) > 1:
        raise ValueError(f"the columns of /{name} have {min(lengths)} to {max(lengths)} rows, expected as many in each")
    for column, dataset in columns.items():
        if known.get(column, kind := _kind_of(dataset)) != kind:
            raise ValueError(f"/{name}/{column} holds {kind}, expected {known[column]}")
    # Columns that share their bytes would make much of little.
    if sum(map(_bytes_of, columns.values())) > size:
        raise ValueError(f"the columns of /{name} claim more bytes than the file has")
    return columns


def _read_columns(group: Any, size: int) -> Iterator[tuple[str, Any]]:
    for link in _list_members(group):
        column = layout.column_name(link)
        if len(column) > LONGEST_NAME or layout.link_name(column) != link:
            raise ValueError(f"{group.name} has a column {link[:40]!r}, which is no name of a column")
        yield column, _require_small(f"{group.name[1:]}/{column}", open_member(group, link), size)


def _require_small(part: str, dataset: Any, size: int) -> Any:
    plan = dataset.id.get_create_plist()
    if plan.get_layout() == h5py.h5d.VIRTUAL or plan.get_external_count() or plan.get_nfilters():
        raise ValueError(f"/{part} is kept outside the file, or packed")
    if dataset.shape is None or len(dataset.shape) != 1 or not _kind_of(dataset):
        raise ValueError(
            f"/{part} holds {dataset.dtype} in the shape {dataset.shape}, expected text of fixed size, int64, float64 "
            "or booleans in one dimension"
        )
    if _bytes_of(dataset) > size:
        raise ValueError(f"/{part} claims {_bytes_of(dataset):,} bytes, and the file has {size:,}")
    return dataset


def _kind_of(dataset: Any) -> str:
    kind = dataset.dtype
    if kind.kind in "Sb":
        return TEXT if kind.kind == "S" else TRUTH
    return kind.newbyteorder("=").name if kind.newbyteorder("=") in _NUMBERS else ""


def _bytes_of(dataset: Any) -> int:
    return int(math.prod(dataset.shape) * dataset.dtype.itemsize)


def _check_checksums(file: Any, size: int, utterances: int) -> None:
    of_rows, names, parts = (
        open_small(file, name, size) for name in (layout.UTTERANCE_CHECKSUMS, layout.PART_NAMES, layout.PART_CHECKSUMS)
    )
    if of_rows.shape != (utterances,) or names.shape != parts.shape or parts.shape[0] > 2 * MOST_MEMBERS:
        raise ValueError("/checksums has not one row for each utterance, and for each part")
    if {_kind_of(one) for one in (of_rows, names, parts)} != {TEXT}:
        raise ValueError("/checksums holds something other than text")


def _read_offsets(file: Any, groups: Collection[str], size: int, utterances: int) -> Array | None:
    if "frame" not in groups:
        return None
    dataset = open_small(file, layout.FRAME_OFFSETS, size)
    if _kind_of(dataset) != WHOLE or dataset.shape[0] != utterances + 1:
        raise ValueError(
            f"/{layout.FRAME_OFFSETS} holds {dataset.dtype} in {dataset.shape[0]:,} rows, expected int64 in "
            f"{utterances + 1:,}"
        )
    offsets: Array = dataset[...].astype(np.int64)
    # Differences may overflow.
    if offsets[0] != 0 or (offsets[1:] <= offsets[:-1]).any():
        raise ValueError("the frame offsets do not ascend from 0")
    return offsets
