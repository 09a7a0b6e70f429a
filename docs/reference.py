"""Pages of the site that are made from the program when it is built: commands with their options, and the library."""

from __future__ import annotations

import inspect
import subprocess
import sys
import textwrap
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import embedkit


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the two pages to those that are written by hand."""
    files.append(File.generated(config, "commands.md", content=describe_commands()))
    files.append(File.generated(config, "library.md", content=describe_library()))


def describe_commands() -> str:
    """Return help, arguments and options of every command as Markdown."""
    command = [
        sys.executable,
        "-m",
        "typer",
        "embedkit.cli",
        "utils",
        "docs",
        "--name",
        "embedkit",
        "--title",
        "Commands",
    ]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def describe_library() -> str:
    """Return signature and docstring of every public name as Markdown."""
    parts = ["# Python reference", "What `import embedkit` offers; [In Python](python.md) shows how it is used."]
    for name in sorted(embedkit.__all__, key=str.lower):
        item = getattr(embedkit, name)
        if callable(item):
            parts += [f"## {name}", f"```text\n{_write_signature(name, item)}\n\n{inspect.getdoc(item)}\n```"]
    return "\n\n".join(parts) + "\n"


def _write_signature(name: str, item: Any) -> str:
    if isinstance(item, type) and issubclass(item, Exception):
        return name
    return textwrap.fill(f"{name}{inspect.signature(item)}", 100, subsequent_indent="    ")
