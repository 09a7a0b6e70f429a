"""Any corpus by a CSV manifest: what is written comes back, what cannot be used names its row."""

import csv
import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedkit.corpora.base import Corpus, Utterance
from embedkit.corpora.manifest import is_manifest, read_manifest
from embedkit.errors import CorpusError


def write(folder: Path, text: str, name: str = "mine.csv", encoding: str = "utf-8") -> Path:
    file = folder / name
    file.write_bytes(text.encode(encoding))
    return file


def rows(*lines: str) -> str:
    return "\n".join(lines) + "\n"


def sentence(folder: Path, text: str) -> str:
    with pytest.raises(CorpusError) as caught:
        read_manifest(write(folder, text))
    message = str(caught.value)
    assert "\n" not in message
    assert "mine.csv" in message
    return message


def values(corpus: Corpus, name: str) -> list[object]:
    return [utterance.value(name) for utterance in corpus.utterances]


def test_the_standard_columns(tmp_path: Path) -> None:
    header = "id,path,label,speaker,session,split,start,end"
    corpus = read_manifest(
        write(tmp_path, rows(header, "b,x/1.wav,anger,s1,one,train,0.5,2", "a,2.wav,calm,s2,two,Dev,,"))
    )
    assert (corpus.name, corpus.kind, corpus.root) == ("mine", "manifest", tmp_path)
    assert corpus.utterances == (
        Utterance(id="a", path="2.wav", label="calm", speaker="s2", session="two", split="dev"),
        Utterance(
            id="b", path="x/1.wav", label="anger", speaker="s1", session="one", split="train", start=0.5, end=2.0
        ),
    )
    assert corpus.task.classes == ()


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_dialects(tmp_path: Path, delimiter: str, encoding: str, newline: str) -> None:
    lines = [
        ["Path", " label ", "note"],
        ["é 1.wav", "Ärger", f'"a{delimiter}b"'],
        [" 2.wav ", "calm", ""],
        ["", "", ""],
    ]
    text = newline.join(delimiter.join(line) for line in lines) + newline + newline
    corpus = read_manifest(write(tmp_path, text, encoding=encoding))
    assert values(corpus, "path") == ["2.wav", "é 1.wav"]
    assert values(corpus, "label") == ["calm", "Ärger"]
    assert values(corpus, "note") == ["", f"a{delimiter}b"]


def test_further_columns_are_kept_as_they_are_written(tmp_path: Path) -> None:
    header = "path,label,valence,participant,code"
    corpus = read_manifest(
        write(tmp_path, rows(header, "1.wav,a,2.5,007,1e5", "2.wav,b,,20231015123456781,02", "3.wav,c,nan,7,1_000"))
    )
    assert values(corpus, "valence") == ["2.5", "", "nan"]
    assert values(corpus, "participant") == ["007", "20231015123456781", "7"]
    assert values(corpus, "code") == ["1e5", "02", "1_000"]


def test_numbers_stay_text_in_standard_columns(tmp_path: Path) -> None:
    corpus = read_manifest(write(tmp_path, rows("path,label,speaker,session", "1.wav,3,01,2", "2.wav,4,02,2")))
    assert values(corpus, "speaker") == ["01", "02"]
    assert values(corpus, "label") == ["3", "4"]


@pytest.mark.parametrize(
    ("text", "split"),
    [("train", "train"), ("TRAIN", "train"), ("valid", "dev"), ("validation", "dev"), ("development", "dev"),
     ("val", "dev"), ("dev", "dev"), ("Test", "test"), ("", "")],
)  # fmt: skip
def test_splits_are_normalised(tmp_path: Path, text: str, split: str) -> None:
    assert values(read_manifest(write(tmp_path, rows("path,label,split", f"1.wav,a,{text}"))), "split") == [split]


def test_paths_below_the_manifest_are_relative_and_others_absolute(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "target" / "deep").mkdir(parents=True)
    (folder / "link").symlink_to(tmp_path / "target" / "deep")
    paths = [
        "./a.wav",
        "sub//b.wav",
        f"{folder}/sub/c.wav",
        "../d.wav",
        "sub/../e.wav",
        "/elsewhere/f.wav",
        "link/../g.wav",
    ]
    corpus = read_manifest(write(folder, rows("path,label", *(f"{path},x" for path in paths))))
    expected = {
        "a": "a.wav",
        "b": "sub/b.wav",
        "c": "sub/c.wav",
        "d": str(tmp_path / "d.wav"),
        "e": "e.wav",
        "f": "/elsewhere/f.wav",
        "g": str(tmp_path / "target" / "g.wav"),
    }
    assert {utterance.id: utterance.path for utterance in corpus.utterances} == expected
    assert {os.path.realpath(corpus.audio_path(item)) for item in corpus.utterances} == {
        os.path.realpath(folder / path) for path in paths
    }


