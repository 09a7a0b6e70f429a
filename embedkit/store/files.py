"""Files that are whole or not there: space reserved, synced, renamed; a full disk is told in one sentence."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from embedkit.errors import StoreError
from embedkit.wording import format_bytes

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def free_bytes(folder: Path) -> int:
    """Return the free space of the file system that holds a folder, or the nearest folder above it that exists."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


@contextmanager
def writing_to(folder: Path, needed: int) -> Iterator[None]:
    """Turn a full disk, a quota, a file-size limit or a missing permission into one sentence.

    Raises:
        StoreError: says what was needed and what is free, or what else went wrong.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StoreError(no_room(folder, needed, error.strerror)) from error
        reason = error.strerror or " ".join(str(error).split())
        raise StoreError(
            f"Cannot write to {str(error.filename or folder)!r} ({reason}); choose another place."
        ) from error


def no_room(folder: Path, needed: int, reason: str | None = None) -> str:
    """Write the sentence for too little space in a folder."""
    because = f" ({reason})" if reason else ""
    return (
        f"Too little room in {str(folder)!r}{because}: {format_bytes(needed)} are needed and "
        f"{format_bytes(free_bytes(folder))} are free; make room, then run the same command again to continue."
    )


def reserve_space(descriptor: int, size: int) -> None:
    """Make sure that a file can grow to `size` bytes; `OSError` where it cannot."""
    if size and hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)


def write_at(descriptor: int, data: Any, offset: int) -> None:
    """Write all bytes of a buffer at an offset."""
    view = memoryview(data).cast("B")
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_durably(part: Path, path: Path) -> None:
    """Sync a finished file, give it its name in one step, and sync the folder."""
    descriptor = os.open(part, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(part, path)
    sync_folder(path.parent)


def write_durably(path: Path, data: bytes) -> None:
    """Write a small file in one step: either all of it is there, or nothing has changed."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    replace_durably(part, path)
