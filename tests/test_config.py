"""embedkit.toml: what it may say, and what it answers to everything else."""

from pathlib import Path
from typing import Any

import pytest

from embedkit.config import SECTIONS, Config, read_config
from embedkit.errors import ConfigError

EXAMPLES: dict[str, Any] = {
    "text": '"session"',
    "name": "6",
    "texts": '["a", "b"]',
    "integer": "5",
    "number": "0.5",
    "numbers": "[0.1, 1]",
    "switch": "true",
    "path": '"folder/x"',
    "sources": '["demo", "folder/x"]',
}


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
    assert config.options("fit") == {"lr": [0.001]}


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
    assert config.options("fit")["runs"] == str(tmp_path / "results")


def test_a_built_in_corpus_keeps_its_name(tmp_path: Path) -> None:
    assert read_config(write(tmp_path, 'corpus = "demo"')).corpus == "demo"


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_takes_a_value_of_its_kind_and_refuses_others(tmp_path: Path, section: str) -> None:
    for key, kind in SECTIONS[section].items():
        assert key.replace("-", "_") in read_config(write(tmp_path, f"[{section}]\n{key} = {EXAMPLES[kind]}")).options(
            section
        )
        wrong = "3.5" if kind != "number" else '"3.5"'
        if kind in ("numbers", "name"):
            wrong = '["a"]'
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
