"""Any corpus by a CSV manifest: what is written comes back, what cannot be used names its row."""

import csv
import os
import time
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedkit.cells import write_cell
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


def test_further_columns_stay_as_they_are_written(tmp_path: Path) -> None:
    header = "path,label,code,participant,power,missing,group"
    corpus = read_manifest(
        write(
            tmp_path,
            rows(header, "1.wav,a,007,20231015123456781,1e5,NA,1_000", "2.wav,b,7,20231015123456782,100000,nan,1000",
                 "3.wav,c,7.0,20231015123456783,1E5,,None"),
        )
    )  # fmt: skip
    assert values(corpus, "code") == ["007", "7", "7.0"]
    assert values(corpus, "participant") == [f"2023101512345678{number}" for number in (1, 2, 3)]
    assert values(corpus, "power") == ["1e5", "100000", "1E5"]
    assert values(corpus, "missing") == ["NA", "nan", ""]
    assert values(corpus, "group") == ["1_000", "1000", "None"]


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


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("utf-8", ["złość", "ярость", "été"]),
        ("utf-8-sig", ["anger", "été"]),
        ("utf-16", ["złość", "ярость", "anger"]),
        ("utf-32", ["Ärger"]),
        ("cp1252", ["Ärger", "colère", "señal", "it’s"]),
        ("latin-1", ["Ärger", "fróði".replace("ð", "d")]),
    ],
)
def test_encodings_that_are_clear(tmp_path: Path, encoding: str, words: list[str]) -> None:
    file = write(
        tmp_path, rows("path;label", *(f"{number}.wav;{word}" for number, word in enumerate(words))), encoding=encoding
    )
    corpus = read_manifest(file)
    assert values(corpus, "label") == words
    assert is_manifest(file)
    told = [note for note in corpus.notes if "was read as Windows-1252, as in 'Ärger'" in note]
    assert len(told) == (encoding in ("cp1252", "latin-1"))


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("path,label\n1.wav,ярость\n".encode("cp1251"), "its encoding is not clear; save it as CSV in UTF-8"),
        ("path,label\n1.wav,złość\n".encode("cp1250"), "its encoding is not clear"),
        ("path,label\n1.wav,kızgın\n".encode("cp1254"), "its encoding is not clear"),
        ("path,label\n1.wav,怒り悲しみ\n".encode("shift-jis"), "its encoding is not clear"),
        ("path,label\n1.wav,a\n".encode("utf-16-le"), "UTF-16 without a byte order mark"),
        ("path,label\n1.wav,a\n".encode("utf-16")[:-1], "is not the text that it begins as"),
    ],
)
def test_encodings_that_are_not_clear(tmp_path: Path, data: bytes, told: str) -> None:
    (tmp_path / "mine.csv").write_bytes(data)
    with pytest.raises(CorpusError, match=told):
        read_manifest(tmp_path / "mine.csv")


def test_a_first_line_that_names_the_delimiter(tmp_path: Path) -> None:
    corpus = read_manifest(write(tmp_path, rows("sep=;", "path;label", "1.wav;a,b")))
    assert values(corpus, "label") == ["a,b"]
    with pytest.raises(CorpusError, match="Row 4 "):
        read_manifest(write(tmp_path, rows("sep=;", "path;label", "1.wav;a", "2.wav;")))


TIMES = [
    (["start,end", "1,2.5"], (1.0, 2.5)),
    (["start,duration", "0.1,0.2"], (0.1, 0.3)),
    (["Start_Time,End Time", "1,2"], (1.0, 2.0)),
    (["startTime,dur", "1,1"], (1.0, 2.0)),
    (["onset,offset", "1,3"], (1.0, 3.0)),
    (["offset,duration", "1,3"], (1.0, 4.0)),
    (["onset,duration", ",3"], (None, 3.0)),
    (["begin,stop", "1,"], (1.0, None)),
    (["start_ms,end_ms", "1500,2250"], (1.5, 2.25)),
    (["start (ms),duration (s)", "1500,2"], (1.5, 3.5)),
    (["Begin Time - ss.msec,End Time - ss.msec", "1.250,2"], (1.25, 2.0)),
    (["Begin Time - hh:mm:ss.ms,Duration - ss.msec", "00:01:02.500,2"], (62.5, 64.5)),
    (["tmin,tmax", "0,1"], (0.0, 1.0)),
    (["duration,num_frames", "3.2,51200"], (None, None)),
    (["start,end,start_time", "1,2,noon"], (1.0, 2.0)),
    (["start,end,duration", "1,2,60"], (1.0, 2.0)),
    (["start,end,duration", "1,,0.5"], (1.0, 1.5)),
]


@pytest.mark.parametrize(("lines", "segment"), TIMES, ids=[lines[0] for lines, _ in TIMES])
def test_times_by_any_of_their_names(
    tmp_path: Path, lines: list[str], segment: tuple[float | None, float | None]
) -> None:
    (found,) = read_manifest(write(tmp_path, rows(f"path,label,{lines[0]}", f"1.wav,a,{lines[1]}"))).utterances
    assert (found.start, found.end) == segment


