"""embedkit.toml: what it may say, and what it answers to everything else."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pytest

from embedkit.config import SECTIONS, Config, read_config
from embedkit.errors import ConfigError
from embedkit.options.option import SHARE, Declared, declared

EXAMPLES: dict[Any, str] = {
    bool: "true",
    int: "5",
    float: "0.5",
    str: '"a"',
    Path: '"folder/x"',
    tuple: '["a", "b"]',
    Mapping: '["a=b"]',
}


def example_of(one: Declared) -> str:
    if one.told.bound is SHARE or not one.of_numbers:
        words = one.words or get_args(one.kind)
        special = {"loss": '["ce", "focal"]', "head": '"linear"', "mode": '["frozen", "lora"]'}
        return (
            special.get(one.name, "")
            if one.kind is tuple and one.name in special
            else (f'"{words[0]}"' if words else EXAMPLES[one.kind])
        )
    return "[0.1, 1]"


def write(folder: Path, text: str) -> Path:
    (folder / "embedkit.toml").write_text(text, encoding="utf-8")
    return folder


def test_without_a_file_everything_is_empty(tmp_path: Path) -> None:
    config = read_config(tmp_path)
    assert (config.corpus, dict(config.encoders), config.options("fit")) == (None, {}, {})
    assert Config().options("extract") == {}


def test_options_come_back_under_their_python_names(tmp_path: Path) -> None:
    config = read_config(write(tmp_path, '[extract]\nframe-dtype = "float32"\nbatch_seconds = 20\n[fit]\nlr = 0.001\n'))
    assert config.options("extract") == {"frame_dtype": "float32", "batch_seconds": 20.0}
    assert config.options("fit") == {"lr": (0.001,)}


def test_relative_paths_start_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "weights").mkdir()
    write(
        tmp_path,
        'corpus = "corpus"\n[encoders]\nhubert = "weights"\nwavlm = "./absent"\nlarge = "facebook/hubert-large-ll60k"\n'
        '[fit]\nruns = "results"\n',
    )
    monkeypatch.chdir("/")
    config = read_config(tmp_path)
    assert config.corpus == str(tmp_path / "corpus")
    assert config.encoders == {
        "hubert": str(tmp_path / "weights"),
        "wavlm": str(tmp_path / "absent"),
        "large": "facebook/hubert-large-ll60k",
    }
    assert config.options("fit")["runs"] == tmp_path / "results"


def test_a_built_in_corpus_keeps_its_name(tmp_path: Path) -> None:
    assert read_config(write(tmp_path, 'corpus = "demo"')).corpus == "demo"


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_takes_a_value_of_its_kind_and_refuses_others(tmp_path: Path, section: str) -> None:
    for name, one in declared(SECTIONS[section]).items():
        key = one.flag[2:]
        if not one.told.in_toml:
            with pytest.raises(ConfigError, match="Unknown key"):
                read_config(write(tmp_path, f"[{section}]\n{key} = true"))
            continue
        found = read_config(write(tmp_path, f"[{section}]\n{key} = {example_of(one)}")).options(section)
        assert list(found) == [name]
        wrong = "[3.5, true]" if one.kind in (tuple, Mapping) else "[3.5]"
        with pytest.raises(ConfigError, match=rf"\[{section}\] {key} is .*, expected"):
            read_config(write(tmp_path, f"[{section}]\n{key} = {wrong}"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('corpsu = "x"', "Unknown key 'corpsu'. Did you mean 'corpus'"),
        ("[ftt]\nseeds = 1", "Did you mean 'fit'"),
        ("[fit]\nseed = 5", r"Unknown key in \[fit\] 'seed'. Did you mean 'seeds'"),
        ("[fit]\nseeds = true", "expected a whole number"),
        ("[fit]\nlr = [true]", "expected a list of numbers"),
        ("[fit]\nloss = []", "expected a list of texts"),
        ('fit = "ce"', r"starts with \[fit\]"),
        ("corpus = 3", "corpus is 3, expected a text"),
        ("[encoders]\nhubert = 3", r"\[encoders\] hubert is 3"),
        ("[fit", "is not valid TOML"),
    ],
)
def test_a_mistake_gets_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read_config(write(tmp_path, text))
    assert "embedkit.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_text_gets_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "embedkit.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not valid TOML"):
        read_config(tmp_path)
