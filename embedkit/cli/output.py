"""What goes to standard output, and what to standard error."""

from __future__ import annotations

import re

from rich.console import Console

from embedkit.terminal import stdout, tell, warn
from embedkit.wording import escape_controls

__all__ = ["show", "tell", "warn", "writes_bold"]

_BOLD = ("\x1b[1m", "\x1b[0m")
_PIECES = re.compile("(" + "|".join(map(re.escape, _BOLD)) + ")")


def show(found: object) -> None:
    """Print what a command found on standard output at once: as it stands, but for what would steer a terminal."""
    stream, text = stdout(), str(found)
    if stream.isatty():
        # Bold type is our own.
        text = "".join(piece if piece in _BOLD else escape_controls(piece, keep="\n") for piece in _PIECES.split(text))
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    stream.flush()


def writes_bold() -> bool:
    """Tell whether standard output is a terminal that can show bold text."""
    console = Console(file=stdout())
    return console.is_terminal and not console.no_color
