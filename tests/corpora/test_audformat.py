"""Databases that audformat itself writes are read as it reads them, but nothing in them is executed."""

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from embedkit.corpora import open_corpus
from embedkit.errors import CorpusError
from embedkit.installation import install_command

audformat = pytest.importorskip("audformat", reason="audformat is not installed (pip install '.[audformat]')")
pd = pytest.importorskip("pandas", reason="pandas is not installed (audformat brings it)")

FILES = [f"wav/{number}.wav" for number in range(4)]


def add(database: Any, table: str, index: Any, split: str | None = None, **columns: list[Any]) -> None:
    database[table] = audformat.Table(index, split_id=split)
    for name, values in columns.items():
        database[table][name] = audformat.Column(scheme_id=name if name in database.schemes else None)
        database[table][name].set(values)


def make_database() -> Any:
    database = audformat.Database("my db", source="here", usage=audformat.define.Usage.UNRESTRICTED)
    database.splits["train"] = audformat.Split(audformat.define.SplitType.TRAIN)
    database.splits["held-out"] = audformat.Split(audformat.define.SplitType.TEST)
    database.schemes["emotion"] = audformat.Scheme(labels=["anger", "joy", "neutral"])
    database.schemes["speaker"] = audformat.Scheme(labels={1: {"gender": "male", "age": 31}, 2: {"gender": "female"}})
    database.schemes["valence"] = audformat.Scheme(audformat.define.DataType.FLOAT)
    database.schemes["duration"] = audformat.Scheme(audformat.define.DataType.TIME)
    add(database, "emotion", audformat.filewise_index(FILES), emotion=["anger", "joy", None, "neutral"])
    train, test = audformat.filewise_index(FILES[:2]), audformat.filewise_index(FILES[2:])
    add(database, "emotion.train", train, "train", emotion=["joy", "joy"])
    add(database, "emotion.test", test, "held-out", emotion=["joy", "joy"])
    add(database, "files", audformat.filewise_index(FILES), speaker=[1, 2, 1, 2], duration=["1s", "2s", "3s", "4s"],
        transcription=["eins", None, "drei", "vier"], session=["a", "a", "b", "b"])  # fmt: skip
    add(database, "ratings", audformat.filewise_index(FILES[:2]), valence=[0.25, None])
    return database


@pytest.mark.parametrize("storage", ["parquet", "csv"])
def test_files_with_speakers_splits_and_further_columns(tmp_path: Path, storage: str) -> None:
    make_database().save(str(tmp_path), storage_format=storage)
    corpus = open_corpus(tmp_path)
    assert (corpus.name, corpus.kind, corpus.root) == ("my-db", "audformat", tmp_path)
    assert corpus.notes == ("Left out 1 file without a label, such as 'wav/2.wav'.",)
    first, second, third = corpus.utterances
    assert [item.path for item in corpus.utterances] == ["wav/0.wav", "wav/1.wav", "wav/3.wav"]
    assert [item.id for item in corpus.utterances] == ["0", "1", "3"]
    assert [item.label for item in corpus.utterances] == ["anger", "joy", "neutral"]
    assert [item.split for item in corpus.utterances] == ["train", "train", "test"]
    assert [item.speaker for item in corpus.utterances] == ["1", "2", "2"]
    assert [item.session for item in corpus.utterances] == ["a", "a", "b"]
    assert dict(first.columns) == {"transcription": "eins", "valence": "0.25", "age": "31", "gender": "male"}
    assert second.columns["transcription"] == ""
    assert second.columns["valence"] == ""
    assert third.columns["gender"] == "female"


def test_segments_from_all_tables_that_have_labels(tmp_path: Path) -> None:
    database = make_database()
    for name in ("emotion", "emotion.train", "emotion.test"):
        database.drop_tables(name)
    starts, ends = ["0s", "1.5s"], ["1.5s", None]
    add(database, "train", audformat.segmented_index(FILES[:1] * 2, starts, ends), "train", emotion=["joy", "anger"])
    add(database, "test", audformat.segmented_index(FILES[1:2], ["0s"], [None]), "held-out", emotion=["joy"])
    database.save(str(tmp_path))
    utterances = open_corpus(tmp_path).utterances
    assert {(item.path, item.start, item.end, item.label, item.split, item.speaker) for item in utterances} == {
        ("wav/0.wav", None, 1.5, "joy", "train", "1"),
        ("wav/0.wav", 1.5, None, "anger", "train", "1"),
        ("wav/1.wav", None, None, "joy", "test", "2"),
    }
    assert {item.columns["valence"] for item in utterances if item.path == "wav/0.wav"} == {"0.25"}


