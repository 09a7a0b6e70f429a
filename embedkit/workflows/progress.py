"""One progress bar for everything that takes long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

Progress: TypeAlias = Callable[[float, float], None]
"""Called with the amount of work done and in all."""


@contextmanager
def show_progress(progress: Progress | bool | None, title: str) -> Iterator[Progress | None]:
    """Turn a `progress` argument into a callback: the user's own, or that of a bar on standard error.

    Args:
        progress: A callback; True for a bar, False for none, None for one where standard error is a terminal.
        title: Stands before the bar, as it is.

    Yields:
        The callback; None where nothing is shown.
    """
    if callable(progress):
        yield progress
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True, force_terminal=progress or None)
    if progress is False or not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
