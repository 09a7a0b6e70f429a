"""TESS, SAVEE and EMOVO: the label is in the file name, the files lie in folders of their speakers."""

from collections import Counter
from itertools import product
from pathlib import Path

import pytest

from embedkit.corpora import emovo, open_corpus, savee, tess
from embedkit.errors import CorpusError

SEVEN = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


TESS_FOLDERS = [
    "OAF_angry", "OAF_disgust", "OAF_Fear", "OAF_happy", "OAF_neutral", "OAF_Pleasant_surprise", "OAF_Sad",
    "YAF_angry", "YAF_disgust", "YAF_fear", "YAF_happy", "YAF_neutral", "YAF_pleasant_surprised", "YAF_sad",
]  # fmt: skip
TESS_CODES = {"pleasant_surprise": "ps", "pleasant_surprised": "ps"}


def tess_names(words: list[str]) -> list[str]:
    pairs = [(folder, folder.split("_", 1)) for folder in TESS_FOLDERS]
    codes = [(folder, speaker, TESS_CODES.get(rest.lower(), rest.lower())) for folder, (speaker, rest) in pairs]
    return [f"{folder}/{speaker}_{word}_{code}.wav" for folder, speaker, code in codes for word in words]


def test_the_whole_of_tess(tmp_path: Path) -> None:
    words = [f"{first}{second}" for first, second in product("abcdefghij", "abcdefghijklmnopqrst")]
    names = tess_names(words)
    names[names.index("OAF_neutral/OAF_aa_neutral.wav")] = "OAF_neutral/OA_aa_neutral.wav"
    corpus = open_corpus(touch(tmp_path, *names))
    assert (corpus.name, corpus.kind, corpus.notes) == ("tess", "tess", ())
    assert Counter(utterance.label for utterance in corpus.utterances) == dict.fromkeys(SEVEN, 400)
    assert Counter(utterance.speaker for utterance in corpus.utterances) == {"OAF": 1400, "YAF": 1400}
    assert corpus.task.classes == SEVEN
    found = {utterance.id: utterance for utterance in corpus.utterances}
    assert found["YAF_ab_ps"].label == "surprise"
    assert found["YAF_ab_ps"].path == "YAF_pleasant_surprised/YAF_ab_ps.wav"
    assert found["OA_aa_neutral"].columns == {"gender": "female", "text": "aa"}


def test_tess_unpacked_twice_or_flat(tmp_path: Path) -> None:
    names = tess_names(["back"])
    again = [f"TESS Toronto emotional speech set data/{name}" for name in names]
    corpus = open_corpus(touch(tmp_path / "twice", *names, *again, "OAF_angry/readme.wav"))
    assert len(corpus.utterances) == 14
    assert all("TESS" not in utterance.path for utterance in corpus.utterances)
    assert "Left out 14 repetitions of a file" in "\n".join(corpus.notes)
    assert "such as 'OAF_angry/readme.wav'" in "\n".join(corpus.notes)
    flat = open_corpus(touch(tmp_path / "flat", *(name.split("/")[1] for name in names)))
    assert (flat.kind, len(flat.utterances)) == ("tess", 14)


SAVEE_CODES = {"a": 15, "d": 15, "f": 15, "h": 15, "n": 30, "sa": 15, "su": 15}
SAVEE = [
    (speaker, f"{code}{number:02d}")
    for speaker in ("DC", "JE", "JK", "KL")
    for code, count in SAVEE_CODES.items()
    for number in range(1, count + 1)
]


@pytest.mark.parametrize("pattern", ["AudioData/{}/{}.wav", "{}/{}.wav", "ALL/{}_{}.wav", "{}_{}.wav"])
def test_the_whole_of_savee(tmp_path: Path, pattern: str) -> None:
    corpus = open_corpus(touch(tmp_path, *(pattern.format(*name) for name in SAVEE)))
    assert (corpus.name, corpus.kind, corpus.notes) == ("savee", "savee", ())
    counts = Counter(utterance.label for utterance in corpus.utterances)
    assert counts == {label: 120 if label == "neutral" else 60 for label in SEVEN}
    found = {utterance.id: utterance for utterance in corpus.utterances}["JK_sa03"]
    assert (found.path, found.speaker, found.label) == (pattern.format("JK", "sa03"), "JK", "sadness")
    assert dict(found.columns) == {"gender": "male", "text": "sa03"}


