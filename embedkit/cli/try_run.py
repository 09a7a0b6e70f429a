"""The command `embedkit try`."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from embedkit.cli.options import AllowCode, Device, Fold, Seed
from embedkit.cli.output import show, tell
from embedkit.config import read_config


def try_run(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="A run's folder, as `embedkit fit` prints it, an exported folder, or ORG/NAME of one on the Hugging "
            "Face Hub.",
        ),
    ],
    port: Annotated[int | None, typer.Option(metavar="N", help="Port of the page. [default: any that is free]")] = None,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open the page in the browser.")] = False,
    fold: Fold = None,
    seed: Seed = None,
    device: Device = None,
    allow_code: AllowCode = None,
) -> None:
    """Try a run with your voice: a page in the browser, for a microphone or a file.

    Examples:

        embedkit try runs/emodb/hubert/linear/ce-1a2b3c4d
        embedkit try exported/ --port 8765 --no-open

    Shows what the run says of the whole and of windows of two seconds. The page is for this computer alone, and what
    is heard stays on it. Ctrl-C ends it.
    """
    from embedkit.workflows.try_run import open_voice_server

    server = open_voice_server(
        run,
        fold=fold,
        seed=seed,
        device=device or "auto",
        port=port or 0,
        sources=read_config().encoders,
        allow_code=allow_code or (),
        tell=tell,
    )
    with server:
        show(server.address)
        if no_open or not webbrowser.open_new_tab(server.address):
            tell("Open this address in a browser on this computer; Ctrl-C ends.")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            tell("Ended.")
