"""Tables of named parts (heads, losses, encoders, corpora), imported only when asked for."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, fields
from textwrap import shorten
from typing import Any, Literal, get_args, get_origin, get_type_hints

from embedkit.errors import ConfigError, EmbedkitError, UnknownNameError
from embedkit.imports import import_own, looks_like_target, require_word
from embedkit.installation import describe_lack, install_command


@dataclass(frozen=True)
class Part:
    """One row of a table.

    Attributes:
        target: Where the part is defined (`module:attribute`).
        summary: What it is, in one line.
        in_all: Whether "all" stands for it, too; others must be named.
        extra: The extra that brings the package of the same name, which the part needs.
        cites: Keys of what is cited for it, in `embedkit.reporting.references`.
    """

    target: str
    summary: str
    in_all: bool = True
    extra: str | None = None
    cites: tuple[str, ...] = ()


class Registry:
    """Map names to parts; a duplicate raises, an unknown name is answered with the nearest one.

    Targets are strings, so that listing names for `--help` imports neither torch nor transformers.
    """

    def __init__(self, kind: str, parts: Iterable[tuple[str, Part]]) -> None:
        self.kind = kind
        self._parts: dict[str, Part] = {}
        for name, part in parts:
            self.register(name, part)

    def register(self, name: str, part: Part) -> None:
        """Add a part under a new name."""
        if name in self._parts:
            raise ConfigError(f"The {self.kind} {name!r} is registered twice; choose another name.")
        self._parts[name] = part

    def __contains__(self, name: object) -> bool:
        return name in self._parts

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def summary(self, name: str) -> str:
        """Return the one-line description of a part, with what to install before it can be used."""
        self._require(name)
        part = self._parts[name]
        lacks = part.extra is not None and describe_lack(part.extra, part.extra)
        return f"{part.summary} (first {install_command(part.extra)})" if part.extra and lacks else part.summary

    def cites(self, name: str) -> tuple[str, ...]:
        """Return the keys of what is cited for a part; none for parts of the user's own."""
        return self._parts[name].cites if name in self._parts else ()

    def names_of(self, *targets: str) -> tuple[str, ...]:
        """Return the names of parts that are defined by one of some targets."""
        return tuple(name for name, part in self._parts.items() if part.target in targets)

    @property
    def names_in_all(self) -> list[str]:
        """The names that "all" stands for."""
        return [name for name, part in self._parts.items() if part.in_all]

    def load(self, name: str) -> Any:
        """Import and return the object behind a name, or behind `module:Name` of the user's own.

        Raises:
            UnknownNameError: no such name; the module or what it should hold does not exist.
            CodeError: a `module:Name` for which there is no word of the user's.
        """
        if looks_like_target(name):
            return self._load_own(name)
        self._require(name)
        return load_object(self._parts[name].target)

    def _load_own(self, target: str) -> Any:
        try:
            return load_own(target)
        except UnknownNameError as error:
            module = target.partition(":")[0]
            nearest = difflib.get_close_matches(module, self, n=1) if _is_missing(module, error.__cause__) else []
            hint = f" Did you mean the {self.kind} {nearest[0]!r}?" if nearest else ""
            raise UnknownNameError(f"{error}{hint}") from error

    def _require(self, name: str) -> None:
        if name not in self._parts:
            raise UnknownNameError(unknown_name(self.kind, name, self._parts))


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Write the sentence for an unknown name: the nearest known one, then all of them."""
    names = sorted(set(known))
    nearest = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    noun, of, owner = kind.partition(" of ")
    return f"Unknown {noun} {name!r}{of}{owner}.{hint} Known: {', '.join(names) or 'none'}."


def load_object(target: str) -> Any:
    """Import `module:attribute`, as tables of parts hold it.

    Raises:
        UnknownNameError: the module does not exist, cannot be imported, or holds no such attribute.
    """
    return _load(target, importlib.import_module)


def load_own(target: str) -> Any:
    """Import `module:Name` that the user typed or allowed; it may lie in the current folder.

    Raises:
        CodeError: there is no word of the user's for it.
        UnknownNameError: as for `load_object`.
    """
    require_word(target)
    return _load(target, lambda name: import_own(name, target))


def _load(target: str, import_module: Callable[[str], Any]) -> Any:
    name, _, attribute = target.partition(":")
    try:
        return getattr(import_module(name), attribute)
    except Exception as error:
        raise UnknownNameError(f"Cannot import {target!r}: {_why_not(name, error)}.") from error


def require_extra(
    package: str, *, extra: str, needed_by: str, error: type[EmbedkitError], otherwise: str | None = None
) -> None:
    """Refuse to go on without a package that comes with an extra of embedkit.

    Args:
        package: Its name, which is also that of the module.
        extra: The extra's name.
        needed_by: What needs it, as the sentence begins.
        error: The class to raise.
        otherwise: What can be done without it.

    Raises:
        EmbedkitError: of the class given; it is not installed, or its version does not do.
    """
    if lack := describe_lack(package, extra):
        raise error(_write_need(needed_by, lack, extra, otherwise))


def import_extra(
    package: str, *, extra: str, needed_by: str, error: type[EmbedkitError], otherwise: str | None = None
) -> Any:
    """Import a package that comes with an extra of embedkit; arguments are those of `require_extra`.

    Raises:
        EmbedkitError: of the class given; it is not installed, its version does not do, or it cannot be imported.
    """
    require_extra(package, extra=extra, needed_by=needed_by, error=error, otherwise=otherwise)
    try:
        return importlib.import_module(package)
    except Exception as problem:
        lack = f"{package}, which cannot be imported ({shorten(str(problem), 200).rstrip('.')})"
        raise error(_write_need(needed_by, lack, extra, otherwise)) from problem


def _write_need(needed_by: str, lack: str, extra: str, otherwise: str | None) -> str:
    return f"{needed_by} needs {lack}; run {install_command(extra)}{f', or {otherwise}' if otherwise else ''}."


def _why_not(module: str, error: Exception) -> str:
    """Say what is missing, or where the module's own code fails."""
    if _is_missing(module, error):
        file = f"{module.replace('.', os.sep)}.py"
        return f"there is no module {module!r}, neither installed nor as {file} in the current folder"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    if isinstance(error, AttributeError) and len(frames) == 1:
        place = getattr(sys.modules[module], "__file__", None)
        return f"{error} ({place})" if place else str(error)
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    if isinstance(error, SyntaxError):
        return reason
    return f"{reason}, in {frames[-1].filename!r}, line {frames[-1].lineno}{_hint_of_neighbour(error, frames[-1])}"


