"""Options as they are declared: what is read, what is refused, and how each is called where it is given."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import embedkit
from embedkit.config import SECTIONS
from embedkit.errors import ArgumentError, ConfigError
from embedkit.options.call import takes_options
from embedkit.options.option import COUNT, POSITIVE, SHARE, declared, option, read_options

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Options:
    rates: tuple[float, ...] = option(
        (0.1,), panel="Training", help="Rates.", bound=POSITIVE, single=True, former="lrs"
    )
    names: tuple[str, ...] = option((), panel="Data", help="Names.")
    count: int = option(1, panel="Data", help="How many.", bound=COUNT)
    share: float = option(0.5, panel="Data", help="A share.", bound=SHARE)
    word: Literal["one", "two"] = option("one", panel="Data", help="A word.")
    place: Path | None = option(panel="Data", help="A place.")
    folds: str = option("speaker", panel="Data", help="Folds.", synonyms={"one-out": "speaker", "o": ("one", "other")})


KNOWN = declared(Options)


@given(st.lists(st.floats(min_value=1e-6, max_value=1e6), min_size=1, max_size=5, unique=True))
def test_numbers_come_back_from_every_way_of_giving_them(numbers: list[float]) -> None:
    text = ",".join(map(repr, numbers))
    for value in (numbers, tuple(numbers), [text], text, [repr(number) for number in numbers]):
        assert KNOWN["rates"].read(value, "--rates") == tuple(numbers)
    words = KNOWN["rates"].write(tuple(numbers))
    assert KNOWN["rates"].read(words[1:], "--rates") == tuple(numbers) if words else numbers == [0.1]


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("rates", ["fast"], "--rates is 'fast', expected numbers."),
        ("rates", ["-1"], "--rates is [-1.0], expected numbers above zero."),
        ("rates", ["nan"], "--rates is [nan], expected numbers above zero."),
        ("rates", [0.1, 0.1], "--rates is [0.1, 0.1], which holds one twice; name each once."),
        ("rates", [], "--rates is [], expected a list of numbers."),
        ("names", [3], "--names is [3], expected a list of texts."),
        ("count", 0, "--count is 0, expected a whole number of at least 1."),
        ("count", True, "--count is True, expected a whole number."),
        ("count", 1.5, "--count is 1.5, expected a whole number."),
        ("share", 1, "--share is 1.0, expected a number from 0 to below 1."),
        ("word", "tow", "--word is 'tow', expected one of one, two. Did you mean 'two'?"),
        ("place", 3, "--place is 3, expected a path."),
        ("folds", "O", "--folds is 'O', which may mean one or other; write which one."),
    ],
)
def test_a_value_that_an_option_cannot_have_gets_one_sentence(name: str, value: Any, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        KNOWN[name].read(value, KNOWN[name].flag)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("word", ["speaker", "one-out", "One-Out"])
def test_a_synonym_is_read_as_the_options_own_word(word: str) -> None:
    assert KNOWN["folds"].read(word, "--folds") == "speaker"
    assert read_options(Options, {"folds": word}, "{name}", texts=False) == {"folds": "speaker"}
    assert KNOWN["folds"].write(KNOWN["folds"].read(word, "--folds")) == []


def test_a_word_that_is_no_synonym_stays() -> None:
    assert KNOWN["folds"].read("text", "--folds") == "text"


@takes_options(Options, "call", leading="rates")
def call(first: str, options: Options, *, loud: bool = False) -> tuple[str, Options, bool]:
    """Call."""
    return first, options, loud


def test_a_call_takes_options_by_name_and_the_leading_one_by_place() -> None:
    assert call("a", 0.5, count=3, loud=True) == ("a", Options(rates=(0.5,), count=3), True)
    assert call("a", place="x/y") == ("a", Options(place=Path("x/y")), False)
    assert call(first="a", names=["b,c"])[1].names == ("b,c",)


@pytest.mark.parametrize(
    ("arguments", "keywords", "sentence"),
    [
        (("a",), {"cuont": 3}, "Unknown argument 'cuont' of call. Did you mean 'count'?"),
        (("a",), {"lrs": [0.1]}, "call: lrs is called rates, as --rates is; rename it."),
        (("a", 0.1), {"rates": 0.1}, "call: rates is given twice; give it once."),
        (("a", 0.1, 3), {}, "call: more arguments than first, rates are given without a name; name the others."),
        ((), {}, "call: first is missing; give it."),
    ],
)
def test_a_wrong_argument_is_a_type_error_that_tells_the_right_one(
    arguments: tuple[Any, ...], keywords: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(TypeError) as caught:
        call(*arguments, **keywords)
    assert isinstance(caught.value, ArgumentError)
    assert str(caught.value).startswith(sentence)


def test_values_of_calls_are_named_by_the_call() -> None:
    with pytest.raises(ConfigError, match=r"^call: names is 'b', expected a list of texts\.$"):
        call("a", names="b")


@pytest.mark.parametrize("name", ["extract", "fit", "run_study"])
def test_help_shows_every_option_with_its_type_and_what_it_does(name: str) -> None:
    function = getattr(embedkit, name)
    parameters = inspect.signature(function).parameters
    assert not any(one.kind in (one.VAR_KEYWORD, one.VAR_POSITIONAL) for one in parameters.values())
    assert all(one.annotation is not one.empty for one in parameters.values())
    known = declared(SECTIONS["study" if name == "run_study" else name])
    shown = [key for key in known if key in parameters and f"{key}: {known[key].told.help[:20]}" in function.__doc__]
    assert len(shown) >= len(known) - 1


def test_every_declared_option_can_be_read_from_its_own_default() -> None:
    for cls in SECTIONS.values():
        defaults = {key: one.default for key, one in declared(cls).items() if one.default not in (None, ())}
        assert read_options(cls, defaults, "{flag}", texts=False) == defaults


def test_the_stub_is_what_the_declarations_make_it() -> None:
    found = subprocess.run([sys.executable, ROOT / ".ci" / "stub", "--check"], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr or "run .ci/stub"
