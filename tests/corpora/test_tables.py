"""MSP-Podcast and MELD: labels in CSV tables, audio beside them."""

import math
from pathlib import Path

import pytest

from embedkit.corpora import open_corpus
from embedkit.errors import CorpusError
from tests.containers import hide_torchcodec, stand_in

MSP_HEADER = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"
MSP_ROWS = [
    "MSP-PODCAST_0001_0008.wav,N,2.2,4.0,2.6,30,Male,Test1",
    "MSP-PODCAST_0001_0009.wav,A,3.777778,3.555556,3.777778,39,Female,Train",
    "MSP-PODCAST_0002_0033.wav,U,5.0,6.25,4.5,Unknown,Unknown,Development",
    "MSP-PODCAST_0005_0001.wav,X,4.0,4.0,4.0,7,Male,Test2",
    "MSP-PODCAST_xxxx_0001.wav,C,,,,Unknown,Unknown,Test3",
]


def write_msp(root: Path, rows: list[str], *, header: str = MSP_HEADER, folder: str = "Audios") -> Path:
    (root / "Labels").mkdir(parents=True)
    (root / "Labels" / "labels_consensus.csv").write_text("\n".join([header, *rows]) + "\n")
    (root / folder).mkdir()
    for row in MSP_ROWS:
        (root / folder / row.split(",")[0]).touch()
    return root


@pytest.mark.parametrize("folder", ["Audios", "Audio"])
def test_msp_podcast(tmp_path: Path, folder: str) -> None:
    corpus = open_corpus(write_msp(tmp_path, MSP_ROWS, folder=folder))
    assert (corpus.name, corpus.kind) == ("msp-podcast", "msp-podcast")
    assert corpus.task.classes == (
        "anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"
    )  # fmt: skip
    first, second, third, fourth, fifth = corpus.utterances
    assert (first.id, first.path) == ("MSP-PODCAST_0001_0008", f"{folder}/MSP-PODCAST_0001_0008.wav")
    assert [item.label for item in corpus.utterances] == ["neutral", "anger", "surprise", "undecided", "contempt"]
    assert [item.split for item in corpus.utterances] == ["test", "train", "dev", "", ""]
    assert [item.speaker for item in corpus.utterances] == ["30", "39", "", "7", ""]
    assert second.columns == {
        "valence": 3.555556, "arousal": 3.777778, "dominance": 3.777778, "gender": "female", "partition": "Train"
    }  # fmt: skip
    assert (third.columns["gender"], fourth.columns["partition"]) == ("", "Test2")
    assert math.isnan(float(fifth.columns["valence"]))
    (note,) = corpus.notes
    assert "2 utterances of Test2 and Test3; to test on them, extract --where partition=Test2" in note


@pytest.mark.parametrize("name", ["labels_consensus.csv", "labels_concensus.csv"])
@pytest.mark.parametrize(
    ("partition", "side"),
    [("Train", "train"), ("Validation", "dev"), ("Development", "dev"), ("development", "dev"), ("Test1", "test"),
     ("Test", "test"), ("Test2", ""), ("Test3", "")],
)  # fmt: skip
def test_partitions_of_every_release_of_msp_podcast(tmp_path: Path, name: str, partition: str, side: str) -> None:
    row = MSP_ROWS[0].replace("Test1", partition)
    (write_msp(tmp_path, [row]) / "Labels" / "labels_consensus.csv").rename(tmp_path / "Labels" / name)
    (found,) = open_corpus(tmp_path).utterances
    assert (found.split, found.columns["partition"]) == (side, partition)


def test_speakers_and_partitions_in_lists_of_their_own(tmp_path: Path) -> None:
    rows = [",".join(row.split(",")[:5]) for row in MSP_ROWS[:2]]
    write_msp(tmp_path, rows, header="FileName,EmoClass,EmoAct,EmoVal,EmoDom")
    corpus = open_corpus(tmp_path)
    assert [(item.speaker, item.split) for item in corpus.utterances] == [("", "")] * 2
    assert "labels_consensus.csv has no column SpkrID, and there is no Speaker_ids.txt." in corpus.notes
    names = [row.split(",")[0] for row in rows]
    (tmp_path / "Speaker_ids.txt").write_text("".join(f"{name}; 00{number}\n" for number, name in enumerate(names)))
    (tmp_path / "Partitions.txt").write_text(f"Train; {names[0]}\n\nValidation;{names[1]}\n")
    found = open_corpus(tmp_path).utterances
    assert [(item.speaker, item.split) for item in found] == [("000", "train"), ("001", "dev")]


def test_rows_of_msp_podcast_without_audio_are_told_and_none_leads_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.wav").touch()
    rows = [*MSP_ROWS[:3], "../../secret.wav,N,1,1,1,1,Male,Train", "/etc/passwd,N,1,1,1,1,Male,Train",
            "MSP-PODCAST_0005_0001.wav,Q,1,1,1,1,Male,Train"]  # fmt: skip
    corpus = open_corpus(write_msp(tmp_path / "corpus", rows))
    assert len(corpus.utterances) == 3
    assert corpus.notes == (
        "Left out 2 labels without audio, such as '../../secret.wav'.",
        "Left out 1 label of no known class, such as 'MSP-PODCAST_0005_0001.wav'.",
    )


