"""IEMOCAP from its official folder: true speakers, only the right labels, published counts."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, cycle, islice
from pathlib import Path

import pytest

from embedkit.corpora.base import Corpus
from embedkit.corpora.iemocap import read_iemocap, recognise
from embedkit.errors import CorpusError

HEADER = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
RATERS = "C-E2:\tNeutral;\t()\nC-F1:\tNeutral; Anger;\t(curious)\nA-E3:\tval 3; act 2; dom  2;\t()\n"

VOTED = [
    "anger",
    "happiness",
    "excitement",
    "sadness",
    "neutral",
    "frustration",
    "fear",
    "surprise",
    "disgust",
    "other",
]


def add_wav(root: Path, utterance: str, suffix: str = ".wav") -> None:
    file = root / f"Session{int(utterance[3:5])}/sentences/wav/{utterance.rsplit('_', 1)[0]}/{utterance}{suffix}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()


def add_label(root: Path, utterance: str, code: str, ratings: str = "2.5000, 3.0000, 3.5000") -> None:
    dialogue = utterance.rsplit("_", 1)[0]
    file = root / f"Session{int(utterance[3:5])}/dialog/EmoEvaluation/{dialogue}.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    old = file.read_bytes().decode() if file.exists() else HEADER
    file.write_bytes((old + f"[6.2901 - 8.2357]\t{utterance}\t{code}\t[{ratings}]\n{RATERS}\n").encode())


def add(root: Path, utterance: str, code: str = "neu", ratings: str = "2.5000, 3.0000, 3.5000") -> None:
    add_wav(root, utterance)
    add_label(root, utterance, code, ratings)


def by_id(corpus: Corpus) -> dict[str, object]:
    return {utterance.id: utterance for utterance in corpus.utterances}


def test_an_utterance_holds_what_the_files_say(tmp_path: Path) -> None:
    add(tmp_path, "Ses01F_impro01_F000", "neu", "2.5000, 3.2500, 2.0000")
    corpus = read_iemocap(tmp_path)
    (utterance,) = corpus.utterances
    assert (corpus.name, corpus.kind, corpus.root) == ("iemocap", "iemocap", tmp_path)
    assert utterance.id == "Ses01F_impro01_F000"
    assert utterance.path == "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav"
    assert corpus.audio_path(utterance).is_file()
    assert (utterance.label, utterance.speaker, utterance.session) == ("neutral", "Ses01F", "Ses01")
    assert (utterance.start, utterance.end, utterance.split) == (None, None, "")
    ratings = {"valence": 3.0, "arousal": 2.0, "dominance": 2.0}
    assert dict(utterance.columns) == {
        "valence": 2.5, "arousal": 3.25, "dominance": 2.0,
        "gender": "female", "dialogue": "Ses01F_impro01", "style": "improvised",
        "script": "",
        "rater_e2": "neutral", "rater_e3": "", "rater_f1": "neutral+anger",
    } | {
        f"{name}_{rater}": pytest.approx(ratings[name] if rater == "e3" else math.nan, nan_ok=True)
        for name in ratings for rater in ("e2", "e3", "f1")
    } | {f"votes_{label}": float(label == "neutral") for label in VOTED} | {
        f"{name}_spread": pytest.approx(math.nan, nan_ok=True) for name in ratings
    }  # fmt: skip
    assert corpus.task.classes == ("anger", "happiness", "neutral", "sadness")
    assert dict(corpus.task.merge) == {"excitement": "happiness"}


@pytest.mark.parametrize(
    ("utterance", "speaker", "gender"),
    [
        ("Ses01F_impro01_M000", "Ses01M", "male"),
        ("Ses01M_impro01_F003", "Ses01F", "female"),
        ("Ses05M_script03_2_M044", "Ses05M", "male"),
        ("Ses03F_script01_1_M012", "Ses03M", "male"),
        ("Ses02M_script02_2_FXX1", "Ses02F", "female"),
        ("Ses04F_impro03b_M001", "Ses04M", "male"),
    ],
)
def test_the_speaker_is_the_letter_of_the_last_token(tmp_path: Path, utterance: str, speaker: str, gender: str) -> None:
    add(tmp_path, utterance)
    (found,) = read_iemocap(tmp_path).utterances
    assert (found.speaker, found.columns["gender"]) == (speaker, gender)
    assert found.columns["style"] == ("scripted" if "script" in utterance else "improvised")
    assert found.columns["script"] == (utterance.rsplit("_", 1)[0][7:] if "script" in utterance else "")


def test_every_label_is_kept_in_words(tmp_path: Path) -> None:
    words = {
        "ang": "anger", "hap": "happiness", "exc": "excitement", "sad": "sadness", "neu": "neutral",
        "fru": "frustration", "fea": "fear", "sur": "surprise", "dis": "disgust", "oth": "other", "xxx": "undecided",
    }  # fmt: skip
    for number, code in enumerate(words):
        add(tmp_path, f"Ses01F_impro01_F{number:03d}", code)
    assert [utterance.label for utterance in read_iemocap(tmp_path).utterances] == list(words.values())


@pytest.mark.parametrize(
    ("ratings", "missing"),
    [("2.5, 3.0, nan", 1), ("2.5000, 3.0000, ", 1), ("2.5, 3.0", 1), ("NaN, 3, nan", 2), ("", 3), ("2.5, 3.0, 4.0", 0)],
)
def test_missing_ratings_are_nan(tmp_path: Path, ratings: str, missing: int) -> None:
    add(tmp_path, "Ses01F_impro01_F000", ratings=ratings)
    (utterance,) = read_iemocap(tmp_path).utterances
    values = [utterance.columns[name] for name in ("valence", "arousal", "dominance")]
    assert sum(math.isnan(value) for value in values) == missing
    assert math.isnan(values[0]) or values[0] == 2.5


def test_other_files_of_the_release_are_ignored(tmp_path: Path) -> None:
    add(tmp_path, "Ses01F_impro01_F000", "neu")
    evaluation = tmp_path / "Session1/dialog/EmoEvaluation"
    wrong = f"{HEADER}[1.0 - 2.0]\tSes01F_impro01_F000\tang\t[1.0, 1.0, 1.0]\n"
    for name in ("Attribute", "Categorical", "Self-evaluation"):
        (evaluation / name).mkdir()
        (evaluation / name / "Ses01F_impro01_e1.txt").write_text(wrong)
    (evaluation / "._Ses01F_impro01.txt").write_bytes(b"\x00\x05\x16\x07\x00\xff" + wrong.encode())
    (evaluation / ".DS_Store").write_bytes(b"\x00\xff")
    (evaluation / "a folder.txt").mkdir()
    sentences = tmp_path / "Session1/sentences/wav"
    (sentences / "Ses01F_impro01/._Ses01F_impro01_F000.wav").touch()
    (sentences / "._Ses01F_impro01").touch()
    (tmp_path / "._Session1").touch()
    (tmp_path / "Session1/dialog/wav").mkdir()
    (tmp_path / "Session1/dialog/wav/Ses01F_impro01.wav").touch()
    (tmp_path / "Documentation").mkdir()
    corpus = read_iemocap(tmp_path)
    assert [(utterance.id, utterance.label) for utterance in corpus.utterances] == [("Ses01F_impro01_F000", "neutral")]
    assert not any("Left out" in note for note in corpus.notes)


def test_windows_line_endings_and_broken_bytes(tmp_path: Path) -> None:
    add(tmp_path, "Ses01F_impro01_F000", "sad")
    file = tmp_path / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n") + b"comment \xe9\xff\r\n")
    assert [utterance.label for utterance in read_iemocap(tmp_path).utterances] == ["sadness"]


def test_what_does_not_fit_together_is_told(tmp_path: Path) -> None:
    add(tmp_path, "Ses01F_impro01_F000")
    add_wav(tmp_path, "Ses01F_impro01_F001")
    add_label(tmp_path, "Ses01F_impro01_F002", "ang")
    add(tmp_path, "Ses01F_impro01_F003", "zzz")
    add_label(tmp_path, "Ses01F_impro01_F000", "ang")
    corpus = read_iemocap(tmp_path)
    assert [(utterance.id, utterance.label) for utterance in corpus.utterances] == [("Ses01F_impro01_F000", "neutral")]
    notes = "\n".join(corpus.notes)
    assert "1 audio file without a label, such as 'Ses01F_impro01_F001'" in notes
    assert "1 label without audio, such as 'Ses01F_impro01_F002'" in notes
    assert "1 label whose emotion or name is unknown, such as 'Ses01F_impro01_F003'" in notes
    assert "1 label that contradicts an earlier one, such as 'Ses01F_impro01_F000'" in notes


def test_the_same_line_twice_is_no_contradiction(tmp_path: Path) -> None:
    add(tmp_path, "Ses01F_impro01_F000", ratings="2.5, 3.0, nan")
    add_label(tmp_path, "Ses01F_impro01_F000", "neu", "2.5, 3.0, nan")
    assert not any("contradicts" in note for note in read_iemocap(tmp_path).notes)


def test_labels_or_audio_missing_altogether(tmp_path: Path) -> None:
    add_label(tmp_path, "Ses01F_impro01_F000", "neu")
    assert recognise(tmp_path)
    with pytest.raises(CorpusError, match="1 labels and 0 sentence files"):
        read_iemocap(tmp_path)


def test_utterances_are_sorted_and_suffixes_may_differ(tmp_path: Path) -> None:
    for utterance, suffix in (
        ("Ses02F_impro01_M001", ".WAV"),
        ("Ses01F_impro01_M001", ".flac"),
        ("Ses01F_impro01_F001", ".wav"),
    ):
        add_wav(tmp_path, utterance, suffix)
        add_label(tmp_path, utterance, "neu")
    ids = [utterance.id for utterance in read_iemocap(tmp_path).utterances]
    assert ids == ["Ses01F_impro01_F001", "Ses01F_impro01_M001", "Ses02F_impro01_M001"]


SESSIONS = {1: 1085, 2: 1023, 3: 1151, 4: 1031, 5: 1241}
CODES = {"neu": 1708, "hap": 595, "exc": 1041, "ang": 1103, "sad": 1084}
FILES = 10_039


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release with the published counts; what is beyond the four classes is undecided. Files are empty."""
    root = tmp_path_factory.mktemp("release")
    empty = root / "empty"
    empty.touch()
    codes = chain.from_iterable([code] * count for code, count in CODES.items())
    plan = [(session, code) for session, count in SESSIONS.items() for code in islice(codes, count)]
    plan += [(session, "xxx") for session in islice(cycle(SESSIONS), FILES - len(plan))]
    lines: dict[tuple[int, str], list[str]] = {}
    for number, (session, code) in enumerate(plan):
        name = f"Ses{session:02d}F_impro{number % 30:02d}"
        lines.setdefault((session, name), []).append(f"[1.0 - 2.0]\t{name}_M{number:05d}\t{code}\t[3.0, 3.0, 3.0]")
    for (session, dialogue), rows in lines.items():
        wavs = root / f"Session{session}/sentences/wav/{dialogue}"
        wavs.mkdir(parents=True)
        for row in rows:
            os.link(empty, wavs / f"{row.split()[3]}.wav")
        evaluation = root / f"Session{session}/dialog/EmoEvaluation"
        evaluation.mkdir(parents=True, exist_ok=True)
        (evaluation / f"{dialogue}.txt").write_text("\n".join(rows))
    return root


