"""Shard files: the finished rows of a few batches, one plain file each, whole or not there.

Layout: for every utterance its frames, mean and std, one after the other; then a JSON index, its length (8 bytes,
little-endian) and the BLAKE2b digest (16 bytes) of everything before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from embedkit.errors import ExtractionError
from embedkit.extraction.segments import AudioSegment
from embedkit.received import open_regular, parse_json, require_object
from embedkit.store.layout import Array
from embedkit.store.writer import UtteranceEmbedding
from embedkit.writing import new_part

_DIGEST = 16
_LENGTH = 8
_BLOCK = 1 << 20


class Measured(NamedTuple):
    """What was found while an utterance was read.

    `duration` is in seconds, `padded` says whether zeros were added, `digest` is of the file's bytes with the segment's
    times and `audio_digest` of the decoded samples; the last is empty in what was read before it was kept.
    """

    duration: float
    padded: bool
    digest: str
    audio_digest: str = ""


class Entry(NamedTuple):
    """An utterance in a shard, where its rows start, its number of frames, what was measured."""

    segment: AudioSegment
    offset: int
    frames: int
    measured: Measured


class ShardWriter:
    """Write the rows of utterances one after the other; comes from `new_shard`."""

    def __init__(self, stream: BinaryIO, row_shape: tuple[int, int], frame_dtype: str | None) -> None:
        self._stream = stream
        self._digest = hashlib.blake2b(digest_size=_DIGEST)
        self._offset = self._start = self._frames = 0
        self._index: dict[str, Any] = {
            "row_shape": row_shape,
            "frame_dtype": frame_dtype,
            "entries": [],
            "failures": [],
        }

    def add_frames(self, frames: Array) -> None:
        """Write some frames `[frames, layers, dimensions]` of the utterance that `add` or `fail` will close."""
        self._frames += len(frames)
        self._write(frames)

    def add(self, segment: AudioSegment, rows: UtteranceEmbedding, measured: Measured) -> None:
        """Close an utterance: write its statistics, after its frames where these are kept."""
        if rows.frames is not None:
            self.add_frames(rows.frames)
        self._write(np.asarray(rows.mean, "<f4"))
        self._write(np.asarray(rows.std, "<f4"))
        self._index["entries"].append((segment, self._start, self._frames, measured))
        self._close()

    def fail(self, segment: AudioSegment, reason: str) -> None:
        """Close an utterance that could not be encoded; frames written before count for nothing."""
        self._index["failures"].append((segment, reason))
        self._close()

    def finish(self) -> None:
        """Write the index and the digest."""
        index = json.dumps(self._index, ensure_ascii=False).encode()
        self._write(np.frombuffer(index, np.uint8))
        self._write(np.array([len(index)], "<u8"))
        self._stream.write(self._digest.digest())

    def _close(self) -> None:
        self._start, self._frames = self._offset, 0

    def _write(self, values: Array) -> None:
        data = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
        self._stream.write(data)
        self._digest.update(data)
        self._offset += len(data)


@contextmanager
def new_shard(path: Path, row_shape: tuple[int, int], frame_dtype: str | None) -> Iterator[ShardWriter]:
    """Write a shard under a temporary name; it gets its own when the block ends without an error."""
    with new_part(path) as part:
        with part.path.open("wb") as stream:
            writer = ShardWriter(stream, row_shape, frame_dtype)
            yield writer
            writer.finish()
        part.put(path)


class ShardReader:
    """Read the rows of a finished shard by plain reads.

    Raises:
        ExtractionError: the file is not a whole shard.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            index = self._read_index()
            self._row_shape = tuple(index["row_shape"])
            self._frame_dtype: str | None = index["frame_dtype"]
            self.entries = [
                Entry(AudioSegment(*segment), offset, frames, Measured(*measured))
                for segment, offset, frames, measured in index["entries"]
            ]
            self.failures = [(AudioSegment(*segment), str(reason)) for segment, reason in index["failures"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ExtractionError(f"The shard {str(path)!r} is damaged ({error}).") from error

    def rows(self, entry: Entry) -> UtteranceEmbedding:
        """Read one utterance's rows."""
        with open_regular(self.path) as stream:
            stream.seek(entry.offset)
            shape, kind = (entry.frames, *self._row_shape), self._frame_dtype
            frames = None if kind is None else self._array(stream, shape, kind)
            mean, std = (self._array(stream, self._row_shape, "<f4") for _ in range(2))
        return UtteranceEmbedding(mean, std, frames)

    def is_whole(self) -> bool:
        """Read everything and compare it with the digest."""
        digest = hashlib.blake2b(digest_size=_DIGEST)
        left = self.path.stat().st_size - _DIGEST
        with open_regular(self.path) as stream:
            while left > 0:
                block = stream.read(min(left, _BLOCK))
                digest.update(block)
                left -= len(block)
            return stream.read() == digest.digest()

    def _read_index(self) -> Any:
        size = self.path.stat().st_size
        if size < _LENGTH + _DIGEST:
            raise ValueError("too short")
        with open_regular(self.path) as stream:
            stream.seek(size - _DIGEST - _LENGTH)
            length = int.from_bytes(stream.read(_LENGTH), "little")
            if length > size:
                raise ValueError("no index")
            stream.seek(size - _DIGEST - _LENGTH - length)
            return require_object(parse_json(stream.read(length)))

    @staticmethod
    def _array(stream: BinaryIO, shape: tuple[int, ...], kind: str) -> Array:
        dtype = np.dtype(kind)
        data = bytearray(stream.read(int(np.prod(shape)) * dtype.itemsize))
        return np.frombuffer(data, dtype=dtype).reshape(shape)


def open_finished(path: Path) -> ShardReader | None:
    """Open a shard if it is there and whole; a damaged one is removed, to be done again."""
    if not path.is_file():
        return None
    try:
        reader = ShardReader(path)
        if reader.is_whole():
            return reader
    except ExtractionError:
        pass
    path.unlink()
    return None
