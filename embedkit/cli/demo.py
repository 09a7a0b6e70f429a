"""The command `embedkit demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from embedkit.cli.output import show, tell, writes_bold


def demo(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder to work in.")] = Path("embedkit-demo"),
) -> None:
    """Run a small study on the built-in synthetic corpus.

    Examples:

        embedkit demo

    Takes under three minutes and needs no network. Its numbers say nothing about real speech, and that of the encoder
    tiny-random, a transformer of random weights, nothing at all.
    """
    from embedkit.workflows.demo import run_demo

    result = run_demo(out, progress=None, tell=tell)
    show(result.table.render(bold=writes_bold()))
    for line in result.closing_words.splitlines():
        tell(line)
