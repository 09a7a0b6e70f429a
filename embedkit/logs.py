"""The log that libraries write to while a command runs: one that is named, or a new file in the user's folder."""

from __future__ import annotations

import contextlib
import os
import time
from datetime import datetime
from pathlib import Path

from platformdirs import user_log_dir

from embedkit.errors import ConfigError
from embedkit.wording import escape_controls

MOST_FILES = 20
MOST_BYTES = 5_000_000
"""Of one file in the user's folder."""


def default_log_file(command: str) -> Path:
    """Return where the log of a command that starts now would lie; on Linux in `~/.local/state/embedkit/log`."""
    name = f"{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}-{command.replace(' ', '-')}.log"
    return Path(user_log_dir("embedkit", appauthor=False)) / name


class Log:
    """An open log.

    One in the user's folder is the user's alone, and stays only if something was written. Where it cannot be written,
    what libraries say is lost, for it should not stop a command.

    Args:
        path: Where to append; None for a new file in the user's folder.
        command: Whose log it is, for its first line; empty for none.

    Attributes:
        path: The file; None where there is none.
        descriptor: Takes what is written.

    Raises:
        ConfigError: the file that was named cannot be written.
    """

    def __init__(self, path: Path | None, command: str) -> None:
        self.path, self._named = path, path is not None
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        if path is None or path.parts[:2] != ("/", "dev"):
            # /dev/stderr is a link by nature; others may have been put there by somebody.
            flags |= getattr(os, "O_NOFOLLOW", 0)
        try:
            if path is None:
                self.path = default_log_file(command)
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                _remove_oldest(self.path.parent)
                self.descriptor = os.open(self.path, flags, mode=0o600)
            else:
                self.descriptor = os.open(path, flags, mode=0o666)
        except OSError as error:
            if path is not None:
                raise ConfigError(
                    f"--log-file {str(path)!r} cannot be written ({error.strerror}); name another file."
                ) from error
            self.path, self.descriptor = None, os.open(os.devnull, os.O_WRONLY)
        self._title = f"# {stamp()} {command}\n" if command else ""
        self.write(self._title)
        self._begins = self._size()

    def write(self, text: str) -> int:
        """Append text, what steers terminals escaped; a log that cannot be written stops nobody."""
        with contextlib.suppress(OSError):
            self._shorten()
            os.write(self.descriptor, escape_controls(text, keep="\t\n\r").encode(errors="backslashreplace"))
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Keep the last part of a log that has grown too long, and no empty one; `path` is None then."""
        if self._named or self.path is None:
            os.close(self.descriptor)
            return
        with contextlib.suppress(OSError):
            self._shorten()
        empty = self._size() == self._begins
        os.close(self.descriptor)
        if empty:
            with contextlib.suppress(OSError):
                self.path.unlink()
            self.path = None

    def _size(self) -> int:
        return os.fstat(self.descriptor).st_size

    def _shorten(self) -> None:
        if self._named or self.path is None or self._size() <= MOST_BYTES:
            return
        with self.path.open("rb") as file:
            file.seek(-MOST_BYTES // 2, os.SEEK_END)
            end = file.read()
        os.ftruncate(self.descriptor, 0)
        self.write(f"{self._title}# Only the end is kept, {len(end):,} bytes.\n")
        os.write(self.descriptor, end)


def stamp() -> str:
    """Return the time and the process, as entries begin."""
    return f"{time.strftime('%Y-%m-%d %H:%M:%S')} {os.getpid()}"


def _remove_oldest(folder: Path) -> None:
    """Make room for one more log; names begin with the time."""
    for path in sorted(folder.glob("*.log"))[: 1 - MOST_FILES]:
        with contextlib.suppress(OSError):
            path.unlink()
