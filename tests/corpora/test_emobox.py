"""EmoBox's metadata: folds, splits, label maps, and what they name that is missing."""

import json
from pathlib import Path
from typing import Any

import pytest

from embedkit.corpora import open_corpus
from embedkit.errors import CorpusError

LABELS = {"c": "Angry", "n": "Neutral", "j": "Happy"}


def write_corpus(
    root: Path, folds: dict[int, dict[str, list[str]]], *, form: str = "jsonl", audio: bool = True
) -> Path:
    """Write the metadata of CaFE; utterances are named as in "01-c-2": speaker, emotion, number."""
    folder = root / "data/cafe"
    for number, sides in folds.items():
        place = folder / f"fold_{number}"
        place.mkdir(parents=True)
        for side, names in sides.items():
            rows = [
                {"key": f"cafe-{one}", "wav": f"downloads/cafe/é/{one}.wav", "emo": one.split("-")[1]} for one in names
            ]
            text = "".join(f"{json.dumps(row)}\n" for row in rows)
            if form == "json":
                text = json.dumps({row.pop("key"): row for row in rows})
            (place / f"cafe_{side}_fold_{number}.{form}").write_text(text)
            for row in rows if audio else ():
                (root / row["wav"]).parent.mkdir(parents=True, exist_ok=True)
                (root / row["wav"]).touch()
    (folder / "label_map.json").write_text(json.dumps(LABELS))
    names = sorted({one for sides in folds.values() for names in sides.values() for one in names})
    stm = [
        f"cafe-{one} 1 {one[:2]} 0 5.18 <id=cafe-{one},lang=en,spk={one[:2]},emotion={one[3]}> {one[3]}"
        for one in names
    ]
    (folder / "data.seg.wrd.stm").write_text("\n".join(stm))
    return folder


ONE, TWO = ["01-c-1", "01-n-2"], ["02-c-1", "02-j-2", "02-x-3"]


@pytest.mark.parametrize("form", ["jsonl", "json"])
def test_folds_become_a_column(tmp_path: Path, form: str) -> None:
    folds = {1: {"train": TWO, "test": ONE}, 2: {"train": ONE, "test": TWO}}
    corpus = open_corpus(write_corpus(tmp_path, folds, form=form))
    assert (corpus.name, corpus.kind, corpus.root) == ("emobox-cafe", "emobox", tmp_path)
    told = {(one.id, one.label, one.speaker, one.columns["fold"], one.split) for one in corpus.utterances}
    assert told == {
        ("cafe-01-c-1", "anger", "01", "1", ""),
        ("cafe-01-n-2", "neutral", "01", "1", ""),
        ("cafe-02-c-1", "anger", "02", "2", ""),
        ("cafe-02-j-2", "happiness", "02", "2", ""),
    }
    assert all(corpus.audio_path(one).is_file() for one in corpus.utterances)
    assert "EmoBox's own test sets: fit --folds fold." in corpus.notes
    assert any("1 utterance whose label is not in label_map.json" in note for note in corpus.notes)


def test_one_fold_is_a_split(tmp_path: Path) -> None:
    corpus = open_corpus(write_corpus(tmp_path, {1: {"train": ["01-c-1"], "valid": ["02-n-1"], "test": ["03-j-1"]}}))
    assert [one.split for one in corpus.utterances] == ["train", "dev", "test"]
    assert "EmoBox's own test sets: fit --folds split." in corpus.notes


def test_several_corpora_are_told_apart(tmp_path: Path) -> None:
    write_corpus(tmp_path, {1: {"train": ONE, "test": TWO}})
    with pytest.raises(CorpusError, match=r"cafe' looks like emobox; give that"):
        open_corpus(tmp_path / "data")


def test_files_that_are_missing(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path, {1: {"train": ONE, "test": TWO}})
    (tmp_path / "downloads/cafe/é/02-j-2.wav").unlink()
    with pytest.raises(CorpusError, match=r"name 1 audio file of 4 that is not below .*02-j-2\.wav"):
        open_corpus(folder)


@pytest.mark.parametrize(
    ("folds", "sentence"),
    [
        ({1: {"train": ONE, "test": ONE}}, "2 utterances on both sides of fold 1"),
        ({1: {"train": TWO, "test": ONE}, 2: {"train": TWO, "test": ONE}}, "in the test sets of folds 1 and 2"),
        ({1: {"train": ONE}}, "has no cafe_test_fold_1.jsonl"),
        ({1: {"train": ONE, "test": []}}, "Fold 1 in .* tests no utterance"),
    ],
)
def test_folds_that_are_none(tmp_path: Path, folds: Any, sentence: str) -> None:
    with pytest.raises(CorpusError, match=sentence):
        open_corpus(write_corpus(tmp_path, folds))


