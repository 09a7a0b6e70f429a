"""The application: its commands, in the order in which the help shows them, and how it starts and ends."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, NoReturn

import typer

from embedkit import terminal
from embedkit.cli.conflict import report_conflict
from embedkit.cli.corpora import check, manifest
from embedkit.cli.demo import demo
from embedkit.cli.doctor import doctor
from embedkit.cli.group import Command, Commands, LogFile, Quiet, Verbose, takes_messages
from embedkit.cli.list import config, list_command
from embedkit.cli.predict import export, predict, try_run
from embedkit.cli.results import cite, figure, report, table
from embedkit.cli.runs import COMMANDS as RUNS
from embedkit.cli.runs import HELP as RUNS_HELP
from embedkit.cli.stores import convert, inspect, verify
from embedkit.cli.study import evaluate, extract, fit, study
from embedkit.imports import leave_current_folder

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
_COMMANDS: list[Callable[..., None]] = [extract, fit, evaluate, table, study, figure, report, predict, export, demo]
_COMMANDS += [check, manifest, inspect, convert, cite, verify, doctor, config]
for _command in _COMMANDS:
    app.command(cls=Command)(takes_messages(_command))
_runs = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help=RUNS_HELP)
for _name, _command in RUNS.items():
    _runs.command(_name, cls=Command)(takes_messages(_command))
app.add_typer(_runs, name="runs")
app.command("list", cls=Command)(takes_messages(list_command))
app.command("try", cls=Command)(takes_messages(try_run))


def main() -> None:
    """Run the command line."""
    leave_current_folder()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8", newline="\n"))  # noqa: SIM115
    try:
        app(prog_name="embedkit")
    except KeyboardInterrupt:
        # Before a command has begun.
        _leave(130)
    except SystemExit as left:
        _leave(left.code if isinstance(left.code, int) else 0)
    except Exception:
        traceback.print_exc()
        if log := terminal.last_log():
            terminal.warn(f"What libraries said before is in {str(log)!r}.")
        _leave(1)


def _leave(code: int) -> NoReturn:
    """End the process without taking the interpreter apart: native threads of libraries have been seen to abort it."""
    # Whoever presses Ctrl-C twice has been answered already.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError), terminal.lend_again():
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


def _show_version(wanted: bool) -> None:
    if wanted:
        import embedkit

        typer.echo(f"embedkit {embedkit.__version__}")
        raise typer.Exit


@app.callback()
def embedkit_command(
    quiet: Quiet = False,
    verbose: Verbose = False,
    log_file: LogFile = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Speech embeddings once, emotion heads in seconds.

    Three commands make a study; without a corpus they run on a small synthetic one:

        embedkit extract --encoder hubert
        embedkit fit --loss ce,focal,ccc
        embedkit table

    Defaults of all options can be set in `embedkit.toml` in the current folder.
    """
    report_conflict()
