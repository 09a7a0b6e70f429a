"""How the user hears of what takes long: sentences, and one progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from embedkit import terminal
from embedkit.wording import escape_controls

Progress: TypeAlias = Callable[[float, float], None]
"""Called with the amount of work done and in all."""

Tell: TypeAlias = Callable[[str], None]
"""Called with each sentence for the user."""


@contextmanager
def show_progress(
    progress: Progress | bool | None, title: str, *, note: Callable[[], str] = str
) -> Iterator[Progress | None]:
    """Turn a `progress` argument into a callback: the user's own, or that of a bar on standard error.

    Args:
        progress: A callback; True for a bar, False for none, None for one where standard error is a terminal.
        title: Stands before the bar, as it is.
        note: Gives the line below the bar whenever it is drawn; none while it is empty.

    Yields:
        The callback; None where nothing is shown.
    """
    if callable(progress):
        yield progress
        return
    from rich.console import Console, RenderableType
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    class NotedBar(Bar):
        def get_renderables(self) -> Iterator[RenderableType]:
            yield self.make_tasks_table(self.tasks)
            if text := note():
                yield Text(escape_controls(text), style="dim")

    console = terminal.console()
    if console.is_jupyter and progress is not False:
        # Without ipywidgets rich shows nothing there; a line that is written again needs none, but there is only one.
        progress, note = True, str
    if progress:
        console = Console(file=terminal.stderr(), force_terminal=True, force_jupyter=False)
    unseen = terminal.is_quiet() or console.is_dumb_terminal
    if progress is False or not console.is_terminal or (progress is None and unseen):
        yield None
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    # Else the bar takes what is printed, and shows it above itself.
    aside = not terminal.is_lent()
    with NotedBar(*columns, console=console, transient=True, redirect_stdout=aside, redirect_stderr=aside) as bar:
        task = bar.add_task(escape_controls(title), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