EMOVO_TEXTS = ["b1", "b2", "b3", "l1", "l2", "l3", "l4", "n1", "n2", "n3", "n4", "n5", "d1", "d2"]


@pytest.mark.parametrize("inner", ["{1}/", ""])
def test_the_whole_of_emovo(tmp_path: Path, inner: str) -> None:
    speakers = ("f1", "f2", "f3", "m1", "m2", "m3")
    emotions = ("dis", "gio", "neu", "pau", "rab", "sor", "tri")
    names = [f"{inner}{{0}}-{{1}}-{{2}}.wav".format(*parts) for parts in product(emotions, speakers, EMOVO_TEXTS)]
    corpus = open_corpus(touch(tmp_path, *names, "documents/paper.pdf"))
    assert (corpus.name, corpus.kind, corpus.notes) == ("emovo", "emovo", ())
    assert Counter(utterance.label for utterance in corpus.utterances) == dict.fromkeys(SEVEN, 84)
    found = {utterance.id: utterance for utterance in corpus.utterances}
    words = {"dis": "disgust", "gio": "happiness", "neu": "neutral", "pau": "fear", "rab": "anger", "sor": "surprise",
             "tri": "sadness"}  # fmt: skip
    assert {code: found[f"{code}-f2-l4"].label for code in emotions} == words
    assert (found["rab-m3-d2"].speaker, dict(found["rab-m3-d2"].columns)) == ("m3", {"gender": "male", "text": "d2"})


def test_folders_without_them(tmp_path: Path) -> None:
    touch(tmp_path, "f1/a.wav", "DC/readme.txt", "OAF_angry/b.txt")
    for read, title in ((tess.READER.read, "TESS"), (savee.READER.read, "SAVEE"), (emovo.READER.read, "EMOVO")):
        with pytest.raises(CorpusError, match=f"no utterance of {title}"):
            read(tmp_path)
    with pytest.raises(CorpusError, match="not recognised"):
        open_corpus(tmp_path)


@pytest.mark.parametrize("split", ["", "evaluation/"])
def test_esd(tmp_path: Path, split: str) -> None:
    names = ["0011/Angry/{}0011_000351.wav", "0011/Neutral/{}0011_000001.wav", "0003/Sad/{}0003_001400.wav"]
    touch(tmp_path, *(name.format(split) for name in names), "0011/0011.txt")
    corpus = open_corpus(tmp_path)
    told = {(one.id, one.label, one.speaker, one.split, one.columns["text"]) for one in corpus.utterances}
    side = "dev" if split else ""
    assert (corpus.name, corpus.kind) == ("esd", "esd")
    assert told == {
        ("0011_000351", "anger", "0011", side, "english-001"),
        ("0011_000001", "neutral", "0011", side, "english-001"),
        ("0003_001400", "sadness", "0003", side, "mandarin-350"),
    }
    assert corpus.notes == ("Found 3 utterances; the complete ESD has 35,000.",)


@pytest.mark.parametrize("folder", ["samples/", ""])
def test_nemo(tmp_path: Path, folder: str) -> None:
    touch(tmp_path, f"{folder}EB0_anger_1.wav", f"{folder}WR0_surprised_64.wav", "data.tsv")
    corpus = open_corpus(tmp_path)
    told = {(one.id, one.label, one.speaker, *one.columns.values()) for one in corpus.utterances}
    assert corpus.name == "nemo"
    assert told == {
        ("EB0_anger_1", "anger", "EB0", "female", "1"),
        ("WR0_surprised_64", "surprise", "WR0", "male", "64"),
    }
    assert corpus.notes == ("Found 2 utterances; the complete nEMO has 4,481.",)
