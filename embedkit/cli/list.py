"""What can be named, and what is set: `embedkit list` and `config`."""

from __future__ import annotations

import json
import textwrap
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from embedkit.cli.output import show
from embedkit.config import read_config
from embedkit.terminal import stdout
from embedkit.workflows.config import effective_settings, write_toml


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


def config(
    command: Annotated[
        Literal["extract", "fit", "study", "table", "evaluate"] | None,
        typer.Argument(
            metavar="COMMAND", show_choices=False, help="extract, fit, study, table or evaluate. [default: all]"
        ),
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
            show(_wrap(f"{setting.section:<8}  {setting.key:<{width}}  {setting.text}{origin}", width + 12))


def _wrap(line: str, indent: int) -> str:
    """Break a line between words on a terminal; programs get it whole."""
    if not stdout().isatty():
        return line
    columns = max(Console(file=stdout()).width, indent + 20)
    return textwrap.fill(
        line, columns, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False, expand_tabs=False
    )
