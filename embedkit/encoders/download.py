"""One file into the Hugging Face cache, going on where an earlier try broke off.

`hf_hub_download` links what it finds in the cache. It fetches files as well, but loses what had arrived when it gave
up (huggingface_hub 2).
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from huggingface_hub import constants, get_session
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import WeakFileLock, are_progress_bars_disabled, build_hf_headers, hf_raise_for_status

from embedkit import terminal
from embedkit.errors import EncoderError
from embedkit.system import free_space, replace, sync_file
from embedkit.writing import lacks_room, open_log

WAITS = (1.0, 2.0, 4.0)
"""Seconds before each new try, as long as nothing arrives."""

SHA256_DIGITS = 64


class BrokenTransferError(Exception):
    """A transfer that broke off, again and again; the text says how much has arrived."""


@dataclass(frozen=True, kw_only=True)
class Blob:
    """A file as the Hub describes it.

    Attributes:
        file: Its name, for the bar.
        repository: `org/name`, for messages.
        url: Where it is.
        etag: Its content's name in the cache; of large files the SHA-256.
        size: Bytes; None where the Hub does not say.
        folder: The repository's folder in the cache.
        lock: Of everybody who writes this file.
    """

    file: str
    repository: str
    url: str
    etag: str
    size: int | None
    folder: Path
    lock: Path


def download(blob: Blob) -> None:
    """Put a file where `hf_hub_download` finds it; nothing where it is already.

    Raises:
        EncoderError: there is too little room, or what arrived is not what was announced.
        BrokenTransferError: the transfer broke off; what has arrived stays.
        HfHubHTTPError, OSError: the Hub refuses it, or the cache cannot be written.
    """
    path = blob.folder / "blobs" / blob.etag
    part = path.with_name(f"{path.name}.incomplete")
    for folder in (path.parent, blob.lock.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(blob.lock):
        if path.exists():
            return
        try:
            with open_log(part) as file:
                file.seek(0, os.SEEK_END)
                _require_room(blob, file.tell())
                with _bar(blob) as report:
                    _receive(blob, file, report)
        except OSError as error:
            if lacks_room(error):
                raise _no_room(blob, part.stat().st_size if part.exists() else 0, error.strerror) from error
            raise
        _verify(blob, part)
        sync_file(part)
        replace(part, path)


def _receive(blob: Blob, file: BinaryIO, report: Callable[[int], None]) -> None:
    waits = iter(WAITS)
    while blob.size is None or file.tell() < blob.size:
        before, reason = file.tell(), None
        try:
            _stream(blob.url, file, report)
        except (HfHubHTTPError, OSError):
            raise
        # Those of httpx, or of httpx2: whichever huggingface_hub is built on.
        except Exception as error:
            reason = error
        if reason is None and (blob.size is None or file.tell() >= blob.size):
            return
        if file.tell() > before:
            waits = iter(WAITS)
        wait = next(waits, None)
        if wait is None:
            size = f" of {blob.size:,}" if blob.size else ""
            raise BrokenTransferError(f"the transfer broke off after {file.tell():,}{size} bytes") from reason
        time.sleep(wait)


def _stream(url: str, file: BinaryIO, report: Callable[[int], None]) -> None:
    """Append what is missing; where the Hub does not send parts, all of it."""
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    if file.tell():
        headers["Range"] = f"bytes={file.tell()}-"
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    # Redirects lead to other hosts, to which the client hands no token.
    with get_session().stream("GET", url, headers=headers, timeout=timeout, follow_redirects=True) as response:
        hf_raise_for_status(response)
        if file.tell() and response.status_code != 206:
            file.truncate(0)
            file.seek(0)
        for chunk in response.iter_bytes():
            file.write(chunk)
            report(file.tell())


def _verify(blob: Blob, part: Path) -> None:
    """Delete what is not what was announced: nothing could go on from it."""
    sound = blob.size is None or part.stat().st_size == blob.size
    if sound and len(blob.etag) == SHA256_DIGITS:
        with part.open("rb") as file:
            sound = hashlib.file_digest(file, "sha256").hexdigest() == blob.etag
    if not sound:
        part.unlink()
        raise EncoderError(
            f"What arrived of {blob.file} of {blob.repository!r} is not what the Hub announced, by its size or its "
            "SHA-256, and was deleted; run the command again, and if it stays so, get it from elsewhere and name the "
            "folder."
        )


def _require_room(blob: Blob, present: int) -> None:
    if blob.size is not None and free_space(blob.folder) < blob.size - present:
        raise _no_room(blob, present, None)


def _no_room(blob: Blob, present: int, reason: str | None) -> EncoderError:
    needed = f"{blob.size - present:,} bytes are needed and " if blob.size else ""
    free = free_space(blob.folder)
    return EncoderError(
        f"There is too little room for {blob.file} of {blob.repository!r} in {constants.HF_HUB_CACHE!r} "
        f"({needed}{free:,} are free{f'; {reason}' if reason else ''}); make room, or let HF_HOME name a folder on "
        "another disk, and run the command again: what has arrived is kept."
    )


@contextmanager
def _bar(blob: Blob) -> Iterator[Callable[[int], None]]:
    """Show bytes, speed and time on standard error, where it is a terminal."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns: tuple[Any, ...] = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    console = terminal.console()
    hidden = not console.is_terminal or console.is_dumb_terminal or bool(are_progress_bars_disabled())
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task(blob.file, total=blob.size)
        yield lambda done: bar.update(task, completed=done)
