"""Options that several commands share, and how their values are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

from embedkit.config import SECTIONS, Config
from embedkit.errors import ConfigError

Where = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN=VALUE", help="Take only utterances with this value; repeatable: all must hold."),
]
Device = Annotated[str | None, typer.Option(metavar="DEVICE", help="auto, cpu or cuda. [default: auto]")]
Threads = Annotated[int | None, typer.Option(min=1, metavar="N", help="CPU threads. [default: all cores]")]


def choose_options(command: str, config: Config, given: Mapping[str, Any]) -> dict[str, Any]:
    """Let options win over embedkit.toml; what neither sets is left out, for the library's defaults."""
    names = [key.replace("-", "_") for key in SECTIONS[command]]
    return {**config.options(command), **{name: given[name] for name in names if given[name] not in (None, [])}}


def split_texts(texts: Iterable[str | float]) -> list[str]:
    """Split values at commas."""
    return [part.strip() for text in texts for part in str(text).split(",") if part.strip()]


def read_number(text: str, option: str) -> float:
    """Read a number.

    Raises:
        ConfigError: it is none.
    """
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{option} is {text!r}, expected numbers such as 3e-4,1e-3.") from None


def read_merge(texts: Iterable[str], option: str) -> dict[str, str]:
    """Read `LABEL=LABEL` pairs.

    Raises:
        ConfigError: an item is no pair.
    """
    merge: dict[str, str] = {}
    for text in split_texts(texts):
        label, equals, other = text.partition("=")
        if not (label and equals and other):
            raise ConfigError(f"{option} is {text!r}, expected LABEL=LABEL as in excitement=happiness.")
        merge[label.strip()] = other.strip()
    return merge
