"""The user's word for code that data names: runs, exported folders, embedkit.toml."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from embedkit.arguments import as_list
from embedkit.config import read_user_config, user_config_path
from embedkit.errors import CodeError, ConfigError
from embedkit.imports import find_own, has_word, looks_like_target, package_of, take_word
from embedkit.progress import Tell
from embedkit.registry import load_object, parse_spec

AllowCode: TypeAlias = "str | Iterable[str]"
"""Top-level packages that data may name parts of."""

_TABLES = {
    "head": "embedkit.heads:HEADS",
    "loss": "embedkit.losses:LOSSES",
    "augment": "embedkit.augmentations:AUGMENTATIONS",
    "track": "embedkit.training.tracking:TRACKERS",
}
_KINDS = {"head_spec": "head", "loss_spec": "loss", "corpora": "corpus", "inputs": "corpus"}
"""What fields hold whose name says it otherwise."""


class Mention(NamedTuple):
    """A part that data names: `module:Name`, the field it stands in, and the file."""

    target: str
    field: str
    file: Path


def walk(data: Any) -> Iterator[tuple[str, Any]]:
    """Yield every value in what JSON or TOML can hold, however deep, with its place (`choices[0].head`)."""
    waiting: list[tuple[str, Any]] = [("", data)]
    while waiting:
        place, value = waiting.pop()
        if place:
            yield place, value
        if isinstance(value, Mapping):
            inner = [(f"{place}.{key}" if place else str(key), one) for key, one in value.items()]
        elif isinstance(value, list | tuple):
            inner = [(f"{place}[{number}]", one) for number, one in enumerate(value)]
        else:
            continue
        waiting += reversed(inner)


def find_mentions(data: Mapping[str, Any], file: Path) -> Iterator[Mention]:
    """Yield every `module:Name` in data, read from a file, wherever a field holds a part."""
    for field, value in walk(data):
        if isinstance(value, str | Path):
            for target in _targets(_kind_of(field), str(value)):
                yield Mention(target, field, file)


def require_word(mentions: Iterable[Mention], allow_code: AllowCode, tell: Tell) -> None:
    """Refuse code that data names unless the user typed its name or allowed its package; nothing is imported here.

    Args:
        mentions: What the data names.
        allow_code: Packages that are allowed beside those of the user's own config.toml.
        tell: Receives a line for each part that is allowed: what it is, where it lies, who names it.

    Raises:
        CodeError: a part without the user's word.
        ConfigError: an allowed package that is none, or a config.toml that cannot be read.
    """
    given = [_package(one) for one in as_list(allow_code)]
    wanted = list({one.target: one for one in mentions if not has_word(one.target)}.values())
    if not wanted:
        return
    allowed = {*given, *read_user_config()}
    for one in wanted:
        if (package := package_of(one.target)) not in allowed:
            raise CodeError(
                f"{str(one.file)!r} names {one.target!r} as {one.field}, code that embedkit does not have, and nothing "
                f"of it was imported: if you trust it, allow its package with --allow-code {package} (in Python "
                f'allow_code="{package}"), or for good with allow_code = ["{package}"] in {str(user_config_path())!r}.'
            )
    for one in wanted:
        place = find_own(one.target)
        told = "which is not found" if place is None else f"from {place!r}"
        tell(f"Importing {one.target!r}, {told}, because {str(one.file)!r} names it as {one.field}.")
        take_word(one.target)


def _package(name: str) -> str:
    if not isinstance(name, str) or not name.isidentifier():
        raise ConfigError(f"--allow-code is {name!r}, expected the name of a top-level package, such as mypackage.")
    return name


def _kind_of(field: str) -> str:
    """Tell what a field holds by its last key: of an encoder, or a part of one, the name says it."""
    *before, last = [part.partition("[")[0] for part in field.split(".")]
    if last == "name" and before and before[-1] in ("encoder", "encoders", "parts"):
        return "encoder"
    return _KINDS.get(last, last)


def _targets(kind: str, spec: str) -> list[str]:
    if kind == "encoder":
        names = [part.strip() for part in spec.split("+")]
    elif kind == "corpus":
        names = [] if os.path.lexists(spec) else [":".join(spec.split(":")[:2])]
    else:
        names = [parse_spec(spec, load_object(_TABLES[kind]))[0]] if kind in _TABLES else []
    return [name for name in names if looks_like_target(name)]
