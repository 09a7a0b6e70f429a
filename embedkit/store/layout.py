"""Names, types and digests of the store format; see docs/store-format.md."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from embedkit.errors import StoreError

Array: TypeAlias = NDArray[Any]

FORMAT = "embedkit"
SHARD_FORMAT = "embedkit-shard"
SINGLE_VERSION = 1
"""Version of stores in one file."""
SPLIT_VERSION = 2
"""Version of stores in several files, and of their shards."""
FORMAT_VERSION = SPLIT_VERSION
"""The newest version that can be read."""

UTTERANCES = "utterances"
MEAN = "utterance/mean"
STD = "utterance/std"
FRAME_VALUES = "frame/values"
FRAME_OFFSETS = "frame/offsets"
FAILURES = "failures"
SHARDS = "shards"
SHARD_FILES = "shards/file"
SHARD_DIGESTS = "shards/digest"
SHARD_UTTERANCES = "shards/utterances"
SHARD_FRAMES = "shards/frames"
SHARD_SIZES = "shards/size"
SHARD_COLUMNS = (SHARD_FILES, SHARD_DIGESTS, SHARD_UTTERANCES, SHARD_FRAMES, SHARD_SIZES)
UTTERANCE_CHECKSUMS = "checksums/utterances"
PART_NAMES = "checksums/part_names"
PART_CHECKSUMS = "checksums/parts"

JSON_ATTRIBUTES = ("corpus_info", "encoder", "extraction", "trained_on")
"""Root attributes that hold a JSON object."""
SEALS = ("complete", "digest")
"""Root attributes written last; every other one is covered by the checksum of the part "attributes"."""
DIGEST_LENGTH = 32
"""Hexadecimal digits of a digest (BLAKE2b, 128 bits)."""

STANDARD_COLUMNS = ("id", "path", "label", "speaker", "session", "split", "start", "end")
MEASURED_COLUMNS = ("duration", "padded", "digest", "audio_digest", "audio_size", "audio_mtime")
"""Columns that the extraction adds; their names are reserved."""

SEEN_COLUMN = "encoder_saw"
"""In stores of fine-tuned encoders: "train" for an utterance trained on, "dev" for one that they were chosen on."""

FRAME_DTYPES = ("float16", "float32")


def canonical_json(value: Any) -> str:
    """Write JSON the same way every time: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def link_name(column: str) -> str:
    """Escape a column's name for HDF5, where "/" separates and "." is the group itself."""
    escaped = column.replace("%", "%25").replace("/", "%2F")
    return "%2E" * len(escaped) if escaped in (".", "..") else escaped


def column_name(link: str) -> str:
    """Undo `link_name`."""
    return link.replace("%2E", ".").replace("%2F", "/").replace("%25", "%")


def storable_text(text: str) -> bool:
    """Tell whether a text can be a UTF-8 HDF5 string: no NUL, no lone surrogate."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def encode_texts(column: str, texts: Iterable[str]) -> Array:
    """Encode texts as UTF-8 strings of equal size, filled up with NUL.

    Raises:
        StoreError: a text holds a NUL or a lone surrogate.
    """
    values = list(texts)
    unfit = next((text for text in values if not storable_text(text)), None)
    if unfit is not None:
        raise StoreError(f"Column {column!r} holds {unfit!r}, expected text without NUL that UTF-8 can write.")
    encoded = [text.encode() for text in values]
    return np.array(encoded, dtype=f"S{max([1, *map(len, encoded)])}")


def digest_bytes(*chunks: Any) -> str:
    """Return the BLAKE2b digest (128 bits, hexadecimal) of the chunks' bytes, one after the other."""
    digest = hashlib.blake2b(digest_size=DIGEST_LENGTH // 2)
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def digest_column(values: Array) -> str:
    """Digest the decoded content of a 1-D column.

    Texts: their UTF-8 bytes, joined by one NUL. Numbers: little-endian bytes. Both after a line with the kind and the
    number of rows.
    """
    if values.dtype.kind == "S":
        return digest_bytes(f"text {len(values)}\n".encode(), b"\0".join(values.tolist()))
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    name = values.dtype.newbyteorder("=").name
    return digest_bytes(f"{name} {len(values)}\n".encode(), little.view(np.uint8).data)


def digest_attributes(attributes: Mapping[str, Any]) -> str:
    """Digest the root attributes (all but the seals): name, NUL, value, NUL, sorted by name."""
    names = sorted(name for name in attributes if name not in SEALS)
    return digest_bytes(*(f"{name}\0{attributes[name]}\0".encode() for name in names))


def digest_store(utterances: Sequence[str], parts: Sequence[str]) -> str:
    """Digest a whole store from the checksums of its utterances and parts, in stored order."""
    return digest_bytes("".join(utterances).encode(), b"\0", "".join(parts).encode())
