"""One extraction for each store: a lock that dies with its process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from embedkit.errors import ExtractionError

if sys.platform != "win32":
    import fcntl


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a work folder; the system releases it even when the process is killed.

    Raises:
        ExtractionError: another process holds it.
    """
    descriptor = _acquire(folder)
    try:
        yield
    finally:
        _remove_empty(folder)
        os.close(descriptor)


def _remove_empty(folder: Path) -> None:
    if folder.is_dir() and os.listdir(folder) == ["lock"]:
        (folder / "lock").unlink()
        folder.rmdir()


def _acquire(folder: Path) -> int:
    path = folder / "lock"
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            # The last extraction removed the folder in this moment.
            continue
        if not _lock(descriptor):
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise ExtractionError(
                f"Another extraction writes to the same store (process {holder} holds {str(path)!r}); wait for it, or "
                "choose another file with --out."
            )
        if _is_current(descriptor, path):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            return descriptor
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_current(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
