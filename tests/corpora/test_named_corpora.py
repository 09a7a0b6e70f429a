"""EmoDB, RAVDESS and CREMA-D: the label is in the file name."""

import csv
import os
from collections import Counter
from itertools import product
from pathlib import Path

import pytest

from embedkit.corpora import emodb, open_corpus, ravdess
from embedkit.corpora.crema_d import read_crema_d
from embedkit.errors import CorpusError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize("folder", ["wav/", "audio/", ""])
@pytest.mark.parametrize("suffix", [".wav", ".flac", ".WAV"])
def test_emodb_names(tmp_path: Path, folder: str, suffix: str) -> None:
    letters = {
        "W": "anger",
        "L": "boredom",
        "E": "disgust",
        "A": "fear",
        "F": "happiness",
        "T": "sadness",
        "N": "neutral",
    }
    touch(tmp_path, *(f"{folder}16b10{letter}b{suffix}" for letter in letters), f"{folder}._16b10Wb{suffix}")
    corpus = open_corpus(tmp_path)
    assert (corpus.name, corpus.kind) == ("emodb", "emodb")
    assert {utterance.id[5]: utterance.label for utterance in corpus.utterances} == letters
    first = corpus.utterances[0]
    assert (first.id, first.path, first.speaker) == ("16b10Ab", f"{folder}16b10Ab{suffix}", "16")
    assert dict(first.columns) == {"gender": "female", "text": "b10", "version": "b"}
    assert corpus.task.classes == tuple(sorted(letters.values()))
    assert corpus.notes == ("Found 7 utterances; the complete EmoDB has 535.",)


def test_emodb_tells_what_it_leaves_out(tmp_path: Path) -> None:
    touch(tmp_path, "wav/03a01Fa.wav", "wav/03a01Fa.flac", "wav/03a01Nc.wav", "wav/03a01Xc.wav")
    corpus = emodb.READER.read(tmp_path)
    assert [utterance.id for utterance in corpus.utterances] == ["03a01Fa", "03a01Nc"]
    assert "Left out 1 file whose name is not one of this corpus, such as '03a01Xc.wav'." in corpus.notes
    assert any("in another format" in note for note in corpus.notes)


def test_the_real_emodb() -> None:
    shared = os.environ.get("EMBEDKIT_SHARED")
    if not shared:
        pytest.skip("EMBEDKIT_SHARED names no folder with EmoDB")
    root = Path(shared) / "data" / "emodb"
    corpus = open_corpus(root)
    assert corpus.name == "emodb"
    assert corpus.notes == ()
    assert len(corpus.utterances) == 535
    assert len({utterance.speaker for utterance in corpus.utterances}) == 10
    counts = {"anger": 127, "boredom": 81, "neutral": 79, "happiness": 71, "fear": 69, "sadness": 62, "disgust": 46}
    assert Counter(utterance.label for utterance in corpus.utterances) == counts
    with (root / "metadata.csv").open(encoding="utf-8", newline="") as stream:
        rows = {Path(row["file"]).stem: row for row in csv.DictReader(stream)}
    for utterance in corpus.utterances:
        row = rows[utterance.id]
        assert (utterance.path, utterance.label, utterance.speaker) == (row["file"], row["emotion"], row["speaker"])
        assert str(utterance.columns["gender"])[0] == row["gender"]
        assert (utterance.columns["text"], utterance.columns["version"]) == (row["text"], row["version"])


EMOTIONS = ["neutral", "calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise"]


def ravdess_names(actor: int, modality: str = "03", channel: str = "01") -> list[str]:
    names = []
    for emotion, intensity, statement, repetition in product(range(1, 9), (1, 2), (1, 2), (1, 2)):
        if not (emotion == 1 and intensity == 2):
            name = f"{modality}-{channel}-{emotion:02d}-{intensity:02d}-{statement:02d}-{repetition:02d}-{actor:02d}"
            names.append(f"Actor_{actor:02d}/{name}.wav")
    return names


