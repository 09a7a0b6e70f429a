"""Files that come from anybody: one sentence's worth of reason for whatever cannot be read, and soon."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from embedkit.config import read_config
from embedkit.errors import ConfigError, CorpusError, EmbedkitError, RunError
from embedkit.received import (
    open_regular,
    open_text,
    parse_json,
    read_bytes,
    read_json,
    read_object,
    read_toml,
    require_regular,
)
from embedkit.training.runs import read_run

pytestmark = pytest.mark.skipif(os.name != "posix", reason="there are no pipes in folders here")

DEEP = 100_000
CONTENTS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "Expecting value"),
    "half of it": (b'{"a": ', "Expecting value"),
    "lists within lists": (b"[" * DEEP, "nested more than 64 levels deep"),
    "objects within objects": (b'{"a":' * DEEP, "nested more than 64 levels deep"),
    "as deep as Python bears": (b"[" * 65 + b"]" * 65, "nested more than 64 levels deep"),
    "a long number": (b'{"a": ' + b"9" * 5000 + b"}", "a whole number of 5,000 digits"),
    "a number beyond floats": (b"[" + b"9" * 400 + b"]", "a whole number of 400 digits"),
    "NaN": (b'{"a": NaN}', "NaN, which is not JSON"),
    "infinity": (b"[-Infinity]", "-Infinity, which is not JSON"),
    "Latin-1": (b'{"a": "\xe4"}', "byte 8 is not UTF-8"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "byte 1 is not UTF-8"),
    "half a character": (b'{"a": "\\ud800"}', "surrogates not allowed"),
    "a list": (b"[1]", "no JSON object"),
    "a word": (b'"a"', "no JSON object"),
}


def fifo(path: Path) -> None:
    os.mkfifo(path)


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def dangling(path: Path) -> None:
    path.symlink_to("none")


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (fifo, "a named pipe, expected a file"),
    "folder": (Path.mkdir, "a folder, expected a file"),
    "device": (device, "a device, expected a file"),
    "loop": (loop, "Too many levels of symbolic links"),
    "dangling": (dangling, "a link that leads nowhere"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_json_that_is_not_usable_says_why(tmp_path: Path, name: str) -> None:
    content, words = CONTENTS[name]
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        read_object(tmp_path / "a.json")
    assert len(str(caught.value)) < 200


def test_json_as_it_should_be_is_read_as_it_is(tmp_path: Path) -> None:
    assert parse_json(b"[" * 64 + b"]" * 64)
    assert parse_json(f"[{2**128 - 1}, -1.5e300]") == [2**128 - 1, -1.5e300]
    assert parse_json(r'{"a": "\ud83d\ude00", "b": "\u00e4"}') == {"a": "😀", "b": "ä"}
    assert parse_json('{"a": 1, "a": 2}') == {"a": 2}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a = " + "[" * DEEP, "nested more than 64 levels deep"),
        ("a = " + "[" * 65 + "]" * 65, "nested more than 64 levels deep"),
        ("a" + ".a" * 70 + " = 1", "nested more than 64 levels deep"),
        ("a = " + "9" * 5000, "4300 digits"),
        ("a = 1\na = 2", "overwrite"),
        ("#" * (1024**2 + 1), "more than 1 MiB"),
        ("a = '\ud800'", "not UTF-8"),
    ],
)
def test_toml_that_is_not_usable_says_why(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "embedkit.toml").write_text(content, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(ValueError, match=words):
        read_toml(tmp_path / "embedkit.toml")
    with pytest.raises(ConfigError, match=words) as caught:
        read_config(tmp_path)
    assert "\n" not in str(caught.value)


def test_no_more_is_read_than_may_be(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * (1024**2 + 1))
    assert len(read_bytes(tmp_path / "a")) == 1024**2 + 1
    with pytest.raises(ValueError, match="more than 1 MiB"):
        read_bytes(tmp_path / "a", 1024**2)
    # What has no size may have no end.
    with pytest.raises(OSError, match="a device"):
        read_bytes(Path("/dev/zero"))


@pytest.mark.parametrize("name", ODD)
def test_whatever_is_no_file_is_refused_at_once(tmp_path: Path, name: str) -> None:
    make, words = ODD[name]
    make(tmp_path / "odd")
    for read in (read_json, read_toml, require_regular, open_regular):
        with pytest.raises(OSError, match=words):
            read(tmp_path / "odd")


def test_a_link_to_a_file_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("ä", encoding="utf-8")
    (tmp_path / "b").symlink_to("a")
    with open_text(tmp_path / "b", encoding="utf-8") as file:
        assert file.read() == "ä"


def _read_manifest(folder: Path) -> Any:
    from embedkit.corpora.opening import open_corpus

    return open_corpus(folder / "corpus.csv")


def _read_run(folder: Path) -> Any:
    if not (folder / "metrics.json").is_symlink():
        (folder / "config.json").write_text('{"format_version": 1}')
    return read_run(folder)


READERS: dict[str, tuple[Callable[[Path], Any], type[EmbedkitError]]] = {
    "embedkit.toml": (read_config, ConfigError),
    "corpus.csv": (_read_manifest, CorpusError),
    "config.json": (read_run, RunError),
    "metrics.json": (_read_run, RunError),
}


@pytest.mark.parametrize("kind", ["pipe", "device", "loop", "dangling"])
@pytest.mark.parametrize("name", READERS)
def test_every_reader_refuses_it_in_one_sentence(tmp_path: Path, name: str, kind: str) -> None:
    ODD[kind][0](tmp_path / name)
    read, error = READERS[name]
    with pytest.raises(error) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)
    assert "Errno" not in str(caught.value)