def test_ids_are_the_shortest_names_that_differ(tmp_path: Path) -> None:
    lines = [
        "1.wav,,",
        "a/2.wav,,",
        "b/2.wav,,",
        "3.wav,0,1.5",
        "3.wav,1.5,",
        "c/4.wav,1,2",
        "d/4.wav,1,2",
        "c/4.wav,2,3",
    ]
    corpus = read_manifest(write(tmp_path, rows("path,start,end,label", *(f"{line},x" for line in lines))))
    assert values(corpus, "id") == [
        "1", "3@0.0-1.5", "3@1.5-end", "4@2.0-3.0", "a/2.wav", "b/2.wav", "c/4.wav@1.0-2.0", "d/4.wav",
    ]  # fmt: skip


def test_ids_do_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    lines = ["1.wav,,", "a/2.wav,,", "b/2.wav,,", "3.wav,0,1.5", "3.wav,1.5,"]
    forth, back = (
        read_manifest(write(tmp_path, rows("path,start,end,label", *(f"{line},x" for line in order))))
        for order in (lines, lines[::-1])
    )
    assert forth == back


def test_given_ids_win_over_names(tmp_path: Path) -> None:
    corpus = read_manifest(write(tmp_path, rows("id,path,label", ",1.wav,x", "1,2.wav,y", "../up,3.wav,z")))
    assert {item.path: item.id for item in corpus.utterances} == {"1.wav": "1.wav", "2.wav": "1", "3.wav": "../up"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (rows("file,emotion", "1.wav,x"), "no column `path` and no `label`; columns found: 'file', 'emotion'"),
        (rows("path,emotion", "1.wav,x"), "no column `label`; columns found: 'path', 'emotion'"),
        ("", "columns found: none"),
        (rows("path,label"), "no rows"),
        (rows("path,label", "1.wav,"), "Row 2"),
        (rows("path,label", "1.wav,x", ",x"), "Row 3"),
        (rows("path,label", "1.wav,x", "", "2.wav"), "Row 4"),
        (rows("path,label", "1.wav,x", "2.wav,x,y"), "has 3 fields, but the header has 2"),
        (rows("path,label,path", "1.wav,x,y"), "two columns 'path'"),
        (rows("path,label,", "1.wav,x,y"), "Column 3"),
        (rows("path,label,start", "1.wav,x,soon"), "Row 2 of the manifest"),
        (rows("path,label,end", "1.wav,x,nan"), "'nan' as end"),
        (rows("path,label,end", "1.wav,x,inf"), "'inf' as end"),
        (rows("path,label,split", "1.wav,x,train", "2.wav,x,holdout"), "Row 3"),
        (rows("id,path,label", "a,1.wav,x", "b,2.wav,x", "a,3.wav,x"), "repeats the id 'a' of row 2"),
        (rows("path,label", "1.wav,x", "1.wav,y"), "repeats the path and the segment of row 2"),
        (rows("id,path,label", "a\0b,1.wav,x"), "NUL"),
        (rows("path,label", "a\0b.wav,x"), "NUL"),
        (rows("path,label", '1.wav,x', '"2.wav,x'), "cannot be read as CSV"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_told(tmp_path: Path, text: str, told: str) -> None:
    assert told in sentence(tmp_path, text)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "cp1252", "koi8-r", "cp1254"])
def test_encodings_are_read_where_they_are_clear(tmp_path: Path, encoding: str, delimiter: str) -> None:
    word = {"koi8-r": "радость", "cp1254": "kızgın"}.get(encoding, "Müller")
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    text = mark + rows("path,label,speaker", f"1.wav,x,{word}").replace(",", delimiter)
    file = write(tmp_path, text, encoding=encoding)
    if encoding in ("koi8-r", "cp1254"):
        with pytest.raises(CorpusError, match="its encoding is not clear; save it as CSV in UTF-8"):
            read_manifest(file)
        return
    corpus = read_manifest(file)
    assert values(corpus, "speaker") == ["Müller"]
    assert [note for note in corpus.notes if "Windows-1252" in note] == list(corpus.notes)
    assert bool(corpus.notes) == (encoding == "cp1252")


TIMES = {
    "start,duration": ("1.5,0.5", (1.5, 2.0)),
    "start_time,end_time": ("1.5,2", (1.5, 2.0)),
    "onset,offset": ("1.5,2", (1.5, 2.0)),
    "offset,duration": ("1.5,0.5", (1.5, 2.0)),
    "begin_ms,end_ms": ("1500,2000", (1.5, 2.0)),
    "start,end": ("00:00:01.5,00:00:02", (1.5, 2.0)),
    "onset,duration": ("1.5,", (1.5, None)),
    "duration": ("3", (None, None)),
}


