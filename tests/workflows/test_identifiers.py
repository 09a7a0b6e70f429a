"""Names stay texts from the manifest to the folds, ratings are read where they are asked for, doubt is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

import embedkit
from embedkit.cli import app
from embedkit.errors import FitError
from tests.training.stores import write_synthetic_store

QUICK: dict[str, Any] = {"seeds": 1, "epochs": 1, "head": ["linear"], "lr": [0.01], "threads": 1}
PARTICIPANTS = {
    "digits": [f"2023101512345678{number}" for number in range(6)],
    "zeros": ["7", "07", "007", "0007", "7.0", "70"],
    "powers": ["1e5", "1E5", "100000", "1e05", "1_0", "10"],
    "words": ["NA", "None", "nan", "n/a", "NULL", "inf"],
}


def write_manifest(folder: Path, **columns: list[str]) -> Path:
    """Write a short clip for each value, two labels."""
    count = len(next(iter(columns.values())))
    names = {"label": [("joy", "sorrow")[row % 2] for row in range(count)], **columns}
    for row in range(count):
        soundfile.write(folder / f"{row}.wav", 0.1 * np.random.default_rng(row).uniform(-1, 1, 2000), 16_000)
    lines = [",".join(["path", *names])]
    lines += [",".join([f"{row}.wav", *(values[row] for values in names.values())]) for row in range(count)]
    (folder / "m.csv").write_text("\n".join(lines) + "\n")
    return folder / "m.csv"


def extract(corpus: Path) -> Any:
    return embedkit.extract(corpus, encoder="mfcc", out=corpus.parent / "s.h5", progress=False)


@pytest.mark.parametrize("kind", PARTICIPANTS)
@pytest.mark.parametrize("column", ["speaker", "participant"])
def test_each_name_is_a_fold_and_a_filter(tmp_path: Path, kind: str, column: str) -> None:
    names = [name for name in PARTICIPANTS[kind] for _ in range(4)]
    others = {} if column == "speaker" else {"speaker": [f"s{row // 4}" for row in range(24)]}
    store = extract(write_manifest(tmp_path, **{column: names, **others}))
    assert sorted(store.column(column).tolist()) == sorted(names)
    (record,) = embedkit.fit(store, folds=column, runs=tmp_path / "runs", **QUICK)
    assert sorted(record.config["folds"]["names"]) == sorted(PARTICIPANTS[kind])
    for name in PARTICIPANTS[kind][:3]:
        chosen = embedkit.corpora.select(embedkit.open_corpus(tmp_path / "m.csv"), [f"{column}={name}"])
        assert [item.value(column) for item in chosen.utterances] == [name] * 4


def test_ratings_are_read_from_texts(tmp_path: Path) -> None:
    values = ["2.5", "3", "1e0", "", "nan", "4.25"] * 4
    speakers = [f"s{row // 4}" for row in range(24)]
    store = extract(write_manifest(tmp_path, speaker=speakers, valence=values, text=["2", "3;5"] * 12))
    assert set(store.column("valence").tolist()) == set(values)
    told: list[str] = []
    embedkit.fit(store, targets=["valence"], runs=tmp_path / "runs", tell=told.append, **QUICK)
    assert any("Left out 8 utterances" in sentence for sentence in told)
    with pytest.raises(FitError, match=r"'text' holds texts: .* '3;5' is no number"):
        embedkit.fit(store, targets=["text"], runs=tmp_path / "runs", **QUICK)
    kept = embedkit.corpora.select(embedkit.open_corpus(tmp_path / "m.csv"), ["valence!=nan"])
    assert len(kept.utterances) == 16


def test_large_numbers_of_an_older_store_are_no_folds(tmp_path: Path) -> None:
    numbers = np.repeat(2.0**60 + 1024.0 * np.arange(4), 15)
    store = write_synthetic_store(tmp_path / "tiny.h5", participant=numbers)
    with pytest.raises(FitError, match=r"'participant' of .* too large to be told apart; extract the corpus again"):
        embedkit.fit(store, folds="participant", runs=tmp_path / "runs", **QUICK)


ODD = ["joy", "Joy", "joy\u200b", "sorrow", "nan", "sorrow"]


def test_doubtful_names_are_told_by_check_and_fit(tmp_path: Path) -> None:
    speakers = [("p1", "P1", "p2", "None")[row // 12] for row in range(48)]
    corpus = write_manifest(tmp_path, label=ODD * 8, speaker=speakers)
    found = [item.message for item in embedkit.check_corpus(corpus, folds="speaker").findings if item.kind == "names"]
    told: list[str] = []
    (record,) = embedkit.fit(extract(corpus), runs=tmp_path / "runs", tell=told.append, **QUICK)
    for sentences in (found, told):
        for start in ("1 label is written in several ways", "The label is 'nan' (8)", "1 speaker is written in several",
                      "The speaker is 'None' (12)"):  # fmt: skip
            assert sum(sentence.startswith(start) for sentence in sentences) == 1, start
    assert "nan" in record.metrics["classes"]


def test_patterns_merge_and_what_is_left_out_is_not_told(tmp_path: Path) -> None:
    corpus = write_manifest(tmp_path, label=ODD * 8, speaker=[f"p{row // 12}" for row in range(48)])
    options = {"merge": {"JOY*": "joy"}, "where": ["label!=nan"]}
    assert [item for item in embedkit.check_corpus(corpus, **options).findings if item.kind == "names"] == []
    told: list[str] = []
    store = extract(corpus)
    (record,) = embedkit.fit(store, runs=tmp_path / "runs", tell=told.append, **options, **QUICK)
    assert record.metrics["classes"] == ["joy", "sorrow"]
    assert not any("several ways" in sentence or "missing" in sentence for sentence in told)
    exact = {"merge": {"Joy": "joy", "joy\u200b": "joy"}, "where": ["label!=nan"]}
    (again,) = embedkit.fit(store, runs=tmp_path / "runs", **exact, **QUICK)
    assert again.folder == record.folder
    with pytest.raises(FitError, match="Unknown label 'glee"):
        embedkit.fit(store, runs=tmp_path / "runs", merge={"glee*": "joy"}, **QUICK)


def test_the_command_shows_what_was_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_manifest(tmp_path, speaker=list("abcd"))
    (tmp_path / "other.wav").touch()
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke(app, ["extract", "m.csv", "--encoder", "mfcc", "--encoder", "logmel"])
    assert run.exit_code == 0, run.output
    lines = run.stderr.splitlines()
    assert sum("not read" in line for line in lines) == 1
    assert "audio file that the manifest does not name: 'other.wav'" in lines[-1]
    assert max(map(len, lines[-3:])) <= 80
    checked = CliRunner().invoke(app, ["check", "m.csv"])
    assert checked.output.count("audio file that the manifest does not name: 'other.wav'") == 1
