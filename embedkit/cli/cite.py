"""The command `embedkit cite`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from embedkit.cli.output import show


def cite(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, as `embedkit fit` prints it.")],
) -> None:
    """Write the BibTeX of what a run is made of: corpus, encoder, head, loss, statistics.

    Examples:

        embedkit cite runs/emodb/hubert/linear/focal-1a2b3c4d > used.bib

    Parts for which no reference is known, such as corpora of your own, are named in a comment.
    """
    from embedkit.workflows.cite import cite_run

    show(cite_run(run))