FILEWISE = [(None, None)] * 4
HALVES = [(0.0, 0.5), (0.5, 1.0)]


def index_of(files: list[str], times: list[tuple[float | None, float | None]]) -> Any:
    if times[0] == (None, None):
        return audformat.filewise_index(files)
    starts, ends = ([None if value is None else f"{value}s" for value in column] for column in zip(*times, strict=True))
    return audformat.segmented_index(files, starts, ends)


@pytest.mark.parametrize("storage", ["parquet", "csv"])
@pytest.mark.parametrize(
    ("labelled", "spoken", "speakers"),
    [
        ((FILES, FILEWISE), (FILES, [(0.0, 1.0)] * 4), "abcd"),
        ((FILES, [(0.0, 1.0)] * 4), (FILES, FILEWISE), "abcd"),
        ((FILES, [(0.1, 0.9)] * 4), (FILES, [(0.0, 1.0)] * 4), "abcd"),
        ((FILES, [(0.1, None)] * 4), (FILES, [(0.0, None)] * 4), "abcd"),
        ((FILES[:1] * 2, HALVES), (FILES[:1] * 2, HALVES), "ab"),
        ((FILES[:1] * 2, [(0.6, 0.9), (0.0, 0.4)]), (FILES[:1] * 2, HALVES), "ba"),
        ((FILES[:1] * 2, [(0.4, 0.6), (0.0, 0.4)]), (FILES[:1] * 2, HALVES), ".a"),
        ((FILES[:1], FILEWISE[:1]), (FILES[:1] * 2, HALVES), "."),
        ((FILES[:2], FILEWISE[:2]), (FILES[:1], [(0.0, 1.0)]), "a."),
    ],
)  # fmt: skip
def test_speakers_are_found_by_file_and_by_segment(
    tmp_path: Path, storage: str, labelled: Any, spoken: Any, speakers: str
) -> None:
    database = audformat.Database("mine")
    database.schemes["emotion"] = audformat.Scheme(labels=["joy"])
    add(database, "emotion", index_of(*labelled), emotion=["joy"] * len(labelled[0]))
    add(database, "files", index_of(*spoken), speaker=list("abcd")[: len(spoken[0])])
    database.save(str(tmp_path), storage_format=storage)
    corpus = open_corpus(tmp_path)
    by_clip = {(item.path, item.start or 0.0): item.speaker or "." for item in corpus.utterances}
    wanted = [(path, start or 0.0) for path, (start, _) in zip(*labelled, strict=True)]
    assert "".join(by_clip[clip] for clip in wanted) == speakers
    missing = [note for note in corpus.notes if note.startswith("Did not find")]
    assert len(missing) == ("." in speakers)
    assert corpus.uses["files.speaker"] == "speaker"


@pytest.mark.parametrize("storage", ["parquet", "csv"])
def test_names_stay_what_they_are(tmp_path: Path, storage: str) -> None:
    database = audformat.Database("mine")
    database.schemes["emotion"] = audformat.Scheme("str")
    database.schemes["session"] = audformat.Scheme("int")
    add(database, "emotion", audformat.filewise_index(FILES), emotion=["NA", "None", "nan", "joy"],
        speaker=["007", "7", "NA", "1e5"], session=[1, None, 20231015123456781, 20231015123456782])  # fmt: skip
    database.save(str(tmp_path), storage_format=storage)
    utterances = open_corpus(tmp_path).utterances
    assert [item.label for item in utterances] == ["NA", "None", "nan", "joy"]
    assert [item.speaker for item in utterances] == ["007", "7", "NA", "1e5"]
    assert [item.session for item in utterances] == ["1", "", "20231015123456781", "20231015123456782"]


def test_speakers_described_in_a_table_of_their_own(tmp_path: Path) -> None:
    database = audformat.Database("mine")
    database.schemes["emotion"] = audformat.Scheme("str")
    index = audformat.utils.set_index_dtypes(pd.Index(["a", "b"], name="speaker"), "string")
    database["speaker"] = audformat.MiscTable(index)
    database["speaker"]["gender"] = audformat.Column()
    database["speaker"]["gender"].set(["female", "male"])
    database.schemes["speaker"] = audformat.Scheme("str", labels="speaker")
    add(database, "emotion", audformat.filewise_index(FILES[:2]), emotion=["joy", "joy"], speaker=["a", "b"])
    database.save(str(tmp_path))
    assert [item.columns["gender"] for item in open_corpus(tmp_path).utterances] == ["female", "male"]


