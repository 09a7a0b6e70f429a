"""What an option is: declared once, on the field of a dataclass.

The command line, embedkit.toml, the library's calls, the identity of runs and the commands in reports derive from it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import reprlib
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from embedkit.arguments import as_list, describe, fits
from embedkit.errors import ConfigError
from embedkit.registry import load_object, split_specs

Panel = Literal["Data", "Heads", "Training", "Encoder", "LoRA", "Machine"]


@dataclass(frozen=True, kw_only=True)
class Bound:
    """Which numbers an option takes.

    Attributes:
        least, most: The smallest and the largest one.
        above, below: What a number must exceed and stay under.
        text: What is expected, in words.
    """

    text: str
    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    def holds(self, number: float) -> bool:
        """Tell whether a number is one of them."""
        return self.least <= number <= self.most and self.above < number < self.below


POSITIVE = Bound(above=0, text="above zero")
NOT_NEGATIVE = Bound(least=0, text="of at least zero")
COUNT = Bound(least=1, text="of at least 1")
DECIBELS = Bound(least=-100, most=100, text="from -100 to 100")
PART = Bound(above=0, most=1, text="above 0, up to 1")
SHARE = Bound(least=0, below=1, text="from 0 to below 1")


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option, beside its name, type and default, which are those of its field.

    Attributes:
        help: What it does, with its unit.
        panel: Under which heading `--help` shows it.
        metavar: What stands for a value there.
        usual: The default in words, where it is not simply the field's.
        bound: Which numbers it takes.
        catalogue: Where names come from (`module:REGISTRY`).
        specs: Whether names may carry settings, and "all" stands for several.
        repeats: Whether a name may stand twice, and means it.
        synonyms: Other words for its values; a pair for a word that may mean either and is refused.
        split: Whether a text with commas is several values.
        single: Whether a library call may give one value in place of a list.
        accepts: A class (`module:Class`) of which a library call may give an object as well.
        example: Values in words, where one cannot be read.
        modes: In which modes of `fit` it means something; empty for all.
        record: Where a run's configuration keeps it (`budget.epochs`); None for what leaves the numbers as they are.
        resolved: Whether the experiment writes there what it came to, rather than the value itself.
        always: Whether it is written there also where it is the default, as runs always have.
        former: What library calls called it once.
        in_toml: Whether embedkit.toml may hold it.
        on_command_line: Whether it is an option there (and not an argument, or of calls and files alone).
        numeral: Whether embedkit.toml may give a number for the text.
        located: Whether its texts may be paths, which start from embedkit.toml's folder.
    """

    help: str
    panel: Panel
    metavar: str | None = None
    usual: str | None = None
    bound: Bound | None = None
    catalogue: str | None = None
    specs: bool = False
    repeats: bool = False
    synonyms: Mapping[str, str | tuple[str, str]] = field(default_factory=dict)
    split: bool = True
    single: bool = False
    accepts: str | None = None
    example: str = ""
    modes: tuple[str, ...] = ()
    record: str | None = None
    resolved: bool = False
    always: bool = False
    former: str | None = None
    in_toml: bool = True
    on_command_line: bool = True
    numeral: bool = False
    located: bool = False


def option(default: Any = None, **told: Any) -> Any:
    """Declare an option as a dataclass's field; see `Option`."""
    return field(default=default, metadata={"option": Option(**told)})


def shared(cls: Any, name: str, **changed: Any) -> Any:
    """Declare an option as another dataclass does, perhaps with another text or default."""
    found = next(one for one in dataclasses.fields(cls) if one.name == name)
    default = changed.pop("default", found.default)
    return field(default=default, metadata={"option": dataclasses.replace(found.metadata["option"], **changed)})


