"""One extraction for each store: a lock that dies with its process."""

from __future__ import annotations

import os
import shutil
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from embedkit import system
from embedkit.errors import BusyError, ExtractionError
from embedkit.writing import write_file

_LOCK, _HOLDER = "lock", "holder"
"""What is locked, and beside it who holds it: on Windows nobody else can read a locked file."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a work folder; the system releases it even when the process is killed.

    Raises:
        BusyError: another process holds it.
    """
    lock = _acquire(folder)
    try:
        holder = f"{os.getpid()} {system.name_machine()}\n"
        write_file(folder / _HOLDER, holder.encode(), error=ExtractionError)
        yield
    finally:
        _leave(folder, lock)


def wait_until_free(folder: Path) -> None:
    """Wait for the process that holds the lock of a work folder, if there is one."""
    with suppress(FileNotFoundError):
        lock = FileLock(folder / _LOCK)
        while _identify(folder / _LOCK) is not None:
            try:
                lock.acquire(timeout=1)
                lock.release()
                return
            except Timeout:
                continue


def empty(folder: Path, keep: Container[str] = ()) -> None:
    """Remove all in a work folder but its lock and what is to be kept."""
    for path in folder.iterdir():
        if path.name in (_LOCK, _HOLDER) or path.name in keep:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _acquire(folder: Path) -> FileLock:
    path = folder / _LOCK
    while True:
        # The last extraction may remove the file and the folder at any moment: a lock on what was removed is none.
        with suppress(FileNotFoundError):
            folder.mkdir(parents=True, exist_ok=True)
            before, lock = _identify(path), FileLock(path)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                raise BusyError(
                    f"Another extraction writes to the same store ({_name_holder(folder)} holds {str(path)!r}); wait "
                    "for it, or choose another file with --out."
                ) from None
            now = _identify(path)
            if now is not None and before in (None, now):
                return lock
            lock.release()


def _identify(path: Path) -> int | None:
    return path.stat().st_ino if path.exists() else None


def _name_holder(folder: Path) -> str:
    """Say which process holds the lock; what one that was killed left behind is no answer."""
    try:
        number, machine = (folder / _HOLDER).read_text(encoding="utf-8").split()
        if machine != system.name_machine():
            return f"process {number} on {machine}"
        return f"process {number}" if system.is_running(int(number)) else "another process"
    except (OSError, ValueError):
        return "another process"


def _leave(folder: Path, lock: FileLock) -> None:
    (folder / _HOLDER).unlink(missing_ok=True)
    if folder.is_dir() and os.listdir(folder) == [_LOCK]:
        # On Windows a locked file cannot be removed; filelock does it there.
        with suppress(OSError):
            (folder / _LOCK).unlink()
    lock.release()
    with suppress(OSError):
        folder.rmdir()