@pytest.mark.parametrize(
    ("header", "rows", "told"),
    [
        (
            "FileName,EmoClass",
            ["a.wav,N"],
            r"no column EmoAct, EmoVal, EmoDom; columns found",
        ),
        (MSP_HEADER, ["a.wav,N"], "Row 2 of the table .* fields, but the header has 8"),
        (MSP_HEADER, [MSP_ROWS[0] + ",more"], "Row 2 of the table .* fields, but the header has 8"),
        (MSP_HEADER, ["a.wav,N,1,1,1,1,Male,Train"], "1 labels and 5 audio files, but no labelled file"),
        (MSP_HEADER, [MSP_ROWS[0], MSP_ROWS[0]], "holds 'MSP-PODCAST_0001_0008' twice"),
    ],
)
def test_tables_of_msp_podcast_that_cannot_be_used(tmp_path: Path, header: str, rows: list[str], told: str) -> None:
    with pytest.raises(CorpusError, match=told):
        open_corpus(write_msp(tmp_path, rows, header=header))


MELD_HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"
MELD = {
    "train": [
        '1,"also I was the point person on my company\x92s transition",Chandler,neutral,neutral,0,0,8,21,'
        '"00:16:16,059","00:16:21,731"',
        '2,"You must\x92ve had your hands full.",The Interviewer,joy,positive,0,1,8,21,"00:16:21,940","00:16:23,442"',
    ],
    "dev": ['1,Oh my God!,Phoebe,surprise,negative,0,0,4,7,"00:20:57,256","00:21:00,049"'],
    "test": ['1,"Why do all you\x92re coffee mugs?",Mark,anger,positive,0,0,3,19,"00:14:38,127","00:14:40,378"'],
}
MELD_FOLDERS = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}


def write_meld(root: Path, *, suffix: str = "wav", nested: bool = False, encoding: str = "utf-8") -> Path:
    for side, rows in MELD.items():
        place = root / side if nested else root
        audio = place / MELD_FOLDERS[side]
        audio.mkdir(parents=True)
        table = "\n".join([MELD_HEADER, *rows]) + "\n"
        (place / f"{side}_sent_emo.csv").write_bytes(table.encode(encoding))
        for number in range(len(rows)):
            (audio / f"dia0_utt{number}.{suffix}").touch()
    return root


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_meld(tmp_path: Path, nested: bool, encoding: str) -> None:
    corpus = open_corpus(write_meld(tmp_path, nested=nested, encoding=encoding))
    assert (corpus.name, corpus.kind) == ("meld", "meld")
    assert [item.id for item in corpus.utterances] == [
        "dev_dia0_utt0", "test_dia0_utt0", "train_dia0_utt0", "train_dia0_utt1"
    ]  # fmt: skip
    assert [item.label for item in corpus.utterances] == ["surprise", "anger", "neutral", "happiness"]
    assert [item.split for item in corpus.utterances] == ["dev", "test", "train", "train"]
    first, last = corpus.utterances[0], corpus.utterances[-1]
    assert first.path == f"{'dev/' if nested else ''}dev_splits_complete/dia0_utt0.wav"
    assert last.speaker == "The Interviewer"
    assert dict(first.columns) == {
        "text": "Oh my God!", "sentiment": "negative", "dialogue": "dev_0", "season": "4", "episode": "7"
    }  # fmt: skip
    assert corpus.notes == ("Found 4 utterances; the complete MELD has 13,708.",)
    assert len(corpus.task.classes) == 7


def test_audio_of_meld_may_lie_beside_its_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide_torchcodec(monkeypatch)
    write_meld(tmp_path, suffix="mp4")
    with pytest.raises(
        CorpusError, match=r"4 videos and no audio, and decoding videos needs torchcodec.*ffmpeg -i dia0_utt0\.mp4"
    ):
        open_corpus(tmp_path)
    (tmp_path / "train_splits" / "dia0_utt1.wav").touch()
    corpus = open_corpus(tmp_path)
    assert [item.path for item in corpus.utterances] == ["train_splits/dia0_utt1.wav"]
    assert any("3 labels with a video alone: decoding videos needs torchcodec" in note for note in corpus.notes)
    stand_in(monkeypatch)
    paths = {item.path for item in open_corpus(tmp_path).utterances}
    assert len(paths) == 4
    assert {Path(path).suffix for path in paths if path != "train_splits/dia0_utt1.wav"} == {".mp4"}


def test_meld_without_audio_or_with_a_row_that_has_no_number(tmp_path: Path) -> None:
    write_meld(tmp_path / "a", suffix="txt")
    with pytest.raises(CorpusError, match="no audio of its utterances"):
        open_corpus(tmp_path / "a")
    table = write_meld(tmp_path / "b") / "dev_sent_emo.csv"
    table.write_text(table.read_text().replace(",0,0,4,7", ",../x,0,4,7"))
    with pytest.raises(CorpusError, match=r"Row 2 .* has no number"):
        open_corpus(tmp_path / "b")
