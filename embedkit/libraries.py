"""The library that encoders are built on, transformers, with what it imports beside itself, and what libraries say."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from operator import attrgetter
from typing import Any, cast

from embedkit.errors import EncoderError
from embedkit.installation import library_command, removal_command

WORKING_TRANSFORMERS, OLDEST_TRANSFORMERS = "transformers>=5.16,<6", (5, 16)
WORKING_PAIR = ("torch>=2.13,<2.16", "torchaudio>=2.11.1,<2.12")

_BESIDE = ("torchaudio", "torchvision")
"""What transformers imports for every model, wherever it is installed: if one cannot be imported, no model loads."""

_logger = logging.getLogger("embedkit")


def load_transformers(name: str = "") -> Any:
    """Import transformers, or what it holds under a name such as "AutoModel".

    Raises:
        EncoderError: it is missing, broken or too old.
    """
    hide_broken_libraries()
    try:
        module = importlib.import_module("transformers")
        found = attrgetter(name)(module) if name else module
    except Exception as error:
        raise EncoderError(_unusable(_first_reason(error))) from error
    if tuple(int(part) for part in re.findall(r"\d+", str(module.__version__))[:2]) < OLDEST_TRANSFORMERS:
        raise EncoderError(_unusable("too old"))
    return found


@cache
def hide_broken_libraries() -> Mapping[str, str]:
    """Hide from transformers what it would import and what cannot be imported, and warn of it, once in a process.

    Returns:
        For each such library the sentence that was said.
    """
    broken = {}
    for name in _BESIDE:
        try:
            importlib.import_module(name)
        except Exception as error:
            if isinstance(error, ModuleNotFoundError) and error.name == name:
                continue
            for module in [one for one in sys.modules if one.startswith(f"{name}.")]:
                del sys.modules[module]
            # Python takes a module that is None for one that is not there.
            sys.modules[name] = cast(Any, None)
            broken[name] = (
                f"{name} {_version(name)} cannot be imported beside torch {_version('torch')} "
                f"({_first_reason(error)}); encoders run without it, and this mends it: {mend(name)}"
            )
            _logger.warning("%s", broken[name])
    return broken


def mend(name: str) -> str:
    """Return the command after which a library that transformers imports can be imported beside this torch."""
    if name != "torchaudio":
        return removal_command(name)
    release = tuple(int(part) for part in _version("torch").split(".")[:2] if part.isdigit())
    torch, torchaudio = WORKING_PAIR
    if (2, 11) <= release < (2, 13):
        return library_command("torchaudio==2.11.0", flags="--force-reinstall --no-deps")
    if (2, 13) <= release < (2, 16):
        return library_command(torchaudio, flags="--force-reinstall --no-deps")
    return library_command(torch, torchaudio)


@contextlib.contextmanager
def muted(*loggers: str) -> Iterator[None]:
    """Turn what libraries log, warn of and print into entries (INFO) of embedkit's own logger, which few listen to.

    Args:
        loggers: Those whose handlers are put aside, with what is below them.
    """
    found = [logging.getLogger(name) for name in loggers]
    before = [(one.handlers, one.propagate) for one in found]
    entries = _Entries()
    for logger in found:
        logger.handlers, logger.propagate = [entries], False
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(_Lines()):
            warnings.showwarning = _enter_warning
            yield
    finally:
        for logger, (handlers, propagate) in zip(found, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate


class _Entries(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _logger.info("%s: %s", record.name, record.getMessage())


class _Lines(io.TextIOBase):
    """A stream whose lines become entries."""

    def write(self, text: str) -> int:
        if text.strip():
            _logger.info("%s", text.rstrip())
        return len(text)


def _enter_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any, **__: Any
) -> None:
    _logger.info("%s:%d: %s: %s", filename, lineno, category.__name__, message)


def _unusable(reason: str) -> str:
    return (
        f"transformers {_version('transformers')} cannot be used ({reason}); mend it by "
        f"{library_command(WORKING_TRANSFORMERS)}, or take an encoder that needs none, such as mfcc."
    )


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _first_reason(error: BaseException) -> str:
    """Return the line that says why: lazy imports name only what they came to in the end."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].rstrip(".:")