def _hint_of_neighbour(error: Exception, frame: traceback.FrameSummary) -> str:
    """Say what to do where a module of the user's imports another one that lies beside it."""
    wanted = error.name if isinstance(error, ModuleNotFoundError) and error.name else ""
    folder = os.path.dirname(frame.filename)
    if not wanted or not any(os.path.exists(os.path.join(folder, f"{wanted}{ending}")) for ending in ("", ".py")):
        return ""
    return (
        f"; {wanted!r} lies beside it, but of the current folder only what is named itself is imported: put both into "
        "one package (a folder), or the folder on PYTHONPATH"
    )


def _is_missing(module: str, error: BaseException | None) -> bool:
    return isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}.")


def parse_spec(spec: str, known: Container[str]) -> tuple[str, dict[str, str]]:
    """Split `name:key=value,flag` into the name and its settings (a flag's value is "true").

    >>> parse_spec("aam:scale=15,margin=0.2", LOSSES)
    ('aam', {'scale': '15', 'margin': '0.2'})

    Targets of users' own parts keep their colon: `package.module:MyHead:width=3`.

    Args:
        spec: The text.
        known: Names of parts: `ccc:flat` is a part with a flag, `my_losses:brier` what a module of one's own holds.
    """
    parts = spec.split(":")
    is_target = looks_like_target(":".join(parts[:2])) and parts[0] not in known
    name = ":".join(parts[:2]) if is_target else parts[0]
    rest = ":".join(parts[2:] if is_target else parts[1:])
    settings: dict[str, str] = {}
    for item in filter(None, rest.split(",")):
        key, _, value = item.partition("=")
        settings[key.strip()] = value.strip() or "true"
    return name, settings


def split_specs(texts: Iterable[str], known: Registry) -> list[str]:
    """Split names at commas, but leave the commas between a part's settings; "all" stands for what is in it.

    `ce,aam:scale=15,margin=0.2` is `ce` and `aam:scale=15,margin=0.2`.
    """
    specs: list[str] = []
    for text in texts:
        for place, part in enumerate(filter(None, (item.strip() for item in text.split(",")))):
            is_name = "=" not in part.partition(":")[0] and (":" in part or part in (*known, "all"))
            if place == 0 or is_name or ":" not in specs[-1]:
                specs.append(part)
            else:
                specs[-1] += f",{part}"
    return [name for spec in specs for name in (known.names_in_all if spec == "all" else [spec])]


def build_options(cls: type[Any], settings: dict[str, Any], *, owner: str) -> Any:
    """Build an options dataclass from settings given as text or as values.

    Raises:
        ConfigError: an unknown key (the nearest is named) or a value of the wrong type.
    """
    hints = get_type_hints(cls)
    known = {item.name: hints[item.name] for item in fields(cls)}
    values: dict[str, Any] = {}
    for key, value in settings.items():
        name = key.replace("-", "_")
        if name not in known:
            raise ConfigError(unknown_name(f"option of {owner}", key, known))
        values[name] = _convert(value, known[name], key=key, owner=owner)
    return cls(**values)


def _convert(value: Any, wanted: Any, *, key: str, owner: str) -> Any:
    if get_origin(wanted) is Literal:
        if value in get_args(wanted):
            return value
        raise ConfigError(
            f"{_capital(owner)}: {key} is {value!r}, expected one of {', '.join(map(str, get_args(wanted)))}."
        )
    try:
        if wanted is bool and isinstance(value, str):
            return {"true": True, "false": False}[value.lower()]
        return wanted(value)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{_capital(owner)}: {key} is {value!r}, expected a value of type {wanted.__name__}."
        ) from error


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