def test_a_full_release_with_the_published_counts_needs_no_note(release: Path) -> None:
    corpus = read_iemocap(release)
    assert len(corpus.utterances) == FILES
    assert corpus.notes == ()


@contextmanager
def one_label_changed(release: Path, session: int, old: str, new: str) -> Iterator[None]:
    files = (release / f"Session{session}/dialog/EmoEvaluation").iterdir()
    file = next(file for file in files if f"\t{old}\t" in file.read_text())
    text = file.read_text()
    file.write_text(text.replace(f"\t{old}\t", f"\t{new}\t", 1))
    yield
    file.write_text(text)


@pytest.mark.parametrize(
    ("session", "old", "new", "told"),
    [
        (2, "hap", "exc", ["happiness without excitement 594 instead of 595"]),
        (4, "ang", "sad", ["anger 1,102 instead of 1,103", "sadness 1,085 instead of 1,084"]),
        (3, "xxx", "exc", ["four-class utterances 5,532 instead of 5,531", "Ses03 1,152 instead of 1,151"]),
        (1, "neu", "fru", ["four-class utterances 5,530", "neutral 1,707", "Ses01 1,084 instead of 1,085"]),
    ],
)
def test_a_full_release_with_other_counts_is_told_loudly(
    release: Path, session: int, old: str, new: str, told: list[str]
) -> None:
    with one_label_changed(release, session, old, new):
        (note,) = read_iemocap(release).notes
    assert note.startswith("WARNING")
    assert note.count("instead of") == (1 if new == "exc" and old == "hap" else 2 if old == "ang" else 3)
    for words in told:
        assert words in note


def test_a_full_release_that_lacks_a_file_is_told_loudly(release: Path) -> None:
    file = next(release.glob("Session5/sentences/wav/*/*.wav"))
    kept = file.rename(release / "kept")
    warning, missing = read_iemocap(release).notes
    kept.rename(file)
    assert warning.startswith("WARNING")
    assert "sentence files 10,038 instead of 10,039" in warning
    assert missing == f"Left out 1 label without audio, such as {file.stem!r}."


def test_part_of_a_release_is_told_quietly(tmp_path: Path) -> None:
    add(tmp_path, "Ses01F_impro01_F000")
    assert read_iemocap(tmp_path).notes == ("Found 1 sentence file of 10,039: not the full IEMOCAP release.",)