def test_a_decimal_comma_where_commas_do_not_separate(tmp_path: Path) -> None:
    (found,) = read_manifest(write(tmp_path, rows("path;label;start;duration", "1.wav;a;1,5;0,25"))).utterances
    assert (found.start, found.end) == (1.5, 1.75)


@pytest.mark.parametrize(
    ("header", "row", "told"),
    [
        (
            "start_sample,end_sample",
            "0,100",
            "in samples or frames .start_sample, end_sample.; write start and end in sec",
        ),
        ("frame_offset,duration", "0,100", "in samples or frames .frame_offset"),
        ("offset", "3", "'offset', which may be a start or an end; call it start or end"),
        ("start,offset", "3,4", "'offset', which may be a start or an end"),
        ("start_time,begin,end", "1,1,2", "several columns that may be the start .'start_time', 'begin'."),
        ("start,length", "1,2", "'length', which may be of audio or of text; call it duration"),
        ("start_ms,end_ms", "soon,2", "Row 2 of the manifest .* has 'soon' as start_ms, expected a number in ms"),
        ("start_time,end_time", "2023-10-15T12:00,1", "Row 2 of the manifest .* expected seconds such as 1.25"),
    ],
)
def test_times_that_are_not_clear_are_refused(tmp_path: Path, header: str, row: str, told: str) -> None:
    with pytest.raises(CorpusError, match=told):
        read_manifest(write(tmp_path, rows(f"path,label,{header}", f"1.wav,a,{row}")))


NFC, NFD = (unicodedata.normalize(form, "é/Ärger ü") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("disk", "written", "found"),
    [
        (f"{NFD}.wav", f"{NFC}.wav", f"{NFD}.wav"),
        (f"{NFC}.wav", f"{NFD}.wav", f"{NFC}.wav"),
        ("sub/a.wav", r"sub\a.wav", "sub/a.wav"),
        (f"{NFD}.wav", f"{NFC}.wav".replace("/", "\\"), f"{NFD}.wav"),
        (r"sub\a.wav", r"sub\a.wav", r"sub\a.wav"),
        ("sub/a.wav", "sub/a.wav", "sub/a.wav"),
    ],
)
def test_names_in_other_characters_are_found(tmp_path: Path, disk: str, written: str, found: str) -> None:
    (tmp_path / disk).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / disk).touch()
    if unicodedata.normalize("NFC", disk) != unicodedata.normalize("NFD", disk) and len(os.listdir(tmp_path)) > 1:
        pytest.skip("this file system has one name for both forms")
    corpus = read_manifest(write(tmp_path, rows("path,label", f"{written},x")))
    assert corpus.utterances[0].path == found
    assert corpus.notes == ()


def test_names_that_are_not_found_are_explained(tmp_path: Path) -> None:
    corpus = read_manifest(write(tmp_path, rows("path,label", r"C:\data\1.wav,x", "é.wav,x", "plain.wav,x")))
    assert corpus.notes[0].startswith("Did not find 2 paths with backslashes or special characters that name no file")


def test_columns_are_used_or_kept(tmp_path: Path) -> None:
    corpus = read_manifest(write(tmp_path, rows("path,Label,text,onset,duration,split", "1.wav,a,hi,0,1,train")))
    assert corpus.uses == {
        "path": "path", "label": "label", "onset": "start", "duration": "end = start + duration", "split": "split"
    }  # fmt: skip
    assert dict(corpus.utterances[0].columns) == {"text": "hi"}


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
    assert not is_manifest(write(tmp_path, "path,label\n", "f.csv", encoding="utf-16-le"))
    assert not is_manifest(tmp_path / "missing.csv")


def test_a_column_that_may_be_the_speaker_is_named(tmp_path: Path) -> None:
    for name, told in (("speaker_id", True), ("Participant", True), ("speaker_age", False), ("speaker", False)):
        corpus = read_manifest(write(tmp_path, rows(f"path,label,{name}", "1.wav,x,s1")))
        assert [f"There is no column speaker; if {name!r} says who is speaking, call it so."] * told == [*corpus.notes]


def test_a_long_manifest_is_known_by_its_beginning(tmp_path: Path) -> None:
    for encoding in ("utf-8", "utf-16", "cp1252"):
        for shift in range(3):
            lines = ["x" * shift + "é.wav,Ärger"] * 6_000
            assert is_manifest(write(tmp_path, rows("path,label", *lines), encoding=encoding))


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


def _write(column: str, item: Utterance) -> object:
    # A path is no name: one that begins like a formula is written with ./ before it.
    return item.value(column) if column == "path" else write_cell(item.value(column))


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
        writer.writerows([_write(column, item) for column in columns] for item in written)
    assert read_manifest(file).utterances == tuple(sorted(written, key=lambda item: item.id))
