"""Options of commands: made of their declarations, and those that several commands without any share."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import typer

from embedkit.cli.completion import complete_names
from embedkit.cli.output import tell
from embedkit.config import FILE_NAME, Config
from embedkit.options.option import COUNT, Declared, Panel, declared, read_options
from embedkit.options.predict import CuttingOptions
from embedkit.trust import find_mentions, require_word

_F = TypeVar("_F", bound=Callable[..., None])

CorpusArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="CORPUS",
        help="A corpus folder, a CSV manifest, demo, or module:function:FOLDER of your own. "
        "[default: embedkit.toml's, else demo]",
    ),
]
Where = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN=VALUE", help="Take only utterances with this value; repeatable: all must hold."),
]
Device = Annotated[str | None, typer.Option(metavar="DEVICE", help="auto, cpu, cuda, cuda:1 or mps. [default: auto]")]

Fold = Annotated[
    str | None, typer.Option(metavar="NAME", help="Ask only the heads of this fold. [default: the mean of all]")
]
Seed = Annotated[
    int | None, typer.Option(metavar="N", help="Ask only the heads of this seed. [default: the mean of all]")
]

AllowCode = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-code",
        metavar="PACKAGE",
        help="Import parts of this package where the data names them; repeatable. What you type yourself needs none.",
    ),
]


def require_word_for(options: Mapping[str, Any], allow_code: list[str] | None) -> None:
    """Refuse parts of the user's own that embedkit.toml names, and that were neither typed nor allowed.

    Raises:
        CodeError: there is one.
    """
    require_word(find_mentions(options, Path(FILE_NAME)), allow_code or (), tell)


def takes_options(cls: type[Any]) -> Callable[[_F], _F]:
    """Give a command an option for each one that a dataclass declares; it receives them as keyword arguments."""

    def decorate(command: _F) -> _F:
        signature = inspect.signature(command, eval_str=True)
        own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
        made = [_make_parameter(one) for one in _in_help_order(cls) if one.told.on_command_line]
        vars(command)["__signature__"] = signature.replace(parameters=[*own, *made])
        command.__annotations__ = {one.name: one.annotation for one in [*own, *made]}
        return command

    return decorate


def _in_help_order(cls: type[Any]) -> list[Declared]:
    """Sort options by their panels; in each those of the command's own come before those that it shares."""
    panels, own = get_args(Panel), vars(cls).get("__annotations__", {})
    return sorted(declared(cls).values(), key=lambda one: (panels.index(one.told.panel), one.name not in own))


def _make_parameter(one: Declared) -> inspect.Parameter:
    kind: Any = list[str] if one.kind in (tuple, Mapping) else one.kind
    kind = kind if kind in (bool, int, float, str, Path) or get_origin(kind) in (Literal, list) else str
    if one.words:
        kind = operator.getitem(Literal, (*one.words, *one.told.synonyms))
    switch = one.flag if one.kind is not bool or one.default is False else f"{one.flag}/{one.no_flag}"
    info = typer.Option(
        switch,
        help=f"{one.told.help}{one.default_note}",
        metavar=one.told.metavar,
        rich_help_panel=one.told.panel,
        min=1 if one.told.bound is COUNT else None,
        autocompletion=complete_names(one.told.catalogue) if one.told.catalogue and not one.words else None,
    )
    return inspect.Parameter(
        one.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, info]
    )


MaxHours = _make_parameter(declared(CuttingOptions)["max_hours"]).annotation


def choose_options(cls: type[Any], command: str, config: Config, given: Mapping[str, Any]) -> dict[str, Any]:
    """Let options win over embedkit.toml; what neither sets is left out, for the declared defaults.

    Raises:
        ConfigError: a value that an option cannot have.
    """
    told = {name: value for name, value in given.items() if value not in (None, [])}
    return {**config.options(command), **read_options(cls, told, "{flag}")}
