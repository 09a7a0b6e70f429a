"""Write files and folders that are whole or not there.

What is written has a random name beside its place, which nobody can put a link under, and gets its own when it is whole
and synced. What a killed process left is removed by the next one that writes to the same folder. A full disk is told in
one sentence.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

from embedkit import system
from embedkit.errors import EmbedkitError, RunError, StoreError
from embedkit.wording import format_bytes

_NO_ROOM = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_NUMBERS = re.compile(r"os error (\d+)|errno = (\d+)")
"""How safetensors and HDF5 tell the system's error number where they raise no OSError with it."""
_TEMPORARY = re.compile(r"\..*\.(?P<machine>[0-9a-f]{8})-(?P<process>\d{1,10})-[0-9a-f]{16}\.part", re.DOTALL)
_LONGEST_STEM = 40
"""Letters of a file's name within its temporary one; names have at most 255 bytes."""
_ABANDONED_SECONDS = 7 * 86400.0
"""After this, what a process of another machine began is taken for abandoned, or one whose number another one has."""
_USUAL = 0o666
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0)
_NO_WAITING = getattr(os, "O_NONBLOCK", 0)
_BINARY = getattr(os, "O_BINARY", 0)
ELSEWHERE = "choose another place"


class Part(NamedTuple):
    """A temporary file: its path, and the mode that the user's new files have."""

    path: Path
    mode: int

    def put(self, target: Path) -> None:
        """Sync the file and give it its name in one step; a link of that name is replaced, not followed."""
        # Some libraries put a file of their own in its place, which its owner alone may read.
        self.path.chmod(self.mode)
        system.sync_file(self.path)
        system.replace(self.path, target)
        system.sync_folder(target.parent)


@contextmanager
def new_part(path: Path) -> Iterator[Part]:
    """Make an empty file under a temporary name beside `path`; it is removed unless it was put somewhere.

    Raises:
        OSError: it cannot be made, or `path` is no place for a file.
    """
    with _named(path) as part:
        yield _create(part, path)


@contextmanager
def new_file(
    path: Path, *, needed: int | None = None, error: type[EmbedkitError] = RunError, otherwise: str = ELSEWHERE
) -> Iterator[Path]:
    """Give an empty file to write to, which takes the place of `path` once all went well.

    Args:
        path: What it is to become; its folder is made where it is missing.
        needed: Bytes that the file will take; None where that is not known.
        error: Raised where it cannot be written: says what is needed and what is free, or what else went wrong.
        otherwise: What to do where it is not for lack of room.
    """
    with _named(path) as name, told(path, name, needed, error=error, otherwise=otherwise):
        part = _create(name, path)
        yield part.path
        part.put(path)


def require_place(path: Path, *, error: type[EmbedkitError] = RunError, otherwise: str = ELSEWHERE) -> None:
    """Find out whether a file can be written before what takes long is done for it; see `new_file`."""
    with _named(path) as name, told(path, name, error=error, otherwise=otherwise):
        _create(name, path)


def write_file(path: Path, data: bytes, *, error: type[EmbedkitError] = RunError, otherwise: str = ELSEWHERE) -> None:
    """Write a file in one step; see `new_file`."""
    with new_file(path, needed=len(data), error=error, otherwise=otherwise) as part:
        part.write_bytes(data)


@contextmanager
def new_temporary(path: Path, *, error: type[EmbedkitError] = RunError, otherwise: str = ELSEWHERE) -> Iterator[Path]:
    """Make a folder under a temporary name beside `path`; it is removed unless it was moved. See `new_file`."""
    with _named(path) as part, told(path, part, error=error, otherwise=otherwise):
        _clear(path.parent)
        if path.is_file() and not path.is_symlink():
            raise OSError("it is a file")
        part.mkdir()
        yield part


@contextmanager
def new_folder(
    path: Path,
    *,
    error: type[EmbedkitError] = RunError,
    otherwise: str = ELSEWHERE,
    is_whole: Callable[[Path], bool] = lambda _: False,
) -> Iterator[Path]:
    """Give an empty folder to fill, which takes the place of `path` once all went well.

    Args:
        path: What it is to become; what lies there is removed then, a link itself and not what it leads to.
        error: Raised where it cannot be written.
        otherwise: What to do then.
        is_whole: Tells whether what another process has put there in the meantime is to stay.
    """
    with new_temporary(path, error=error, otherwise=otherwise) as part:
        yield part
        sync_tree(part)
        if not is_whole(path):
            _replace_folder(part, path)


def sync_tree(folder: Path) -> None:
    """Make all below a folder durable, files of libraries in the mode of the user's others."""
    mode = stat.S_IMODE(folder.stat().st_mode) & _USUAL
    for above, _, names in os.walk(folder):
        for name in names:
            file = Path(above, name)
            file.chmod(mode)
            system.sync_file(file)
        system.sync_folder(Path(above))


