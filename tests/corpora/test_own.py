"""Corpora of the user's own, by `package.module:read_mine:FOLDER`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from embedkit.corpora import Corpus, Utterance, open_corpus
from embedkit.corpora.base import Reader
from embedkit.corpora.opening import as_corpus
from embedkit.errors import CorpusError, EmbedkitError, UnknownNameError


def read_mine(folder: Path) -> Corpus:
    utterances = tuple(Utterance(id=path.stem, path=path.name, label="joy") for path in sorted(folder.iterdir()))
    return Corpus(name="mine", kind="mine", root=folder, utterances=utterances)


@pytest.fixture(autouse=True)
def _own_package() -> Iterator[None]:
    module = ModuleType("own.corpora")
    contents = {
        "read_mine": read_mine,
        "READER": Reader(layout="mine", recognise=lambda folder: True, read=read_mine),
        "number": 3,
        "read_nothing": lambda folder: None,
    }
    for name, value in contents.items():
        setattr(module, name, value)
    sys.modules["own.corpora"] = module
    yield
    del sys.modules["own.corpora"]


@pytest.mark.parametrize("name", ["read_mine", "READER"])
def test_a_folder_is_read_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.wav").touch()
    monkeypatch.chdir(tmp_path)
    for folder in ("data", str(tmp_path / "data")):
        corpus = open_corpus(f"own.corpora:{name}:{folder}")
        assert corpus.root == tmp_path / "data"
        assert [utterance.id for utterance in corpus.utterances] == ["a"]


@pytest.mark.parametrize(
    ("source", "error", "sentence"),
    [
        ("own.corpora:read_mine", CorpusError, "no folder is given; give it as own.corpora:read_mine:FOLDER"),
        ("own.corpora:read_mine:nowhere", CorpusError, "there is no folder"),
        ("own.corpora:read_yours:.", UnknownNameError, "Cannot import 'own.corpora:read_yours'"),
        ("own.corpora:number:.", CorpusError, "expected a function"),
        ("own.corpora:read_nothing:.", CorpusError, "returned a NoneType"),
        ("corpora:read_mine:.", UnknownNameError, "Cannot import 'corpora:read_mine': there is no module 'corpora'"),
        ("corpora/read:mine:.", CorpusError, "There is no folder or file"),
    ],
)
def test_what_cannot_be_read_is_told(source: str, error: type[EmbedkitError], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        open_corpus(source)


def read_numbers(folder: Path) -> Corpus:
    rows = [(20231015123456781, 1.0, 7), (20231015123456782, float("nan"), None)]
    utterances: list[Any] = [
        Utterance(id=id_, path="a.wav", label=1, speaker=speaker, columns={"take": take, "valence": 2.5})  # type: ignore[arg-type]
        for id_, speaker, take in rows
    ]
    return Corpus(name="mine", kind="mine", root=folder, utterances=tuple(utterances))


@pytest.mark.parametrize("opened", [False, True])
def test_numbers_that_are_names_become_texts(tmp_path: Path, opened: bool) -> None:
    vars(sys.modules["own.corpora"])["read_numbers"] = read_numbers
    corpus = as_corpus(read_numbers(tmp_path)) if opened else as_corpus(f"own.corpora:read_numbers:{tmp_path}")
    assert [(item.id, item.label, item.speaker, dict(item.columns)) for item in corpus.utterances] == [
        ("20231015123456781", "1", "1", {"take": "7", "valence": 2.5}),
        ("20231015123456782", "1", "", {"take": "", "valence": 2.5}),
    ]
