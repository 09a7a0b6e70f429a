"""What goes to standard output, and what to standard error."""

from __future__ import annotations

from rich.console import Console

from embedkit.terminal import stdout, tell

__all__ = ["show", "tell", "writes_bold"]


def show(found: object) -> None:
    """Print what a command found on standard output, as it stands, at once."""
    stdout().write(f"{found}\n")
    stdout().flush()


def writes_bold() -> bool:
    """Tell whether standard output is a terminal that can show bold text."""
    console = Console(file=stdout())
    return console.is_terminal and not console.no_color
