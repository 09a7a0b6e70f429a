"""The command `embedkit manifest`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from embedkit.cli.output import show, tell


def manifest(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The corpus's folder, searched to the bottom.")],
    pattern: Annotated[
        str,
        typer.Option(
            metavar="PATTERN",
            help="The path of a file below the folder, with {label}, {speaker} and other columns in braces; * is any "
            "text, ** any folders.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The CSV file. [default: the folder's name, in the current folder]"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    unknown_speakers: Annotated[
        bool, typer.Option("--unknown-speakers", help="Let the pattern leave out who is speaking.")
    ] = False,
) -> None:
    """Write the manifest of a corpus whose folders and file names say what is in it.

    Examples:

        embedkit manifest recordings --pattern '{label}/{speaker}_*.wav'
        embedkit manifest mine --pattern '{session}/**/{speaker}-{label}.*'

    A field holds no slash and ends where the rest of the pattern first fits. Shows labels, speakers and other columns,
    and the audio files that were left; the manifest goes to extract and check.
    """
    from embedkit.workflows.manifest import write_manifest

    show(write_manifest(folder, pattern, out=out, overwrite=overwrite, unknown_speakers=unknown_speakers, tell=tell))