def add_line(folder: Path, fold: int, side: str, row: dict[str, str]) -> None:
    with (folder / f"fold_{fold}/cafe_{side}_fold_{fold}.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def test_a_recording_on_both_sides_under_two_keys_is_tested_alone(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path, {1: {"train": ONE, "test": TWO}})
    add_line(folder, 1, "test", {"key": "another", "wav": "downloads/cafe/é/01-c-1.wav", "emo": "n"})
    corpus = open_corpus(folder)
    assert {one.id: one.split for one in corpus.utterances} == {
        "another": "test",
        "cafe-01-n-2": "train",
        "cafe-02-c-1": "test",
        "cafe-02-j-2": "test",
    }
    told = "Left out 1 utterance to train on whose audio is in the test set, too, such as 'cafe-01-c-1'."
    assert told in corpus.notes


def test_a_recording_on_both_sides_of_one_of_several_folds(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path, {1: {"train": TWO, "test": ONE}, 2: {"train": ONE, "test": TWO}})
    add_line(folder, 2, "test", {"key": "another", "wav": "downloads/cafe/é/01-c-1.wav", "emo": "c"})
    with pytest.raises(CorpusError, match="1 utterance on both sides of fold 2, such as 'another'"):
        open_corpus(folder)


def test_a_label_map_of_another_name_and_case(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path, {1: {"train": ONE, "test": TWO}})
    (folder / "label_map.json").unlink()
    (folder / "label_dict.json").write_text('{"C": "Angry", "n": "Neutral", "J": "Happy", "X": "Bored"}')
    labels = {one.id: one.label for one in open_corpus(folder).utterances}
    assert labels == {
        "cafe-01-c-1": "anger",
        "cafe-01-n-2": "neutral",
        "cafe-02-c-1": "anger",
        "cafe-02-j-2": "happiness",
        "cafe-02-x-3": "bored",
    }


def test_codes_that_case_alone_tells_apart(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path, {1: {"train": ["01-c-1", "01-C-2"], "test": ["02-n-1"]}})
    (folder / "label_map.json").write_text('{"c": "Angry", "C": "Happy", "N": "Neutral"}')
    assert [one.label for one in open_corpus(folder).utterances] == ["happiness", "anger", "neutral"]


def test_speakers_are_those_of_the_table(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path, {1: {"train": ["01-c-1 a", "02-n-1"], "test": ["03-j-1"]}})
    (folder / "data.seg.wrd.stm").write_text(
        "cafe-01-c-1 a 1 x y 0 5 <id=cafe-01-c-1 a,lang=en,spk=x y,emotion=c> c\n"
        "cafe-02-n-1 1 02-n-1 0 5 <id=cafe-02-n-1,lang=en,spk=02-n-1,emotion=n> n\n"
    )
    corpus = open_corpus(folder)
    assert [one.speaker for one in corpus.utterances] == ["x y", "", ""]
    told = "Did not take 1 speaker that data.seg.wrd.stm calls by the utterance's own name, such as 'cafe-02-n-1'."
    assert told in corpus.notes
    assert "Did not find 1 speaker in data.seg.wrd.stm, such as 'cafe-03-j-1'." in corpus.notes


def test_other_tables_in_folds_are_named(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path, {1: {"train": ONE, "test": TWO}})
    for name in ("cafe_test2_fold_1.jsonl", "cafe_test2_fold_1.json", "cafe_test_fold_1.json"):
        (folder / "fold_1" / name).touch()
    assert "Did not read 1 file in the folds, such as 'fold_1/cafe_test2_fold_1.jsonl'." in open_corpus(folder).notes


TWICE = '{"key": "a", "wav": "a.wav", "emo": "n"}'
BACKWARDS = '{"key": "a", "wav": "a.wav", "emo": "n", "start_time": 5, "end_time": 2}'


@pytest.mark.parametrize(
    "line",
    [
        f"{TWICE}\n{TWICE}",
        BACKWARDS,
        "[]",
        "{",
        '{"key": "a", "emo": "n"}',
        '{"key": "a", "wav": "../a.wav", "emo": "n"}',
    ],
)
def test_lines_that_are_none(tmp_path: Path, line: str) -> None:
    folder = write_corpus(tmp_path, {1: {"train": ONE, "test": TWO}})
    (folder / "fold_1/cafe_train_fold_1.jsonl").write_text(f"{line}\n")
    with pytest.raises(CorpusError, match=r"cafe_train_fold_1.jsonl' cannot be read"):
        open_corpus(folder)