def test_files_in_another_unicode_form_are_found(tmp_path: Path) -> None:
    database = audformat.Database("mine")
    database.schemes["emotion"] = audformat.Scheme("str")
    add(database, "emotion", audformat.filewise_index(["wav/é.wav", "wav/ü.wav"]), emotion=["joy", "joy"])
    database.save(str(tmp_path))
    (tmp_path / "wav").mkdir()
    (tmp_path / "wav" / "é.wav").touch()
    corpus = open_corpus(tmp_path)
    assert corpus.audio_path(corpus.utterances[0]).exists()
    assert any("'wav/ü.wav'" in note for note in corpus.notes)


def test_tables_that_contradict_each_other_or_have_no_labels(tmp_path: Path) -> None:
    database = make_database()
    database.drop_tables("emotion")
    add(database, "other", audformat.filewise_index(FILES[:1]), emotion=["anger"])
    database.save(str(tmp_path / "a"))
    with pytest.raises(CorpusError, match=r"'wav/0.wav' both 'joy' and 'anger' as emotion; make a table 'emotion'"):
        open_corpus(tmp_path / "a")
    for name in ("emotion.train", "emotion.test", "other"):
        database.drop_tables(name)
    database.save(str(tmp_path / "b"))
    with pytest.raises(CorpusError, match=r"No table .* column 'emotion' or 'label'; columns found: .*files\.speaker"):
        open_corpus(tmp_path / "b")


def test_headers_and_tables_execute_nothing(tmp_path: Path) -> None:
    make_database().save(str(tmp_path))
    (tmp_path / "db.emotion.pkl").write_bytes(f"cos\nmkdir\n(V{tmp_path / 'executed'}\ntR.".encode())
    os.utime(tmp_path / "db.emotion.pkl", (2e9, 2e9))
    assert len(open_corpus(tmp_path).utterances) == 3
    assert not (tmp_path / "executed").exists()
    (tmp_path / "db.emotion.parquet").unlink()
    with pytest.raises(CorpusError, match=r"no db.emotion.parquet or .csv \(pickled tables are not read\)"):
        open_corpus(tmp_path)
    header = tmp_path / "db.yaml"
    header.write_text(f"evil: !!python/object/apply:os.mkdir [{str(tmp_path / 'executed')!r}]\n" + header.read_text())
    with pytest.raises(CorpusError, match="header"):
        open_corpus(tmp_path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("file", ["/etc/passwd", "../secret.wav", "wav/../../secret.wav"])
def test_files_outside_the_database_are_refused(tmp_path: Path, file: str) -> None:
    database = make_database()
    database.save(str(tmp_path), storage_format="csv")
    table = tmp_path / "db.emotion.csv"
    table.write_text(table.read_text().replace("wav/1.wav", file))
    with pytest.raises(CorpusError, match="does not lie below it"):
        open_corpus(tmp_path)


def test_table_names_that_lead_elsewhere_are_refused(tmp_path: Path) -> None:
    make_database().save(str(tmp_path))
    header = tmp_path / "db.yaml"
    header.write_text(header.read_text().replace("  emotion.train:\n", "  x/../../emotion:\n"))
    with pytest.raises(CorpusError, match="expected a plain name"):
        open_corpus(tmp_path)


def test_without_the_library_one_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_database().save(str(tmp_path))
    monkeypatch.setitem(sys.modules, "audformat", None)
    with pytest.raises(CorpusError, match=re.escape(f"run {install_command('audformat')}.")):
        open_corpus(tmp_path)


def test_a_damaged_header_or_table(tmp_path: Path) -> None:
    make_database().save(str(tmp_path))
    (tmp_path / "db.files.parquet").write_bytes(b"no parquet")
    with pytest.raises(CorpusError, match=r"db.files.parquet' cannot be read"):
        open_corpus(tmp_path)
    (tmp_path / "db.yaml").write_text("[1, 2")
    with pytest.raises(CorpusError, match="is not audformat's"):
        open_corpus(tmp_path)
