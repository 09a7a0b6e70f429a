"""The commands `embedkit runs ...`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedkit.cli.output import show, tell, warn
from embedkit.config import read_config
from embedkit.terminal import ask
from embedkit.wording import count_noun, format_bytes

if TYPE_CHECKING:
    from embedkit.workflows.runs import Removal

HELP = """Look at runs, compare them, and remove them.

    embedkit runs list
    embedkit runs clean"""
Folder = Annotated[
    Path | None,
    typer.Argument(metavar="RUNS", help="Folder that holds the runs. [default: embedkit.toml's, else runs]"),
]
_LONGEST = 400
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Remove without asking.")]


def list_runs(runs: Folder = None) -> None:
    """List all runs with their scores and sizes, and whether they can be made again.

    Examples:

        embedkit runs list
    """
    from embedkit.workflows.runs import survey_runs

    folder = runs or read_config().runs
    found = survey_runs(folder)
    for entry in found:
        gone = "  (its store or corpus is gone: it cannot be made again)"
        again = "" if entry.source or entry.damage else gone
        encoders = f", of which encoders {format_bytes(entry.encoders)}" if entry.encoders else ""
        show(f"{entry.folder}  {entry.score}  {format_bytes(entry.size)}{encoders}{again}")
    for entry in found:
        if entry.damage:
            warn(entry.damage)
    total = sum(entry.size for entry in found)
    tell(f"{count_noun(len(found), 'run')}, {format_bytes(total)}; embedkit runs clean removes what is left over.")


def show_run(run: Annotated[Path, typer.Argument(metavar="RUN", help="A run, as `embedkit fit` prints it.")]) -> None:
    """Show how a run was made, and what came of it.

    Examples:

        embedkit runs show runs/demo/mfcc/linear/ce-12345678
    """
    from embedkit.workflows.runs import describe_run

    for name, value in describe_run(run).items():
        show(f"{name}: {_shorten(value)}")


def compare_runs(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Runs, as `embedkit fit` prints them.")],
) -> None:
    """Show in what runs differ: options, data, scores.

    Examples:

        embedkit runs compare runs/demo/mfcc/linear/ce-* runs/demo/mfcc/mlp/*
    """
    from embedkit.workflows.runs import compare_settings

    for number, run in enumerate(runs, 1):
        show(f"[{number}] {run}")
    differing = compare_settings(runs)
    for name, values in differing.items():
        show(f"{name}: {'  '.join(f'[{number}] {_shorten(value)}' for number, value in enumerate(values, 1))}")
    if not differing:
        tell("They differ in nothing.")


def remove_runs(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Runs, as `embedkit fit` prints them.")],
    yes: Yes = False,
) -> None:
    """Remove runs with all that is in them, after asking.

    Examples:

        embedkit runs rm runs/demo/mfcc/linear/ce-12345678
    """
    from embedkit.workflows.runs import plan_removal

    _remove(plan_removal(runs), yes)


def clean_runs(
    runs: Folder = None,
    encoders: Annotated[
        bool, typer.Option("--encoders", help="Also encoders of `--save-encoder`, where the run can be made again.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Remove what is left of fits that were stopped, after asking.

    Examples:

        embedkit runs clean
        embedkit runs clean --encoders --yes

    What is removed can be made again, by the same `embedkit fit`; without it a stopped one begins anew.
    """
    from embedkit.workflows.runs import plan_cleaning

    _remove(plan_cleaning(runs or read_config().runs, encoders=encoders), yes)


def _remove(found: Sequence[Removal], yes: bool) -> None:
    from embedkit.workflows.runs import remove

    say = tell if yes else warn
    for one in found:
        say(f"{one.path}: {one.what}, {format_bytes(one.size)}")
    if not found:
        tell("There is nothing to remove.")
        return
    total = format_bytes(sum(one.size for one in found))
    if not yes and not ask(f"Remove these, {total}?"):
        tell("Nothing was removed.")
        raise typer.Exit(1)
    remove(found)
    tell(f"Removed, {total} are free.")


def _shorten(value: object) -> str:
    """Leave out the middle of what names every recording: config.json has it."""
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-20:]} ({len(text):,} characters)"


COMMANDS: Mapping[str, Callable[..., None]] = {
    "list": list_runs,
    "show": show_run,
    "compare": compare_runs,
    "rm": remove_runs,
    "clean": clean_runs,
}
"""By name."""