def test_the_whole_of_ravdess(tmp_path: Path) -> None:
    touch(tmp_path, *(name for actor in range(1, 25) for name in ravdess_names(actor)))
    corpus = open_corpus(tmp_path)
    assert (corpus.name, corpus.kind, corpus.notes) == ("ravdess", "ravdess", ())
    assert len(corpus.utterances) == 1440
    counts = Counter(utterance.label for utterance in corpus.utterances)
    assert counts == {emotion: 96 if emotion == "neutral" else 192 for emotion in EMOTIONS}
    found = {utterance.id: utterance for utterance in corpus.utterances}["03-01-06-02-01-02-12"]
    assert (found.label, found.speaker, found.path) == ("fear", "12", "Actor_12/03-01-06-02-01-02-12.wav")
    assert dict(found.columns) == {"gender": "female", "text": "01", "intensity": "strong", "repetition": "02"}
    assert len(corpus.task.classes) == 8


def test_ravdess_that_was_unpacked_twice_counts_once(tmp_path: Path) -> None:
    names = ravdess_names(1)
    touch(tmp_path, *names, *(f"audio_speech_actors_01-24/{name}" for name in names))
    corpus = open_corpus(tmp_path)
    assert len(corpus.utterances) == len(names)
    assert all(utterance.path.startswith("Actor_01/") for utterance in corpus.utterances)
    assert any("60 repetitions of a file" in note for note in corpus.notes)


def test_ravdess_in_its_archives_folder_with_song_and_video(tmp_path: Path) -> None:
    touch(tmp_path, *(f"Audio_Speech_Actors_01-24/{name}" for name in ravdess_names(3)))
    touch(tmp_path, *(f"Audio_Song_Actors_01-24/{name}" for name in ravdess_names(3, channel="02")))
    touch(tmp_path, "Video_Speech_Actor_03/Actor_03/01-01-01-01-01-01-03.mp4", "Actor_03/._03-01-01-01-01-01-03.wav")
    corpus = open_corpus(tmp_path)
    assert len(corpus.utterances) == 60
    assert {utterance.columns["gender"] for utterance in corpus.utterances} == {"male"}
    notes = "\n".join(corpus.notes)
    assert "Left out 60 song files" in notes
    assert "Left out 1 video file" in notes


def test_ravdess_without_speech(tmp_path: Path) -> None:
    touch(tmp_path, *ravdess_names(3, channel="02"))
    with pytest.raises(CorpusError, match=r"no utterance of RAVDESS.*60 song files"):
        ravdess.READER.read(tmp_path)


@pytest.mark.parametrize("folder", ["AudioWAV/", ""])
def test_crema_d_names(tmp_path: Path, folder: str) -> None:
    codes = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happiness", "NEU": "neutral", "SAD": "sadness"}
    touch(tmp_path, *(f"{folder}1001_DFA_{code}_XX.wav" for code in codes), f"{folder}1040_ITH_SAD_X.wav")
    touch(tmp_path, *(f"{folder}1091_IEO_HAP_{level}.wav" for level in ("LO", "MD", "HI")))
    corpus = open_corpus(tmp_path)
    found = {utterance.id: utterance for utterance in corpus.utterances}
    assert (corpus.name, corpus.kind, len(found)) == ("crema-d", "crema-d", 10)
    assert {code: found[f"1001_DFA_{code}_XX"].label for code in codes} == codes
    levels = {level: found[f"1091_IEO_HAP_{level}"].columns["intensity"] for level in ("LO", "MD", "HI")}
    assert levels == {"LO": "low", "MD": "medium", "HI": "high"}
    assert found["1040_ITH_SAD_X"].columns == {"text": "ITH", "intensity": "unspecified"}
    assert found["1040_ITH_SAD_X"].speaker == "1040"
    assert corpus.notes == ("Found 10 utterances; the complete CREMA-D has 7,442.",)
    with pytest.raises(CorpusError, match="no utterance of CREMA-D"):
        read_crema_d(touch(tmp_path / "empty", "a.txt"))


def test_links_are_followed(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "03a01Fa.wav")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "wav").symlink_to(tmp_path / "elsewhere")
    (utterance,) = open_corpus(tmp_path / "corpus").utterances
    assert utterance.path == "wav/03a01Fa.wav"
