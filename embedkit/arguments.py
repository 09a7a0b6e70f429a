"""Arguments of the library's calls, checked against their annotations: a mistake gets one sentence, not a traceback."""

from __future__ import annotations

import functools
import inspect
import os
import reprlib
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from embedkit.errors import ConfigError
from embedkit.registry import unknown_name
from embedkit.wording import list_words

_P = ParamSpec("_P")
_R = TypeVar("_R")

_NAMES: Mapping[Any, tuple[str, str]] = {
    str: ("a text", "texts"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("True or False", "truth values"),
    os.PathLike: ("a path", "paths"),
    Path: ("a path", "paths"),
    Mapping: ("a dictionary", "dictionaries"),
    Callable: ("a function", "functions"),
}
"""What a type is called, one and several."""

_CALLED = {"ndarray": "a NumPy array", "IOBase": "an open file"}


def as_list(value: Any) -> list[Any]:
    """Make a list of several things, or of one: a text, a path, or anything that is not iterable."""
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str | os.PathLike) else [value]


def checked(name: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Check the arguments of a call before it runs.

    Names of arguments must be known, and values of the annotated types; whether a value makes sense is for the call to
    say.

    Args:
        name: What users call the function.

    Raises:
        ConfigError: by the call: an argument of an unknown name, or a value of another type.
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        @functools.wraps(function)
        def call(*arguments: _P.args, **keywords: _P.kwargs) -> _R:
            _check(name, function, arguments, keywords)
            return function(*arguments, **keywords)

        return call

    return decorate


def _check(name: str, function: Callable[..., Any], arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
    signature = inspect.signature(function)
    for key in keywords:
        if key not in signature.parameters:
            raise ConfigError(unknown_name(f"argument of {name}", key, signature.parameters))
    for key, value in signature.bind(*arguments, **keywords).arguments.items():
        hint = _annotations(function).get(key, Any)
        if not fits(value, hint):
            raise ConfigError(f"{name}: {key} is {reprlib.repr(value)}, expected {describe(hint)}.")


@functools.cache
def _annotations(function: Callable[..., Any]) -> dict[str, Any]:
    """Read the annotations; none where they name what is imported for type checkers alone."""
    try:
        return get_type_hints(function)
    except NameError:
        return {}


def fits(value: Any, hint: Any) -> bool:
    """Tell whether a value is of an annotated type: numbers of any kind for numbers, any iterable for a list."""
    if hint is Any:
        return True
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(fits(value, one) for one in inner)
    if origin is Literal:
        return isinstance(value, Hashable) and value in inner
    if hint in (None, NoneType):
        return value is None
    if hint in (int, float):
        return isinstance(value, Integral if hint is int else Real) and not isinstance(value, bool)
    kind = origin or hint
    if kind is Callable:
        return callable(value)
    if kind is tuple:
        return isinstance(value, tuple) and all(fits(one, inner[0]) for one in value)
    if not isinstance(value, kind) and not (issubclass(kind, Iterable) and isinstance(value, Iterable)):
        return False
    if not _is_list(kind):
        return isinstance(value, kind)
    if isinstance(value, str | bytes | Mapping):
        return False
    # What can be read once only is left for the call to read.
    return not inner or not isinstance(value, Collection) or all(fits(one, inner[0]) for one in value)


def _is_list(kind: Any) -> bool:
    return issubclass(kind, Iterable) and kind.__module__ == "collections.abc" and not issubclass(kind, Mapping)


def describe(hint: Any) -> str:
    """Say in words what a value of an annotated type is."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return list_words(dict.fromkeys(describe(one) for one in inner if one is not NoneType), "or")
    kind = origin or hint
    if kind is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if kind in _NAMES:
        return _NAMES[kind][0]
    if kind is tuple or _is_list(kind):
        return f"a list of {_NAMES[inner[0]][1]}" if inner and inner[0] in _NAMES else "a list"
    return _CALLED.get(kind.__name__, f"a {kind.__name__}")
