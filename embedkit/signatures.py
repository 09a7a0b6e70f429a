"""Settings of users' own classes, read from their signatures."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from dataclasses import field, make_dataclass
from typing import Any

from embedkit.errors import ConfigError

_PLAIN = (bool, int, float, str)


def accepted_names(call: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of the arguments that can be given by name."""
    return tuple(
        name for name, item in _parameters(call).items() if item.kind in (item.POSITIONAL_OR_KEYWORD, item.KEYWORD_ONLY)
    )


def derive_options(call: Callable[..., Any], *, given: Collection[str], owner: str) -> type[Any]:
    """Make the options dataclass of a part: one setting for every argument with a plain default.

    Args:
        call: A class or a function.
        given: Arguments that embedkit gives itself.
        owner: What it is, for messages.

    Raises:
        ConfigError: an argument has no default and is not one of those given.
    """
    settings = []
    for name, item in _parameters(call).items():
        if name in given or item.kind in (item.VAR_POSITIONAL, item.VAR_KEYWORD):
            continue
        if item.default is item.empty:
            expected = f"only {', '.join(given)} without one" if given else "one for every argument"
            raise ConfigError(f"{owner}: the argument {name!r} has no default, expected {expected}; give it a default.")
        if isinstance(item.default, _PLAIN) and item.kind is not item.POSITIONAL_ONLY:
            settings.append((name, type(item.default), field(default=item.default)))
    return make_dataclass("Options", settings, frozen=True, kw_only=True)


def _parameters(call: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(call).parameters)
    except (TypeError, ValueError):
        return {}
