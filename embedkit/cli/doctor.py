"""The command `embedkit doctor`."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer

from embedkit import terminal
from embedkit.cli.output import show, writes_bold


def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", help="Write JSON in place of the table; its keys are in docs/doctor.md.")
    ] = False,
    time_limit: Annotated[
        float,
        typer.Option(
            min=1, metavar="SECONDS", show_default=False, help="How long libraries may take to load. [default: 60]"
        ),
    ] = 60.0,
) -> None:
    """Show what this machine has, what works, and what mends the rest.

    Examples:

        embedkit doctor
        embedkit doctor --json > doctor.json

    Looks at Python, libraries, extras, devices, threads, memory, disks and the Hub cache. Each library is loaded in
    another process, so one that crashes or hangs is a line of the table. Nothing is changed or downloaded. No token is
    shown, and your home folder is written as ~: the table can go into a bug report.

    States: ok; note, works but should be known; missing, an extra or an encoder that is not here; broken, installed and
    does not work. Exits with 1 where something is broken.
    """
    import json

    from embedkit.diagnosis.table import render_examination
    from embedkit.workflows.doctor import examine_machine

    said = "Loading libraries in processes of their own ..."
    with contextlib.nullcontext() if terminal.is_quiet() else terminal.console().status(said):
        found = examine_machine(time_limit=time_limit)
    show(json.dumps(found.to_dict(), indent=2) if as_json else render_examination(found, bold=writes_bold()))
    if not found.ok:
        raise typer.Exit(1)
