"""What the site takes from the program when it is built: commands with their options, options of calls, reports."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

WITH_OPTIONS = ("evaluate", "extract", "fit", "run_study")
"""Calls whose options are declared once for the command line and Python, and put into signatures when imported."""


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the page of commands, and the gallery's reports where `.ci/site` has made them."""
    files.append(File.generated(config, "commands.md", content=describe_commands()))
    for report in find_reports():
        files.append(File.generated(config, f"reports/{report.name}", abs_src_path=str(report)))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Link the reports that are there in the places that `<!-- report NAME -->` marks."""
    made = {report.name for report in find_reports()}

    def link(mark: re.Match[str]) -> str:
        return f"[Open this report](reports/{mark[1]}){{ .md-button }}" if mark[1] in made else ""

    return re.sub(r"<!-- report (\S+) -->", link, markdown)


def find_reports() -> list[Path]:
    """Return the reports in the folder that EMBEDKIT_REPORTS names."""
    folder = os.environ.get("EMBEDKIT_REPORTS")
    return sorted(Path(folder).glob("*.html")) if folder else []


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


class RunOptions(griffe.Extension):
    """Give calls with options the signature and the docstring that they have once imported."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Write them into what was read from the source."""
        embedkit = importlib.import_module("embedkit")
        for name in WITH_OPTIONS if pkg.path == "embedkit" else ():
            call = getattr(embedkit, name)
            read = pkg[f"{call.__module__.removeprefix('embedkit.')}.{call.__name__}"]
            read.parameters = griffe.Parameters(*map(_read_parameter, inspect.signature(call).parameters.values()))
            read.docstring.value = _join_options(inspect.getdoc(call) or "")


def _read_parameter(given: inspect.Parameter) -> griffe.Parameter:
    default = None if given.default is given.empty else "..." if callable(given.default) else repr(given.default)
    kind = griffe.ParameterKind(given.kind.description)
    return griffe.Parameter(given.name, annotation=given.annotation, kind=kind, default=_plain(default))


def _plain(default: str | None) -> str | None:
    """Write a path as the text that it may be given as."""
    return default and re.sub(r"\w+Path\((.+)\)", r"\1", default)


def _join_options(text: str) -> str:
    """Put the options among the arguments, in the place of the object that holds them."""
    text, _, options = text.partition("\n\nOptions:\n")
    return re.sub(r"\n    options: .+(\n {8}.+)*", lambda _: f"\n{options.rstrip()}", text)
