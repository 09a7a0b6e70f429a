"""The user's word for code that data names: where it is looked for, and where it may stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from embedkit.config import read_config, read_user_config, user_config_path
from embedkit.errors import CodeError, ConfigError
from embedkit.imports import has_word, take_word
from embedkit.trust import find_mentions, require_word

FILE = Path("config.json")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("embedkit.imports._WORD", {})


def write_settings(text: str) -> None:
    user_config_path().parent.mkdir(parents=True, exist_ok=True)
    user_config_path().write_text(text)


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"head_spec": "zz.heads:H:width=2/4"}, "head_spec"),
        ({"head": "zz.heads:H"}, "head"),
        ({"loss_spec": "zz.heads:H:x=1"}, "loss_spec"),
        ({"choices": [{"head": "linear"}, {"head": "zz.heads:H:width=2"}]}, "choices[1].head"),
        ({"store": {"encoder": {"name": "zz.heads:H"}}}, "store.encoder.name"),
        ({"store": {"encoder": {"name": "mfcc+hubert + zz.heads:H"}}}, "store.encoder.name"),
        ({"store": {"encoder": {"parts": [{"name": "mfcc"}, {"name": "zz.heads:H"}]}}}, "store.encoder.parts[1].name"),
        ({"store": {"encoders": [{"name": "zz.heads:H"}]}}, "store.encoders[0].name"),
        ({"test_store": {"encoder": {"name": "zz.heads:H"}}}, "test_store.encoder.name"),
        ({"tuning": {"augment": ["speed", "zz.heads:H:low=1"]}}, "tuning.augment[1]"),
        ({"corpus": "zz.heads:H:some/folder"}, "corpus"),
        ({"encoder": ("mfcc", "zz.heads:H+mfcc")}, "encoder[1]"),
    ],
)
def test_every_field_that_holds_a_part_is_looked_at(data: dict[str, Any], field: str) -> None:
    assert [(one.target, one.field) for one in find_mentions(data, FILE)] == [("zz.heads:H", field)]


def test_registered_names_and_other_texts_are_no_code() -> None:
    data = {
        "head_spec": "mlp:hidden=64/256",
        "loss_spec": "ccc:flat",
        "choices": [{"head": None}, 7, "zz:H"],
        "classes": ["zz:H"],
        "store": {"encoder": {"name": "org/name@main", "source": "zz:H"}, "path": "zz:H"},
        "corpus": None,
    }
    assert not list(find_mentions(data, FILE))


def test_without_a_word_one_sentence_says_who_names_what_and_how_to_allow_it() -> None:
    with pytest.raises(CodeError) as caught:
        require_word(find_mentions({"head": "zz.heads:H"}, FILE), ["other"], lambda _: None)
    for said in ("'config.json' names 'zz.heads:H' as head", "--allow-code zz ", 'allow_code="zz"', "config.toml"):
        assert said in str(caught.value)
    assert not has_word("zz.heads:H")


@pytest.mark.parametrize("word", ["argument", "text", "settings", "typed"])
def test_a_word_is_an_argument_the_users_settings_or_what_was_typed(word: str) -> None:
    Path("zz").mkdir()
    Path("zz/heads.py").touch()
    write_settings('allow-code = ["zz"]' if word == "settings" else "")
    if word == "typed":
        take_word("zz.heads:H")
    said: list[str] = []
    allowed: Any = {"argument": ("other", "zz"), "text": "zz"}.get(word, ())
    require_word(find_mentions({"head": "zz.heads:H", "loss": "ce"}, FILE), allowed, said.append)
    assert has_word("zz.heads:H")
    assert len(said) == (0 if word == "typed" else 1)
    for line in said:
        assert all(part in line for part in ("'zz.heads:H'", str(Path("zz/heads.py").absolute()), "'config.json'"))


def test_what_is_refused_with_another_part_is_not_allowed_either() -> None:
    with pytest.raises(CodeError, match="'b:H'"):
        require_word(find_mentions({"head": "a:H", "loss": "b:H"}, FILE), "a", lambda _: None)
    assert not has_word("a:H")


@pytest.mark.parametrize("name", ["a.b", "a:H", "", "a-b", "*"])
def test_a_word_is_for_a_whole_package(name: str) -> None:
    with pytest.raises(ConfigError, match="expected the name of a top-level package"):
        require_word((), [name], lambda _: None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("allow_cod = []", "Did you mean 'allow_code'?"),
        ('allow_code = "zz"', "expected a list of packages"),
        ('allow_code = ["zz.heads"]', "expected a list of packages"),
        ("allow_code = [", "is not valid TOML"),
    ],
)
def test_settings_that_cannot_be_used_get_one_sentence(text: str, said: str) -> None:
    write_settings(text)
    with pytest.raises(ConfigError, match=r"config\.toml") as caught:
        read_user_config()
    assert said in str(caught.value)


def test_settings_are_never_looked_for_in_the_current_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "of-user"))
    for value in ("", "relative", "."):
        monkeypatch.setenv("XDG_CONFIG_HOME", value)
        assert user_config_path() == tmp_path / "of-user" / ".config" / "embedkit" / "config.toml"
    assert read_user_config() == ()


@pytest.mark.parametrize("text", ['allow_code = ["zz"]', '[fit]\nallow-code = ["zz"]', '[study]\nallow_code = "zz"'])
def test_embedkit_toml_allows_nothing(text: str) -> None:
    Path("embedkit.toml").write_text(text)
    with pytest.raises(ConfigError, match="not read here, for this file travels with studies"):
        read_config()