@dataclass(frozen=True)
class Declared:
    """An option together with its field."""

    name: str
    hint: Any
    default: Any
    told: Option

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def no_flag(self) -> str:
        """What turns it off there, of a switch that can be on."""
        return f"--no-{self.flag[2:]}"

    @property
    def default_note(self) -> str:
        """The default as help texts show it; nothing for a switch that is off."""
        plain = "none" if self.default == () else "" if self.default in (None, False) else str(self.default)
        usual = self.told.usual or plain
        return f" [default: {usual}]" if usual else ""

    @property
    def kind(self) -> Any:
        """Its type without None: a type, a `Literal`, or `tuple` and `Mapping` for several values."""
        inner = [one for one in get_args(self.hint) if one is not types.NoneType]
        hint = self.hint
        if get_origin(hint) in (Union, types.UnionType):
            hint = inner[0] if len(inner) == 1 else str
        origin = get_origin(hint)
        return origin if origin in (tuple, Mapping) else hint

    @property
    def words(self) -> tuple[str, ...]:
        """The words that a single value may be, of its type or of its catalogue; none where it may be any."""
        if get_origin(self.kind) is Literal:
            return tuple(map(str, get_args(self.kind)))
        return tuple(load_object(self.told.catalogue)) if self.kind is str and self.told.catalogue else ()

    @property
    def of_numbers(self) -> bool:
        """Whether it is a list of numbers."""
        return self.kind is tuple and "float" in str(self.hint)

    @property
    def of_places(self) -> bool:
        """Whether it is a list of paths."""
        return self.kind is tuple and Path in get_args(self.hint)

    @property
    def _place(self) -> str:
        """How signatures write a path, or what may stand for one."""
        accepted = f" | {self.told.accepts.partition(':')[2]}" if self.told.accepts else ""
        return f"str | os.PathLike[str]{accepted}"

    @property
    def spelling(self) -> str:
        """What a library call may give, as its signature writes it."""
        optional = " | None" if types.NoneType in get_args(self.hint) else ""
        if self.kind is tuple:
            item = "float" if self.of_numbers else self._place if self.of_places else "str"
            return f"Sequence[{item}]{f' | {item}' if self.told.single else ''}{optional}"
        if self.kind is Path:
            return f"{self._place}{optional}"
        if self.kind is Mapping:
            return f"Mapping[str, str]{optional}"
        if get_origin(self.kind) is Literal:
            return f"Literal[{', '.join(map(repr, get_args(self.kind)))}]{optional}"
        return str(getattr(self.hint, "__name__", self.hint))

    def read(self, value: Any, where: str, *, texts: bool = True) -> Any:
        """Turn what a command line, embedkit.toml or a library call gives into the field's type.

        Args:
            value: What is given.
            where: What it is called there, for sentences.
            texts: Whether a text may stand for several values, or for pairs.

        Raises:
            ConfigError: a value that cannot be one of the option.
        """
        value = self.canonical(value, where)
        if self.kind is tuple and (texts or self.told.single or not isinstance(value, str)) and value is not None:
            value = self._read_list(as_list(value), where, texts=texts)
        elif self.kind is Mapping and texts and not isinstance(value, Mapping):
            value = read_pairs(as_list(value), where)
        elif self.kind is Path and isinstance(value, str | os.PathLike):
            value = Path(value)
        elif self.told.numeral and texts and isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        elif float in (self.kind, *get_args(self.hint)) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        self.check(value, where)
        return value

    def canonical(self, value: Any, where: str) -> Any:
        """Return the option's own word for a synonym, and anything else as it is.

        Raises:
            ConfigError: a word that may mean either of two values.
        """
        meant = self.told.synonyms.get(value.lower(), value) if isinstance(value, str) else value
        if isinstance(value, str) and isinstance(meant, tuple):
            raise ConfigError(f"{where} is {value!r}, which may mean {meant[0]} or {meant[1]}; write which one.")
        return meant

    def check(self, value: Any, where: str) -> None:
        """Check a value of the field's type.

        Raises:
            ConfigError: one of another type, out of bounds, or named twice.
        """
        named = value is None or self.kind is not str or not self.words or value in self.words
        whole = value if self.of_places and isinstance(value, tuple) else (value,)
        if not (named and fits(value, self.hint)) and not (
            self.told.accepts and all(isinstance(one, load_object(self.told.accepts) | Path) for one in whole)
        ):
            raise ConfigError(f"{where} is {_shown(value)}, expected {self._expected(value)}")
        bound = self.told.bound
        numbers = value if self.of_numbers else [value]
        if value in (None, self.default) or bound is None:
            return
        if not numbers or not all(math.isfinite(one) and bound.holds(one) for one in numbers):
            noun = "numbers" if self.of_numbers else "a whole number" if self.kind is int else "a number"
            raise ConfigError(f"{where} is {_shown(value)}, expected {noun} {bound.text}.")
        if len(set(numbers)) < len(numbers):
            raise ConfigError(f"{where} is {_shown(value)}, which holds one twice; name each once.")

    def _expected(self, value: Any) -> str:
        """Say what is expected; of words that can be chosen the nearest."""
        words = [str(one) for one in _choices(self.hint)] or self.words
        if not words:
            return f"{describe(self.hint)}{self.told.example}."
        nearest = [near for text in as_list(value) for near in get_close_matches(str(text), words, n=1)]
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        return f"{'some' if self.kind is tuple else 'one'} of {', '.join(words)}.{hint}"

    def write(self, value: Any) -> list[str]:
        """Write a value as words of a command line; nothing for the default."""
        if value == self.default or value is None:
            return []
        if self.kind is bool:
            return [self.flag if value else self.no_flag]
        if self.kind is Mapping:
            return [word for old, new in value.items() for word in (self.flag, f"{old}={new}")]
        if self.kind is not tuple:
            return [self.flag, _written(value)]
        if self.told.split and self.told.catalogue is None:
            return [self.flag, ",".join(map(_written, value))]
        return [word for one in value for word in (self.flag, str(one))]

    def _read_list(self, items: Sequence[Any], where: str, *, texts: bool) -> tuple[Any, ...]:
        if texts and not items:
            raise ConfigError(f"{where} is [], expected {describe(self.hint)}{self.told.example}.")
        named = all(isinstance(item, str) for item in items)
        if self.told.specs and named:
            found = split_specs(items, load_object(self.told.catalogue or ""))
            return tuple(found if self.told.repeats else dict.fromkeys(found))
        if self.of_places:
            items = [Path(item) if isinstance(item, str | os.PathLike) else item for item in items]
        if self.told.split and texts and named:
            items = split_texts(items)
        return tuple(_number(item, where, self.told.example) for item in items) if self.of_numbers else tuple(items)


