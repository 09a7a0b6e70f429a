"""What goes to standard output, and what to standard error."""

from __future__ import annotations

import sys

from rich.console import Console


def tell(message: str) -> None:
    """Say something on standard error, as it stands: paths may hold brackets."""
    Console(stderr=True).print(message, markup=False, highlight=False, emoji=False, soft_wrap=True)


def show(text: str) -> None:
    """Print what a command found on standard output, as it stands."""
    sys.stdout.write(text + "\n")


def writes_bold() -> bool:
    """Tell whether standard output is a terminal that can show bold text."""
    console = Console()
    return console.is_terminal and not console.no_color
