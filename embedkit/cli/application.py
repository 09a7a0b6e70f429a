"""The application: its commands, in the order in which the help shows them, and how it starts and ends."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from contextlib import suppress
from typing import Annotated, NoReturn

import typer

from embedkit.cli.check import check
from embedkit.cli.demo import demo
from embedkit.cli.doctor import doctor
from embedkit.cli.export import export
from embedkit.cli.extract import extract
from embedkit.cli.figure import figure
from embedkit.cli.fit import fit
from embedkit.cli.group import Commands
from embedkit.cli.inspect import inspect
from embedkit.cli.list import list_command
from embedkit.cli.predict import predict
from embedkit.cli.report import report
from embedkit.cli.study import study
from embedkit.cli.table import table
from embedkit.cli.verify import verify

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (extract, fit, table, study, figure, report, predict, export, demo, check, inspect, verify, doctor):
    app.command()(_command)
app.command("list")(list_command)


def main() -> None:
    """Run the command line."""
    # Users' own heads and losses lie in the folder they work in; last, so that nothing installed is shadowed.
    sys.path.append(os.getcwd())
    try:
        app(prog_name="embedkit")
    except KeyboardInterrupt:
        # Before a command has begun.
        _leave(130)
    except SystemExit as left:
        _leave(left.code if isinstance(left.code, int) else 0)


def _leave(code: int) -> NoReturn:
    """End the process without taking the interpreter apart: native threads of libraries have been seen to abort it."""
    # Whoever presses Ctrl-C twice has been answered already.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    atexit._run_exitfuncs()
    with suppress(OSError):
        sys.stdout.flush()
    with suppress(OSError):
        sys.stderr.flush()
    os._exit(code)


def _show_version(wanted: bool) -> None:
    if wanted:
        import embedkit

        typer.echo(f"embedkit {embedkit.__version__}")
        raise typer.Exit


@app.callback()
def embedkit_command(
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