def declared(cls: Any) -> Mapping[str, Declared]:
    """Return the options of a dataclass by name, in order."""
    return _declared(cls)


@functools.cache
def _declared(cls: Any) -> Mapping[str, Declared]:
    hints = get_type_hints(cls)
    return {
        one.name: Declared(one.name, hints[one.name], one.default, one.metadata["option"])
        for one in dataclasses.fields(cls)
        if "option" in one.metadata
    }


def read_options(cls: type[Any], given: Mapping[str, Any], where: str, *, texts: bool = True) -> dict[str, Any]:
    """Read and check values by name.

    Args:
        cls: The dataclass that declares them.
        given: Values by option.
        where: How a sentence calls one, with `{flag}` or `{name}` in it.
        texts: See `Declared.read`.

    Raises:
        ConfigError: a value that an option cannot have.
    """
    known = declared(cls)
    return {
        key: known[key].read(value, where.format(flag=known[key].flag, name=key), texts=texts)
        for key, value in given.items()
    }


def split_texts(texts: Iterable[Any]) -> list[str]:
    """Split values at commas."""
    return [part.strip() for text in texts for part in str(text).split(",") if part.strip()]


def read_pairs(texts: Iterable[Any], where: str) -> dict[str, str]:
    """Read `LABEL=LABEL` pairs.

    Raises:
        ConfigError: an item is no pair.
    """
    pairs: dict[str, str] = {}
    for text in split_texts(texts):
        old, equals, new = text.partition("=")
        if not (old and equals and new):
            raise ConfigError(f"{where} is {text!r}, expected LABEL=LABEL as in excitement=happiness.")
        pairs[old.strip()] = new.strip()
    return pairs


def _choices(hint: Any) -> tuple[Any, ...]:
    """Return the words of a `Literal`, wherever it stands in a type."""
    inner = get_args(hint)
    return inner if get_origin(hint) is Literal else tuple(word for one in inner for word in _choices(one))


def _number(item: Any, where: str, example: str) -> Any:
    try:
        return float(item) if isinstance(item, str | int) and not isinstance(item, bool) else item
    except ValueError:
        raise ConfigError(f"{where} is {item!r}, expected numbers{example}.") from None


def _written(value: Any) -> str:
    """Write a value as short as it can be read back unchanged."""
    short = f"{value:g}" if isinstance(value, float) else str(value)
    return short if not isinstance(value, float) or float(short) == value else repr(value)


def _shown(value: Any) -> str:
    return reprlib.repr(list(value) if isinstance(value, tuple) else value)
