"""Library calls that take declared options as keyword arguments, visible in their signatures."""

from __future__ import annotations

import functools
import inspect
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from embedkit.errors import ArgumentError
from embedkit.imports import take_word_of
from embedkit.options.option import Declared, declared, read_options
from embedkit.registry import unknown_name

_R = TypeVar("_R")


def takes_options(
    cls: type[Any], name: str, *, leading: str | None = None, also: str | None = None
) -> Callable[[Callable[..., _R]], Callable[..., _R]]:
    """Let a function of an options object be called with each option as a keyword argument.

    Args:
        cls: The dataclass that declares them; the function takes one as `options`.
        name: What users call the function.
        leading: An option that may also follow the function's own arguments without its name.
        also: Another name of that option.

    Raises:
        ArgumentError: by the call: an argument that it does not have; the nearest is told.
        ConfigError: by the call: a value that an option cannot have.
    """

    def decorate(function: Callable[..., _R]) -> Callable[..., _R]:
        whole = inspect.signature(function)
        own = {key: one for key, one in whole.parameters.items() if key != "options"}
        first = [key for key, one in own.items() if one.kind is one.POSITIONAL_OR_KEYWORD]
        known = {key: one for key, one in declared(cls).items() if key not in own}
        former = {one.told.former: key for key, one in known.items() if one.told.former}

        @functools.wraps(function)
        def call(*arguments: Any, **keywords: Any) -> _R:
            places = [*first, *([leading] if leading else [])]
            if len(arguments) > len(places):
                raise ArgumentError(
                    f"{name}: more arguments than {', '.join(places)} are given without a name; name the others."
                )
            given = dict(zip(places, arguments, strict=False))
            for key in keywords:
                if key in given:
                    raise ArgumentError(f"{name}: {key} is given twice; give it once.")
                if key in former and key != also:
                    raise ArgumentError(f"{name}: {key} is called {former[key]}, as --{former[key]} is; rename it.")
                if key not in own and key not in known and key != also:
                    raise ArgumentError(unknown_name(f"argument of {name}", key, [*own, *known]))
            given |= keywords
            if also in given:
                given[str(leading)] = given.pop(also)
            take_word_of(given)
            missing = [key for key in own if key not in given and own[key].default is inspect.Parameter.empty]
            if missing:
                raise ArgumentError(f"{name}: {missing[0]} is missing; give it.")
            chosen = {key: given.pop(key) for key in known if key in given}
            options = cls(**read_options(cls, chosen, f"{name}: {{name}}", texts=False))
            return function(**given, options=options)

        vars(call)["__signature__"] = whole.replace(parameters=_parameters(known, own, leading))
        call.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\nOptions:\n{describe_options(known)}"
        return call

    return decorate


def describe_options(known: Mapping[str, Declared]) -> str:
    """Write what each option of a dataclass does, a paragraph each."""
    told = [f"{key}: {one.told.help}{one.default_note}" for key, one in known.items()]
    wrap = functools.partial(textwrap.fill, width=110, initial_indent="    ", subsequent_indent="        ")
    return "\n".join(map(wrap, told))


def _parameters(
    known: Mapping[str, Declared], own: Mapping[str, inspect.Parameter], leading: str | None
) -> list[inspect.Parameter]:
    keyword = inspect.Parameter.KEYWORD_ONLY
    made = {
        key: inspect.Parameter(key, keyword, default=one.default, annotation=one.spelling) for key, one in known.items()
    }
    front = [one for one in own.values() if one.kind is not keyword]
    if leading:
        front.append(made.pop(leading).replace(kind=inspect.Parameter.POSITIONAL_OR_KEYWORD))
    return [*front, *made.values(), *(one for one in own.values() if one.kind is keyword)]
