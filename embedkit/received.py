"""Read files that may come from anybody: regular ones alone, of limited size and depth, and no pointers to them.

What is wrong is raised as OSError or ValueError whose text completes "cannot be read (...)"; callers name the file.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tomllib
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import Any

MOST_JSON = 64 * 1024**2
MOST_TOML = 1024**2
MOST_TEXT = 1024**3
"""Bytes of the largest file of each kind that is read: settings, and tables of one row an utterance."""
MOST_HOURS = 24.0
"""What is decoded of one file of audio unless more is asked for: a few megabytes of FLAC can hold days of silence."""
DEEPEST = 64
"""Lists and objects within each other."""
LONGEST_NUMBER = 40
"""Digits and sign of the largest whole number: a state of 128 bits, as random generators write it."""

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class NotRegularError(OSError):
    """Something else lies where a file is expected: a pipe would block its reader for ever."""

    def __str__(self) -> str:
        return str(self.strerror)


def require_regular(path: Path) -> Path:
    """Return the path of a regular file, for libraries that open it themselves.

    Raises:
        OSError: nothing is there, a link leads nowhere or in a circle, or it is no regular file.
    """
    _require_kind(path)
    return path


def open_regular(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a regular file for reading; never wait for a pipe or a device.

    Raises:
        OSError: as `require_regular`, or it may not be read.
    """

    def opener(name: str, flags: int) -> int:
        # Opening a device may already do something.
        _require_kind(name)
        descriptor = os.open(name, flags | getattr(os, "O_NONBLOCK", 0))
        try:
            _check_kind(os.fstat(descriptor), name)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    return open(path, "rb", opener=opener)


def open_text(path: str | os.PathLike[str], **options: Any) -> TextIOWrapper:
    """Open a regular file of text for reading, with `encoding`, `errors` and `newline` as for `open`."""
    return TextIOWrapper(open_regular(path), **options)


def read_bytes(path: Path, most: int = MOST_JSON) -> bytes:
    """Read a regular file of at most so many bytes.

    Raises:
        OSError: as `open_regular`.
        ValueError: it is larger.
    """
    with open_regular(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"it has more than {most // 1024**2:,} MiB")
    return data


def read_text(path: Path, most: int = MOST_JSON, *, errors: str = "strict") -> str:
    """Read a regular file of UTF-8 text; see `read_bytes`."""
    return _decode(read_bytes(path, most), errors)


def read_json(path: Path, most: int = MOST_JSON) -> Any:
    """Read a JSON file; see `read_bytes` and `parse_json`."""
    return parse_json(read_bytes(path, most))


def read_object(path: Path, most: int = MOST_JSON) -> dict[str, Any]:
    """Read a JSON file that holds an object; see `read_json`."""
    return require_object(read_json(path, most))


def require_object(value: Any) -> dict[str, Any]:
    """Return a decoded JSON value that is an object.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, dict):
        raise ValueError("it holds no JSON object")
    return value


def parse_json(data: bytes | str) -> Any:
    """Decode JSON as its standard has it, without NaN and infinity; of a key that stands twice the last one counts.

    Raises:
        ValueError: it is no JSON, is nested too deeply, or holds a number or a text that nothing could be done with.
    """
    text = _decode(data) if isinstance(data, bytes) else data
    try:
        value = json.loads(text, parse_int=_parse_int, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    _check_depth(value)
    if _SURROGATE.search(text):
        # Halves of characters; whoever wrote them later would fail.
        json.dumps(value, ensure_ascii=False).encode()
    return value


def read_toml(path: Path, most: int = MOST_TOML) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        OSError, ValueError: as `read_bytes` and `parse_json`.
    """
    text = read_text(path, most)
    try:
        value = tomllib.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except tomllib.TOMLDecodeError:
        raise
    except ValueError as error:
        # Python's own limit; its advice is for programmers.
        raise ValueError(str(error).partition(";")[0]) from error
    _check_depth(value)
    return value


_TOO_DEEP = f"it is nested more than {DEEPEST} levels deep"


def _require_kind(path: str | os.PathLike[str]) -> None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        if not os.path.islink(path):
            raise
        raise NotRegularError(0, "it is a link that leads nowhere", os.fspath(path)) from None
    _check_kind(status, path)


def _check_kind(status: os.stat_result, path: str | os.PathLike[str]) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "no regular file")
        raise NotRegularError(0, f"it is {kind}, expected a file", os.fspath(path))


def _decode(data: bytes, errors: str = "strict") -> str:
    try:
        return data.decode(errors=errors)
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start + 1:,} is not UTF-8 text") from error


def _parse_int(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise ValueError(f"it holds a whole number of {len(text):,} digits")
    return int(text)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"it holds {name}, which is not JSON")


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level := [one for one in level if isinstance(one, dict | list)]:
        depth += 1
        if depth > DEEPEST:
            raise ValueError(_TOO_DEEP)
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]


_POINTER = re.compile(rb"version https://git-lfs\.github\.com/spec/v1\r?\n(?:.*\n)*?size (\d{1,18})\b")
_LONGEST = 1024
"""Bytes; a pointer has fewer (https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md)."""


def describe_pointer(path: Path) -> str | None:
    """Say that a file is a git-lfs pointer, and what to do; None where it is none, or cannot be read."""
    try:
        with open_regular(path) as file:
            found = _POINTER.match(file.read(_LONGEST))
    except OSError:
        return None
    if found is None:
        return None
    return (
        f"{path.name} is a git-lfs pointer, not the {int(found[1]):,} bytes it stands for; run `git lfs pull` in "
        f"{str(path.parent)!r}"
    )