@pytest.mark.parametrize("header", TIMES)
def test_columns_of_times_are_understood(tmp_path: Path, header: str) -> None:
    text, expected = TIMES[header]
    corpus = read_manifest(write(tmp_path, rows(f"path,label,{header}", f"1.wav,x,{text}")))
    assert (corpus.utterances[0].start, corpus.utterances[0].end) == expected


@pytest.mark.parametrize("header", ["offset", "start_sample,end_sample", "begin,onset,end", "start,length"])
def test_columns_of_times_that_may_mean_several_things_are_refused(tmp_path: Path, header: str) -> None:
    fields = ",".join("1" for _ in header.split(","))
    with pytest.raises(CorpusError, match=r"may be|in samples or frames"):
        read_manifest(write(tmp_path, rows(f"path,label,{header}", f"1.wav,x,{fields}")))


def test_names_are_found_in_other_spellings(tmp_path: Path) -> None:
    (tmp_path / "wav").mkdir()
    (tmp_path / "wav" / "mu\u0308ller.wav").touch()
    lines = rows("path,label", "wav\\m\u00fcller.wav,x", "wav/lost\u00e9.wav,y")
    corpus = read_manifest(write(tmp_path, lines))
    assert sorted(one.path for one in corpus.utterances) == ["wav/lost\u00e9.wav", "wav/mu\u0308ller.wav"]
    assert any("lost" in note and "Did not find" in note for note in corpus.notes)


def test_a_hundred_thousand_rows_take_seconds(tmp_path: Path) -> None:
    lines = (
        f"folder {number % 500}/{number}.wav,x,s{number % 99},{number / 7:.3f},{number}" for number in range(100_000)
    )
    file = write(tmp_path, rows("path,label,speaker,start,age", *lines))
    began = time.process_time()
    corpus = read_manifest(file)
    assert time.process_time() - began < 5
    assert len(corpus.utterances) == 100_000


def test_segments_that_no_file_can_hold_are_left_to_the_extraction(tmp_path: Path) -> None:
    corpus = read_manifest(write(tmp_path, rows("path,label,start,end", "1.wav,x,2,1.5", "2.wav,x,-1,0")))
    assert [(item.start, item.end) for item in corpus.utterances] == [(2.0, 1.5), (-1.0, 0.0)]


def test_manifests_are_told_from_other_tables(tmp_path: Path) -> None:
    assert is_manifest(write(tmp_path, "Label;PATH\n", "a.csv"))
    assert not is_manifest(write(tmp_path, "file,emotion\n", "b.csv"))
    assert not is_manifest(write(tmp_path, "path,label\n", "c.txt"))
    assert not is_manifest(write(tmp_path, "path,label\n", "._d.csv"))
    assert is_manifest(write(tmp_path, "path,label\n", "e.csv", encoding="utf-16"))
    assert not is_manifest(tmp_path / "missing.csv")


WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8).map(str.strip).filter(bool)
NAMES = WORDS.filter(lambda word: word not in (".", "..") and "/" not in word and "\\" not in word)
SECONDS = st.none() | st.floats(0, 1e4, allow_subnormal=False)


@st.composite
def utterances(draw: st.DrawFn) -> Sequence[Utterance]:
    ids = draw(st.lists(WORDS, min_size=1, max_size=6, unique=True))
    found = []
    for id_ in ids:
        start = draw(SECONDS)
        length = draw(st.none() | st.floats(0.01, 100))
        found.append(
            Utterance(
                id=id_,
                path="/".join(draw(st.lists(NAMES, min_size=1, max_size=3))),
                label=draw(WORDS),
                speaker=draw(WORDS | st.just("")),
                session=draw(WORDS | st.just("")),
                split=draw(st.sampled_from(["", "train", "dev", "test"])),
                start=start,
                end=None if length is None else (start or 0.0) + length,
                columns={"age": str(draw(st.floats())), "text": "t" + draw(WORDS)},
            )
        )
    return found


@given(written=utterances(), delimiter=st.sampled_from(",;\t"))
@settings(max_examples=150, deadline=None)
def test_what_is_written_comes_back(
    tmp_path_factory: pytest.TempPathFactory, written: Sequence[Utterance], delimiter: str
) -> None:
    file = tmp_path_factory.mktemp("round") / "trip.csv"
    columns = ["id", "path", "label", "speaker", "session", "split", "start", "end", "age", "text"]
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter=delimiter)
        writer.writerow(columns)
        writer.writerows([item.value(column) for column in columns] for item in written)
    assert read_manifest(file).utterances == tuple(sorted(written, key=lambda item: item.id))
