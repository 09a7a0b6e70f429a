"""A manifest of a corpus whose folders and names say what is in it."""

import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from embedkit.cli import app
from embedkit.corpora import open_corpus


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.chdir(tmp_path)
    names = ["Anger/anna_A_1.WAV", "Anger/007_2.wav", "joy/anna_3.flac", "joy/odd.wav", "joy/notes.txt", ".x/a_1.wav"]
    for name in [*names, unicodedata.normalize("NFD", "Ärger/bö_1.wav")]:
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).touch()

    def invoke(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["manifest", "mine", "--pattern", *arguments], prog_name="embedkit")

    return invoke


def test_a_manifest_is_written_shown_and_read(run: Callable[..., Any], tmp_path: Path) -> None:
    found = run("{label}/{speaker}_*")
    assert found.exit_code == 0
    assert found.stdout.splitlines()[:4] == [
        "label  files  speakers",
        "anger      2         2",
        "joy        1         1",
        "ärger      1         1",
    ]
    assert "speaker: 3 (007 (1), anna (2), bö (1))" in found.stdout
    assert "Left: 1 audio file that the pattern does not match, 'joy/odd.wav'." in found.stdout
    assert found.stdout.endswith("mine.csv: 4 rows\n")
    corpus = open_corpus("mine.csv")
    told = {(one.speaker, one.label, corpus.audio_path(one).is_file()) for one in corpus.utterances}
    assert told == {("anna", "anger", True), ("007", "anger", True), ("anna", "joy", True), ("bö", "ärger", True)}


def test_a_manifest_elsewhere_names_its_files_from_there(run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    found = run("{label}/{speaker}_{take}.*", "--out", "lists/own.csv")
    assert found.exit_code == 0, found.stderr
    assert (tmp_path / "lists/own.csv").read_text(encoding="utf-8").splitlines()[0] == "path,label,speaker,take"
    assert all(one.path.endswith(("av", "AV", "ac")) for one in open_corpus("lists/own.csv").utterances)


def test_names_that_begin_like_formulas_come_back(run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "mine/=joy").mkdir()
    (tmp_path / "mine/=joy/-anna_+1.wav").touch()
    assert run("=*/{speaker}_{label}.wav").exit_code == 0
    assert "'-anna" in (tmp_path / "mine.csv").read_text()
    (found,) = open_corpus("mine.csv").utterances
    assert (found.label, found.speaker, found.path) == ("+1", "-anna", "mine/=joy/-anna_+1.wav")


def test_what_is_there_is_kept(run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("own")
    found = run("{label}/{speaker}_*")
    assert (found.exit_code, (tmp_path / "mine.csv").read_text()) == (1, "own")
    assert "is there already" in found.stderr
    assert run("{label}/{speaker}_*", "--overwrite").exit_code == 0
    assert (tmp_path / "mine.csv").read_text() != "own"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{label}-{speaker}.wav"], "matches none of the 5 audio files"),
        (["{label}/*.wav"], "leaves labels without speakers"),
        (["{speaker}/*.wav"], "names no label"),
        (["{label}{speaker}"], "is ambiguous"),
        (["{label}/{speaker}_{start}.wav"], "calls a part start, which manifests read as times in seconds"),
        (["{label}/{speaker}_{offset}.wav"], "may be a start or an end"),
        (["{label}/{speaker}_{split}.wav"], "expected train, dev or test"),
        (["{label}/{id}_*", "--unknown-speakers"], "files the id"),
    ],
)
def test_patterns_that_make_no_corpus(run: Callable[..., Any], arguments: list[str], sentence: str) -> None:
    found = run(*arguments)
    assert (found.exit_code, found.stderr.count("\n")) == (1, 1)
    assert sentence in found.stderr
    assert not Path("mine.csv").exists()


def test_speakers_may_be_unknown(run: Callable[..., Any]) -> None:
    assert run("{label}/*", "--unknown-speakers").exit_code == 0
    assert {one.speaker for one in open_corpus("mine.csv").utterances} == {""}
