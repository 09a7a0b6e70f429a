"""The command `embedkit list`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from embedkit.cli.output import show
from embedkit.config import read_config


def list_command(
    kind: Annotated[
        Literal["encoders", "heads", "losses", "augmentations", "corpora"],
        typer.Argument(metavar="KIND", show_choices=False, help="encoders, heads, losses, augmentations or corpora."),
    ],
) -> None:
    """List the encoders, heads, losses, augmentations or corpora that can be named.

    Examples:

        embedkit list losses

    Under a name stand its settings with their defaults, written as they are given. Parts of your own are not listed:
    they are named as module:Name.
    """
    from embedkit.workflows.list import list_parts

    entries = list_parts(kind, sources=read_config().encoders if kind == "encoders" else None)
    width = max(len(entry.name) for entry in entries)
    for entry in entries:
        show(f"{entry.name:<{width}}  {entry.summary}")
        if entry.settings:
            settings = ",".join(f"{name}={_write_setting(value)}" for name, value in entry.settings.items())
            show(f"{'':<{width}}  {entry.name}:{settings}")


def _write_setting(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
