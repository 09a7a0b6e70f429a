"""Audio in a corpus's folders that was not read is named, and why."""

from pathlib import Path

import pytest

from embedkit.checking.table import render_reading
from embedkit.corpora import Corpus, Utterance, open_corpus
from embedkit.corpora.unread import add_unread
from embedkit.errors import CorpusError

RAVDESS = [f"03-01-0{emotion}-01-01-01-0{actor}.wav" for emotion in (3, 5) for actor in (1, 2)]
CREMA = ["1001_DFA_ANG_XX.wav", "1002_DFA_HAP_XX.wav"]
TESS = ["OAF_back_angry.wav", "YAF_bar_angry.wav"]


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def left(root: Path) -> list[str]:
    corpus = open_corpus(root)
    named = [name for note in (*corpus.notes, *corpus.unread) for name in getattr(note, "names", ())]
    assert len(set(named)) == len(named)
    return sorted(named)


@pytest.mark.parametrize(
    ("kind", "read", "others"),
    [
        ("ravdess", RAVDESS, [*CREMA, *TESS]),
        ("ravdess", RAVDESS, ["03-01-03-01-01-01-01_noise.wav", "03-01-03-01-01-01-01 (1).wav"]),
        ("ravdess", RAVDESS, ["more/deeply/a.wav", "song.m4a", "03-01-03-01-01-01-01.mp3"]),
        ("crema-d", CREMA, ["DC_a01.wav", "x.ogg"]),
        ("crema-d", [f"AudioWAV/{name}" for name in CREMA], ["AudioMP3/1001_DFA_ANG_XX.mp3", "other/b.wav"]),
        ("tess", TESS, ["DC_a01.wav", "deep/down/there/c.flac"]),
        ("savee", ["DC_a01.wav", "JE_h01.wav"], ["XX_a01.wav", "copy/DC_a01.m4a"]),
        ("emovo", ["f1/dis-f1-b1.wav", "f1/gio-f1-b1.wav"], ["f1/notes.wav", "extra/one/a.wav"]),
        ("emodb", ["wav/03a01Fa.wav", "wav/03a01Wa.wav"], ["wav/readme.wav", "noisy/03a01Fa.wav", "a.mp3"]),
    ],
)
def test_files_of_other_layouts_names_and_formats(
    tmp_path: Path, kind: str, read: list[str], others: list[str]
) -> None:
    touch(tmp_path, *read, *others, "paper.pdf", "._hidden.wav", ".cache/x.wav")
    corpus = open_corpus(tmp_path)
    assert (corpus.kind, len(corpus.utterances)) == (kind, len(read))
    assert {name.rpartition("/")[2] for name in left(tmp_path)} == {name.rpartition("/")[2] for name in others}
    assert render_reading(corpus).count("not read") >= 1


def test_a_manifest_names_what_lies_beside_its_files(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.wav", "a/2.wav", "a/1.mp3", "b/3.wav")
    (tmp_path / "m.csv").write_text("path,label\na/1.wav,x\n")
    assert left(tmp_path / "m.csv") == ["a/1.mp3", "a/2.wav"]


def test_whole_dialogues_of_iemocap_are_no_utterances(tmp_path: Path) -> None:
    session = tmp_path / "Session1"
    touch(session, "dialog/wav/Ses01F_impro01.wav", "sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav", "x.wav")
    (session / "dialog" / "EmoEvaluation").mkdir()
    (session / "dialog" / "EmoEvaluation" / "Ses01F_impro01.txt").write_text(
        "[6.29 - 8.23]\tSes01F_impro01_F000\tneu\t[2.5, 2.5, 2.5]\n"
    )
    assert left(tmp_path) == ["Session1/x.wav"]


def test_the_table_of_what_was_read(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{number:03d}.wav" for number in range(30)))
    (tmp_path / "m.csv").write_text("path,label,Onset,duration,participant\n000.wav,x,0,1,007\n")
    table = render_reading(open_corpus(tmp_path))
    assert table == (
        "read          1 utterance of m\n"
        "columns used  path, label, Onset as start, duration as end = start + duration\n"
        "columns kept  participant\n"
        "not read      29 audio files that the manifest does not name: '001.wav',\n"
        "              '002.wav', '003.wav' and 26 more"
    )


@pytest.mark.parametrize("kind", ["manifest", "layout"])
def test_a_folder_that_cannot_be_listed_ends_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.wav").touch()

    def refuse(folder: Path) -> list[str]:
        if folder.name == "sub":
            raise CorpusError(f"Cannot list the folder {str(folder)!r} (Permission denied).")
        return ["sub"]

    monkeypatch.setattr("embedkit.corpora.unread.list_names", refuse)
    monkeypatch.setattr("embedkit.corpora.base.list_names", refuse)
    utterance = Utterance(id="a", path="sub/a.wav", label="x")
    corpus = Corpus(name="mine", kind=kind, root=tmp_path, utterances=(utterance,))
    found = add_unread(corpus, beside=kind == "manifest")
    assert found.utterances == corpus.utterances
    assert found.unread == ()
    assert ["Permission denied" in note for note in found.notes] == [True] * (kind == "layout")