def open_log(path: Path) -> BinaryIO:
    """Open a file of this name for reading and appending, made where it is missing.

    Raises:
        OSError: it is a link, no regular file, or may not be opened.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | _NO_LINKS | _BINARY | _NO_WAITING, _USUAL)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("it is no file")
    return os.fdopen(descriptor, "r+b")


@contextmanager
def told(
    path: Path,
    part: Path,
    needed: int | None = None,
    *,
    error: type[EmbedkitError] = RunError,
    otherwise: str = ELSEWHERE,
) -> Iterator[None]:
    """Tell in one sentence why `path` could not be written, of which `part` is there; see `new_file`."""
    try:
        yield
    except EmbedkitError:
        raise
    except Exception as found:
        if not isinstance(found, OSError) and _number(found) is None:
            raise
        if lacks_room(found):
            size = f"more than {format_bytes(_size(part))} are" if needed is None else f"{format_bytes(needed)} are"
            raise error(no_room(path.parent, size, _reason(found))) from found
        raise error(f"{str(path)!r} cannot be written ({_reason(found)}); {otherwise}.") from found


@contextmanager
def writing_to(folder: Path, needed: int) -> Iterator[None]:
    """Turn a full disk, a quota, a file-size limit or a missing permission into one sentence.

    Raises:
        StoreError: says what was needed and what is free, or what else went wrong.
    """
    try:
        yield
    except OSError as error:
        if lacks_room(error):
            raise StoreError(no_room(folder, f"{format_bytes(needed)} are", _reason(error))) from error
        raise StoreError(
            f"Cannot write to {str(error.filename or folder)!r} ({_reason(error)}); {ELSEWHERE}."
        ) from error


def lacks_room(error: BaseException) -> bool:
    """Tell whether an error means a full disk, a used-up quota, or a limit on the size of files."""
    return _number(error) in _NO_ROOM


def no_room(folder: Path, needed: str, reason: str | None = None) -> str:
    """Write the sentence for too little space in a folder; `needed` is what is needed, with its verb."""
    because = f" ({reason})" if reason else ""
    return (
        f"Too little room in {str(folder)!r}{because}: {needed} needed and {format_bytes(system.free_space(folder))} "
        "are free; make room, then run the same command again to continue."
    )


@contextmanager
def _named(path: Path) -> Iterator[Path]:
    """Give a name that nobody can know before, and remove what has it in the end."""
    part = _name_part(path)
    try:
        yield part
    finally:
        _remove(part)


def _create(part: Path, path: Path) -> Part:
    if path.exists() and not path.is_file():
        raise OSError(f"it is {'a folder' if path.is_dir() else 'no file'}")
    _clear(path.parent)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINKS | _BINARY, _USUAL)
    try:
        return Part(part, stat.S_IMODE(os.fstat(descriptor).st_mode))
    finally:
        os.close(descriptor)


def _clear(folder: Path) -> None:
    """Make a folder, or remove from it what dead processes left."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if is_abandoned(path):
            _remove(path)


def _name_part(path: Path) -> Path:
    stem = path.name[:_LONGEST_STEM]
    return path.with_name(f".{stem}.{_name_machine()}-{os.getpid()}-{secrets.token_hex(8)}.part")


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Leave a mark in a folder, made where it is missing, while somebody works there; an empty one goes at the end."""
    mark = _name_part(folder / "work")
    try:
        _clear(folder)
        mark.touch()
    except OSError:
        # Whoever writes there says why that cannot be done.
        yield
        return
    try:
        yield
    finally:
        mark.unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()


def is_worked_in(folder: Path) -> bool:
    """Tell whether somebody who has left a mark in a folder may still be at work."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return any(is_temporary(one.name) and not is_abandoned(one) for one in folder.iterdir())
    return False


def is_abandoned(path: Path) -> bool:
    """Tell whether something that is not finished was left by a process that is gone, or lies there for a week."""
    found = _TEMPORARY.fullmatch(path.name)
    if found is None:
        return False
    if found["machine"] == _name_machine() and not system.is_running(int(found["process"])):
        return True
    with suppress(OSError):
        return time.time() - path.lstat().st_mtime > _ABANDONED_SECONDS
    return False


def is_temporary(name: str) -> bool:
    """Tell whether a file or folder of this name is one that is not finished."""
    return _TEMPORARY.fullmatch(name) is not None


@cache
def _name_machine() -> str:
    return hashlib.sha256(system.name_process_space().encode()).hexdigest()[:8]


def _replace_folder(part: Path, path: Path) -> None:
    """Put a folder in the place of what is there."""
    old = _name_part(path) if os.path.lexists(path) else None
    if old is not None:
        path.rename(old)
    try:
        part.rename(path)
    except OSError:
        if old is not None:
            old.rename(path)
        raise
    system.sync_folder(path.parent)
    if old is not None:
        _remove(old)


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _number(error: BaseException) -> int | None:
    """Return the system's error number, wherever libraries put it."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if found := _NUMBERS.search(str(error)):
        return int(found[1] or found[2])
    # PyTorch's own error, of the archive that it cannot finish, stands before the one that ended it.
    before = error.__context__ if isinstance(error, RuntimeError) else None
    return _number(before) if isinstance(before, OSError) else None


def _reason(error: BaseException) -> str:
    """Say why, as the system says it: libraries add addresses and times."""
    number = _number(error)
    return os.strerror(number) if number else " ".join(str(error).split())
