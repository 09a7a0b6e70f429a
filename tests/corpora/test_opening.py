"""A folder is recognised by itself; what is not gets one sentence that says what was looked for."""

from pathlib import Path

import pytest

from embedkit.corpora import CORPORA, open_corpus
from embedkit.errors import CorpusError

FURTHER = ["msp-podcast", "meld", "tess", "savee", "emovo", "msp-improv", "esd", "nemo", "emobox", "audformat"]
FURTHER += ["audb", "datasets"]


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def write_iemocap(root: Path) -> Path:
    touch(root, "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav")
    evaluation = root / "Session1/dialog/EmoEvaluation"
    evaluation.mkdir(parents=True)
    (evaluation / "Ses01F_impro01.txt").write_text("[1.0 - 2.0]\tSes01F_impro01_F000\tneu\t[1.0, 2.0, 3.0]\n")
    return root


def sentence(source: str | Path) -> str:
    with pytest.raises(CorpusError) as caught:
        open_corpus(source)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


def test_every_registered_corpus_loads_and_has_a_summary() -> None:
    assert list(CORPORA) == ["demo", "iemocap", "emodb", "ravdess", "crema-d", *FURTHER, "manifest"]
    for name in CORPORA:
        assert CORPORA.summary(name)
        assert not CORPORA.load(name).recognise(Path("missing"))


def test_folders_are_recognised(tmp_path: Path) -> None:
    assert open_corpus(write_iemocap(tmp_path / "a")).kind == "iemocap"
    assert open_corpus(touch(tmp_path / "b", "wav/03a01Fa.wav")).kind == "emodb"
    assert open_corpus(touch(tmp_path / "c", "Actor_01/03-01-01-01-01-01-01.wav")).kind == "ravdess"
    assert open_corpus(touch(tmp_path / "d", "AudioWAV/1001_DFA_ANG_XX.wav")).kind == "crema-d"
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "own.csv").write_text("path,label\n1.wav,x\n")
    (tmp_path / "e" / "other.csv").write_text("a,b\n1,2\n")
    corpus = open_corpus(tmp_path / "e")
    assert (corpus.kind, corpus.name, corpus.root) == ("manifest", "own", tmp_path / "e")


def test_a_path_may_be_relative_and_the_root_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "b", "wav/03a01Fa.wav")
    (tmp_path / "m.tsv").write_text("path\tlabel\n1.wav\tx\n")
    monkeypatch.chdir(tmp_path)
    assert open_corpus("b").root == tmp_path / "b"
    assert open_corpus("m.tsv").root == tmp_path


def test_nothing_there(tmp_path: Path) -> None:
    assert "no folder or file" in sentence(tmp_path / "missing")
    assert "your copy of emodb" in sentence("emodb")
    assert "no audio" in sentence(touch(tmp_path / "texts", "a/b.txt"))
    assert "no audio" in sentence(touch(tmp_path / "mac", "._a.wav"))


def test_a_single_file(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "b.FLAC", "c.txt")
    assert "single audio file" in sentence(tmp_path / "a.wav")
    assert "single audio file" in sentence(tmp_path / "b.FLAC")
    assert "is no corpus" in sentence(tmp_path / "c.txt")


def test_an_unknown_layout_names_what_was_looked_for(tmp_path: Path) -> None:
    message = sentence(touch(tmp_path / "own", "happy/1.wav", "sad/2.mp3"))
    for word in ("IEMOCAP", "EmoDB", "RAVDESS", "CREMA-D", "manifest", "path,label"):
        assert word in message


def test_several_manifests_are_no_choice(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("path,label\n1.wav,x\n")
    message = sentence(tmp_path)
    assert "2 manifests" in message
    assert "'a.csv'" in message


def test_a_manifest_beside_a_known_layout_is_named(tmp_path: Path) -> None:
    folder = touch(tmp_path / "b", "wav/03a01Fa.wav")
    (folder / "own.csv").write_text("path,label\nwav/03a01Fa.wav,joy\n")
    (folder / "other.csv").write_text("a,b\n1,2\n")
    named = [note for note in open_corpus(folder).notes if "own.csv" in note or "other.csv" in note]
    assert named == ["Did not read own.csv, for the folder has the layout of emodb; name that file to read it instead."]
    assert open_corpus(folder / "own.csv").kind == "manifest"


def test_a_folder_one_level_off_gets_a_hint(tmp_path: Path) -> None:
    root = write_iemocap(tmp_path / "data" / "IEMOCAP_full_release")
    for wrong in (tmp_path / "data", tmp_path, root / "Session1", root / "Session1/sentences/wav"):
        message = sentence(wrong)
        assert f"{str(root)!r} looks like iemocap; give that" in message
    touch(tmp_path / "x" / "EmoDB", "wav/03a01Fa.wav", "lablaut/03a01Fa.lab")
    assert "looks like emodb" in sentence(tmp_path / "x")
    assert "looks like emodb" in sentence(tmp_path / "x" / "EmoDB" / "lablaut")
