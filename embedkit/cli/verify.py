"""The command `embedkit verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from embedkit.cli.output import show


def verify(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="A store, as `embedkit extract` prints it.")],
    audio: Annotated[bool, typer.Option("--audio", help="Compare the audio files with their digests, too.")] = False,
) -> None:
    """Read a whole store, recompute its digests, and name what is damaged.

    Examples:

        embedkit verify embeddings/demo/mfcc.h5 --audio

    Exits with 1 where something is damaged, or with --audio where a file has changed. `extract` and `fit` do the same
    by themselves to stores so small that it takes no time.
    """
    from embedkit.workflows.verify import verify_store

    found = verify_store(store, audio=audio, progress=None)
    show(str(found))
    if not found.ok:
        raise typer.Exit(1)
