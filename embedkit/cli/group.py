"""The group that all commands belong to."""

from __future__ import annotations

import errno
import functools
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from embedkit import terminal
from embedkit.cli.output import warn
from embedkit.config import FILE_NAME, read_config
from embedkit.errors import ConfigError, EmbedkitError, lacks_memory
from embedkit.imports import take_word_of
from embedkit.wording import list_words
from embedkit.writing import lacks_room

_PANEL = "Messages"
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", rich_help_panel=_PANEL, help="Say nothing but warnings and errors; no bars.")
]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", rich_help_panel=_PANEL, help="Say as well what goes to the log.")
]


def _log_file(variable: str | None) -> Any:
    return typer.Option(
        metavar="FILE",
        envvar=variable,
        rich_help_panel=_PANEL,
        help="Add what libraries print and warn of to this file. [default: one below ~/.local/state/embedkit/log, or "
        "where the system keeps logs]",
    )


LogFile = Annotated[Path | None, _log_file("EMBEDKIT_LOG_FILE")]
MESSAGES: Mapping[str, tuple[Any, Any]] = {
    "quiet": (Quiet, False),
    "verbose": (Verbose, False),
    # The variable would win over what was typed before the command.
    "log_file": (Annotated[Path | None, _log_file(None)], None),
}
"""Options of the application that every command takes as well, with their defaults."""
_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)


def takes_messages(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command be told after its name, too, how much to say; `Command` sees to these options."""
    signature = inspect.signature(command, eval_str=True)
    made = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in MESSAGES.items()
    ]
    own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]

    @functools.wraps(command)
    def call(**given: Any) -> None:
        command(**{name: value for name, value in given.items() if name not in MESSAGES})

    vars(call)["__signature__"] = signature.replace(parameters=[*own, *made])
    call.__annotations__ = {one.name: one.annotation for one in [*own, *made]}
    return call


class Command(TyperCommand):
    """A command: parts that were typed may be imported; the terminal is embedkit's own, libraries write to the log."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line; what is wrong with a value is said without the words of whoever checks it."""
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")
            raise

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        chosen = {name: ctx.params.get(name) or ctx.find_root().params.get(name) for name in MESSAGES}
        take_word_of(ctx.params)
        if chosen["quiet"] and chosen["verbose"]:
            raise typer.BadParameter("give it or --verbose, not both.", param_hint="'--quiet'")
        volume: terminal.Volume = "quiet" if chosen["quiet"] else "verbose" if chosen["verbose"] else "usual"
        with terminal.lend(chosen["log_file"], ctx.command_path, volume):
            try:
                return super().invoke(ctx)
            except EmbedkitError as error:
                _name_file(error, ctx)
                raise


def _name_file(error: EmbedkitError, ctx: Any) -> None:
    """Add to an error which of the values it speaks of stand in embedkit.toml."""
    if FILE_NAME in str(error):
        return
    with suppress(ConfigError):
        places = read_config().name_origins(ctx.info_name, ctx.params, str(error))
        if places:
            error.args = (f"{error} ({list_words(places)} {'is' if len(places) == 1 else 'are'} set in {FILE_NAME}.)",)


CONTINUED = frozenset({"demo", "evaluate", "extract", "fit", "predict", "study"})
"""Commands that keep what is finished when they are interrupted."""
AGAIN = "nothing half done is left, the same command begins anew"


class Commands(TyperGroup):
    """The one place where errors become sentences and exit codes."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; exit with 1 for a problem told in one sentence, 130 when interrupted."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # The interpreter flushes once more when it exits: that must not fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(141) from None
        except KeyboardInterrupt:
            continued = ctx.invoked_subcommand in CONTINUED
            warn(f"Interrupted; {'finished work is kept, the same command continues it' if continued else AGAIN}.")
            raise typer.Exit(130) from None
        except EmbedkitError as error:
            # An extraction that is stopped says itself how to continue.
            code = 130 if isinstance(error.__context__, KeyboardInterrupt) else 1
            raise _tell_error(str(error), code) from None
        except (MemoryError, RuntimeError, ImportError, OSError) as error:
            if isinstance(error, NotImplementedError) and "MPS" in str(error):
                raise _tell_error(
                    "PyTorch does not compute all of this on MPS; set PYTORCH_ENABLE_MPS_FALLBACK=1 to have the CPU do "
                    "what is missing, or take --device cpu."
                ) from None
            if lacks_memory(error):
                raise _tell_error(
                    "There is too little memory for this; close other programs, take a smaller encoder, or --device "
                    "cpu where a GPU is full: what was finished is kept."
                ) from None
            if not isinstance(error, OSError) or not (lacks_room(error) or error.errno in _NOT_ALLOWED):
                raise
            place = f" at {error.filename!r}" if error.filename else ""
            raise _tell_error(f"{error.strerror}{place}; make room or give another place to write to.") from None
        return result


def _tell_error(message: str, code: int = 1) -> typer.Exit:
    warn(f"Error: {message}" if code == 1 else message)
    return typer.Exit(code)
