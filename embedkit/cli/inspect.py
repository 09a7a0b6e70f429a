"""The command `embedkit inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from embedkit.cli.output import show


def inspect(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="A store, as `embedkit extract` prints it.")],
) -> None:
    """Show what is in a store.

    Examples:

        embedkit inspect embeddings/demo/mfcc.h5

    No embeddings are read for it.
    """
    from embedkit.workflows.inspect import describe_store

    show(str(describe_store(store)))
