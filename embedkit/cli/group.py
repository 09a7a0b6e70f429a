"""The group that all commands belong to."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from embedkit import terminal
from embedkit.cli.output import tell
from embedkit.errors import EmbedkitError, lacks_memory
from embedkit.imports import take_word_of
from embedkit.writing import lacks_room

LOG_FILE = "embedkit.log_file"
"""Where `--log-file` is kept in the context."""
_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)


class Command(TyperCommand):
    """A command: parts that were typed may be imported; the terminal is embedkit's own, libraries write to the log."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        take_word_of(ctx.params)
        with terminal.lend(ctx.meta.get(LOG_FILE), ctx.command_path):
            return super().invoke(ctx)


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
            tell("Interrupted; finished work is kept, the same command continues it.")
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
    tell(f"Error: {message}" if code == 1 else message)
    return typer.Exit(code)
