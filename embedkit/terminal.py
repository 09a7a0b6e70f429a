"""The user's terminal, which is embedkit's own: while a command runs, what libraries print goes to a log.

In library use nothing is redirected.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO, TypeAlias

from embedkit import system
from embedkit.logs import Log, stamp
from embedkit.wording import escape_controls

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

WIDTH = 80
"""Columns of what is drawn."""
_NUMBERS = {"stdout": 1, "stderr": 2}
Volume: TypeAlias = Literal["quiet", "usual", "verbose"]
"""What a command says of its work: warnings and errors alone, a line for each thing, or all that is logged as well."""


@dataclass(frozen=True)
class _Lending:
    """Where to, while standard output and standard error belong to libraries."""

    stdout: TextIO
    stderr: TextIO
    console: Console
    log: Log
    volume: Volume


_lending: _Lending | None = None
_closed: Log | None = None
"""The log of the last command of this process."""


def stdout() -> TextIO:
    """Return the user's standard output."""
    return sys.stdout if _lending is None else _lending.stdout


def stderr() -> TextIO:
    """Return the user's standard error."""
    return sys.stderr if _lending is None else _lending.stderr


def console() -> Console:
    """Return the console on the user's standard error, while a command runs always the same, so that bars and
    sentences make room for each other."""
    from rich.console import Console

    return Console(stderr=True) if _lending is None else _lending.console


def is_lent() -> bool:
    """Tell whether standard output and standard error belong to libraries at present."""
    return _lending is not None


def is_quiet() -> bool:
    """Tell whether warnings and errors alone are said at present."""
    return _lending is not None and _lending.volume == "quiet"


def tell(sentence: str) -> None:
    """Say something of the work on standard error, unless a command shall be quiet."""
    if not is_quiet():
        warn(sentence)


def warn(sentence: str) -> None:
    """Say something on standard error as it stands: paths may hold brackets, and what steers terminals.

    A terminal shows whole words; what is indented is to be copied and stays one line, as does all for programs.
    """
    own = console()
    broken = own.is_terminal and not sentence.startswith(" ")
    own.print(escape_controls(sentence), markup=False, highlight=False, emoji=False, soft_wrap=not broken)


def ask(question: str) -> bool:
    """Ask on standard error for a yes; what is no answer, as the end of standard input, is a no."""
    warn(f"{question} [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


@contextlib.contextmanager
def lend(log_file: Path | None, command: str, volume: Volume = "usual") -> Iterator[Log]:
    """Leave standard output and standard error to libraries for a while, and lead them to a log.

    Python's streams, its warnings and its loggers, and, where they are the process's own, the file descriptors below
    them, which C libraries and child processes write to. What embedkit's own logger warns of is said on the terminal
    as well.

    Args:
        log_file: The log; None for one in the user's folder.
        command: Whose log it is.
        volume: What `tell` says, and which entries of loggers are said as well.

    Yields:
        The log.

    Raises:
        ConfigError: the log that was named cannot be written.
    """
    global _lending
    if _lending is not None:
        yield _lending.log
        return
    from rich.console import Console

    with contextlib.ExitStack() as stack:
        log = Log(log_file, command)
        stack.callback(_end, log)
        out, err = (stack.enter_context(_own(name, log)) for name in _NUMBERS)
        _lending = _Lending(out, err, Console(file=err), log, volume)
        for name in _NUMBERS:
            stack.callback(setattr, sys, name, getattr(sys, name))
            setattr(sys, name, _LibraryStream(name))
        stack.enter_context(_logging(log, verbose=volume == "verbose"))
        yield log


def lend_again() -> contextlib.AbstractContextManager[object]:
    """Lead what libraries say after a command to its log, or to another; nothing before the first command."""
    if _closed is None:
        return contextlib.nullcontext()
    return lend(_closed.path, "" if _closed.path else "embedkit")


def last_log() -> Path | None:
    """Return the log of the last command of this process; None where nothing was written."""
    return None if _closed is None else _closed.path


def _end(log: Log) -> None:
    global _lending, _closed
    log.close()
    _lending, _closed = None, log


@contextlib.contextmanager
def _own(name: str, log: Log) -> Iterator[TextIO]:
    """Keep a stream for embedkit, and lead its file descriptor to the log, if it is the process's own."""
    number, stream = _NUMBERS[name], getattr(sys, name)
    stream.flush()
    if not _is_real(stream, number):
        yield stream
        return
    buffering = 1 if stream.line_buffering else -1
    own = open(os.dup(number), "w", buffering, encoding=stream.encoding, errors=stream.errors, newline=None)  # noqa: SIM115
    os.dup2(log.descriptor, number)
    try:
        yield own
    finally:
        # What libraries wrote to the stream that Python began with, and what C holds back, belongs to the log.
        stream.flush()
        system.flush_c_streams()
        os.dup2(own.fileno(), number)
        own.close()


def _is_real(stream: TextIO, number: int) -> bool:
    try:
        return stream.fileno() == number
    except (OSError, ValueError):
        return False


class _LibraryStream(io.TextIOBase):
    """What libraries take for standard output or error; they may keep it for longer than it is in use."""

    encoding, errors = "utf-8", "backslashreplace"

    def __init__(self, name: str) -> None:
        self.name = name
        self._begins = True

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return _NUMBERS[self.name]

    @property
    def buffer(self) -> io.FileIO:
        return io.FileIO(self.fileno(), "w", closefd=False)

    def write(self, text: str) -> int:
        if _lending is None:
            current: TextIO = getattr(sys, self.name)
            return 0 if isinstance(current, _LibraryStream) else current.write(text)
        lines = text.splitlines(keepends=True)
        first = f"{stamp()} {self.name}: "
        stamped = [f"{first if number or self._begins else ''}{line}" for number, line in enumerate(lines)]
        self._begins = text.endswith(("\n", "\r")) if text else self._begins
        _lending.log.write("".join(stamped))
        return len(text)


class _Tell(logging.Handler):
    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._process = os.getpid()

    def emit(self, record: logging.LogRecord) -> None:
        # A copy of this process may hold the console's lock for ever.
        if os.getpid() == self._process:
            warn(record.getMessage())


@contextlib.contextmanager
def _logging(log: Log, *, verbose: bool) -> Iterator[None]:
    """Write what is logged, and Python's warnings, to the log; have embedkit's own warnings said as well, or all."""
    entries, told = logging.StreamHandler(log), _Tell(logging.NOTSET if verbose else logging.WARNING)
    entries.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"))
    root, ours = logging.getLogger(), logging.getLogger("embedkit")
    level, speaker = ours.level, root if verbose else ours
    root.addHandler(entries)
    speaker.addHandler(told)
    ours.setLevel(logging.DEBUG if verbose else logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        ours.setLevel(level)
        speaker.removeHandler(told)
        root.removeHandler(entries)


def draw_lines(*parts: RenderableType, bold: bool | None = None) -> list[str]:
    """Draw tables and texts of rich's as lines of 80 columns, whatever the terminal; texts are broken already.

    Args:
        parts: One below the other.
        bold: Whether type may be bold; None: where the terminal has it.
    """
    from rich.console import Console
    from rich.text import Text

    plain = Console(width=WIDTH, force_terminal=bold, no_color=True, highlight=False, emoji=False)
    with plain.capture() as capture:
        for part in parts:
            plain.print(part, soft_wrap=isinstance(part, str | Text))
    return [line.rstrip() for line in capture.get().splitlines()]
