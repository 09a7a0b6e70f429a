"""Files that are whole or not there: space reserved, synced, renamed; a full disk is told in one sentence."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from embedkit import system
from embedkit.errors import StoreError
from embedkit.wording import format_bytes

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


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
        f"{format_bytes(system.free_space(folder))} are free; make room, then run the same command again to continue."
    )


def create_afresh(part: Path) -> None:
    """Make an empty file in place of what lies there: left by a killed process, or a link that somebody planted."""
    part.unlink(missing_ok=True)
    part.open("xb").close()


def replace_durably(part: Path, path: Path) -> None:
    """Sync a finished file, give it its name in one step, and sync the folder."""
    system.sync_file(part)
    system.replace(part, path)
    system.sync_folder(path.parent)


def write_durably(path: Path, data: bytes) -> None:
    """Write a small file in one step: either all of it is there, or nothing has changed."""
    part = path.with_name(path.name + ".part")
    create_afresh(part)
    part.write_bytes(data)
    replace_durably(part, path)
