"""The command `embedkit config`."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import typer

from embedkit.cli.output import show
from embedkit.config import read_config
from embedkit.workflows.config import effective_settings, write_toml


def config(
    command: Annotated[
        Literal["extract", "fit", "study", "table"] | None,
        typer.Argument(metavar="COMMAND", show_choices=False, help="extract, fit, study or table. [default: all]"),
    ] = None,
    format: Annotated[
        Literal["text", "toml", "json"],
        typer.Option(metavar="FORMAT", help="text; toml: to go on from, as embedkit.toml; json."),
    ] = "text",
) -> None:
    """Show every option with the value that it has here, and where that comes from.

    Examples:

        embedkit config
        embedkit config fit --format toml

    What is typed wins over embedkit.toml in the current folder, and that over the defaults.
    """
    found = effective_settings(read_config(), command)
    if format == "toml":
        show(write_toml(found))
    elif format == "json":
        show(json.dumps([setting.to_dict() for setting in found], indent=2, ensure_ascii=False))
    else:
        width = max(len(setting.key) for setting in found)
        for setting in found:
            origin = "" if setting.origin == "default" else f"  ({setting.origin})"
            show(f"{setting.section:<7}  {setting.key:<{width}}  {setting.text}{origin}")
