"""Corpora with what every annotator said: CREMA-D's votes, MSP-Podcast's detailed labels, MSP-IMPROV."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from embedkit.corpora import Corpus, open_corpus
from embedkit.corpora.votes import count_votes, measure_spread
from embedkit.errors import CorpusError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def write_table(file: Path, rows: Sequence[Sequence[Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(rows)


def columns(corpus: Corpus, id_: str) -> dict[str, Any]:
    (found,) = (one for one in corpus.utterances if one.id == id_)
    return dict(found.columns)


def test_votes_and_spread() -> None:
    assert count_votes([["a"], ["a", "b"], []], "abc") == {"votes_a": 1.5, "votes_b": 0.5, "votes_c": 0.0}
    assert all(map(math.isnan, count_votes([], "ab").values()))
    spread = measure_spread({"valence": [1.0, 3.0, math.nan], "arousal": [2.0, math.nan]})
    assert spread["valence_spread"] == pytest.approx(math.sqrt(2))
    assert math.isnan(spread["arousal_spread"])


CLIPS = ("1001_DFA_ANG_XX", "1001_IEO_SAD_HI")
TABULATED = [
    ["", "A", "D", "F", "H", "N", "S", "fileName", "numResponses", "agreement", "emoVote"],
    [100001, 7, 0, 0, 0, 2, 1, CLIPS[0], 10, 0.7, "A"],
    [200001, 0, 0, 0, 9, 0, 0, CLIPS[0], 9, 1.0, "H"],
]


def crema_d(root: Path) -> Path:
    touch(root, *(f"AudioWAV/{clip}.wav" for clip in CLIPS))
    return root


def test_crema_d_with_its_tabulated_votes(tmp_path: Path) -> None:
    write_table(crema_d(tmp_path) / "processedResults/tabulatedVotes.csv", TABULATED)
    write_table(
        tmp_path / "processedResults/summaryTable.csv",
        [["", "FileName", "VoiceVote", "VoiceLevel"], [1, CLIPS[0], "A", "60"], [2, CLIPS[1], "N:S", "50"]],
    )
    corpus = open_corpus(tmp_path)
    found = columns(corpus, CLIPS[0])
    assert found["votes_anger"], found["votes_neutral"] == (7.0, 2.0)
    assert sum(value for name, value in found.items() if name.startswith("votes_")) == 10
    assert found["voice_vote"] == "anger"
    other = columns(corpus, CLIPS[1])
    assert (other["voice_vote"], list(other)) == ("neutral+sadness", list(found))
    assert math.isnan(other["votes_anger"])
    assert f"Did not find 1 vote on the voice, such as '{CLIPS[1]}'." in corpus.notes


def test_crema_d_with_its_responses(tmp_path: Path) -> None:
    rows = [[1, "A", CLIPS[0]], [1, "N", CLIPS[0]], [2, "H", CLIPS[0]], [1, "S", CLIPS[1]]]
    write_table(crema_d(tmp_path) / "finishedResponses.csv", [["queryType", "respEmo", "clipName"], *rows])
    found = columns(open_corpus(tmp_path), CLIPS[0])
    assert (found["votes_anger"], found["votes_neutral"], found["votes_happiness"]) == (1.0, 1.0, 0.0)
    assert "voice_vote" not in found
    assert any("hold answers that took more than 10 s" in note for note in open_corpus(tmp_path).notes)


def test_crema_d_counts_no_answers_that_took_long(tmp_path: Path) -> None:
    header = ["queryType", "respEmo", "clipName", "sessionNums", "questNum"]
    rows = [[1, "A", CLIPS[0], 7, 1], [1, "N", CLIPS[0], 8, 1], [1, "A", CLIPS[0], 8, 2]]
    write_table(crema_d(tmp_path) / "finishedResponses.csv", [header, *rows])
    times = [[8, 1, 1, 10_001], [7, 1, 1, 10_000], [8, 2, 2, 99_999], [8, 1, 2, 5]]
    write_table(tmp_path / "finishedEmoResponses.csv", [["sessionNums", "queryType", "questNum", "ttr"], *times])
    found = columns(open_corpus(tmp_path), CLIPS[0])
    assert (found["votes_anger"], found["votes_neutral"]) == (2.0, 0.0)
    assert not any("10 s" in note for note in open_corpus(tmp_path).notes)


@pytest.mark.parametrize("responses", [11, "", "x"])
def test_votes_that_do_not_add_up(tmp_path: Path, responses: int | str) -> None:
    row = [*TABULATED[1][:8], responses, *TABULATED[1][9:]]
    write_table(crema_d(tmp_path) / "processedResults/tabulatedVotes.csv", [TABULATED[0], row])
    with pytest.raises(CorpusError, match=f"votes on '{CLIPS[0]}' in .* do not add up: 7, 0, 0, 0, 2, 1 for A, D, F"):
        open_corpus(tmp_path)


def test_votes_on_a_clip_that_stand_twice(tmp_path: Path) -> None:
    write_table(crema_d(tmp_path) / "processedResults/tabulatedVotes.csv", [*TABULATED[:2], TABULATED[1]])
    with pytest.raises(CorpusError, match=f"votes on '{CLIPS[0]}' by the voice alone stand twice"):
        open_corpus(tmp_path)


CONSENSUS = ["FileName", "EmoClass", "EmoAct", "EmoVal", "EmoDom", "SpkrID", "Gender", "Split_Set"]
CONSENSUS_ROWS = [
    ["MSP-PODCAST_0001_0008.wav", "N", 4, 4, 4, 127, "Male", "Test1"],
    ["MSP-PODCAST_0002_0001.wav", "H", 5, 5, 4, 128, "Female", "Test3"],
]
SAID = [
    ["WORKER01", "Neutral", "Neutral,Concerned", 3, 4, 4],
    ["WORKER02", "Other-bored", "Amused", 5, 4, 4],
    ["WORKER03", "Neutral", "", 4, 6, 4],
]
DETAIL = ["EmoClass_Major", "EmoClass_Second", "EmoAct", "EmoVal", "EmoDom"]


@pytest.mark.parametrize("form", ["WorkerID", "Workers", "EmoDetail"])
def test_msp_podcast_with_every_annotator(tmp_path: Path, form: str) -> None:
    touch(tmp_path, *(f"Audios/{row[0]}" for row in CONSENSUS_ROWS))
    write_table(tmp_path / "Labels/labels_consensus.csv", [CONSENSUS, *CONSENSUS_ROWS])
    name = CONSENSUS_ROWS[0][0]
    if form == "EmoDetail":
        details = [[name, "{}; {}; {}; A:{}.000000; V:{}.000000; D:{}.000000;".format(*said)] for said in SAID]
        write_table(tmp_path / "Labels/labels_detailed.csv", [["FileName", form], *details])
    else:
        write_table(tmp_path / "Labels/labels_detailed.csv", [["FileName", form, *DETAIL], *([name, *s] for s in SAID)])
    corpus = open_corpus(tmp_path)
    found = columns(corpus, "MSP-PODCAST_0001_0008")
    assert (found["raters"], found["votes_neutral"], found["votes_other"], found["votes_anger"]) == (3.0, 2.0, 1.0, 0.0)
    assert (found["secondary_concerned"], found["secondary_amused"], found["secondary_other"]) == (1.0, 1.0, 0.0)
    assert found["arousal_spread"] == pytest.approx(1.0)
    assert found["dominance_spread"] == 0.0
    unrated = columns(corpus, "MSP-PODCAST_0002_0001")
    assert (list(unrated), unrated["raters"]) == (list(found), 0.0)
    assert math.isnan(unrated["votes_neutral"])
    assert "Did not find 1 utterance in labels_detailed.csv, such as 'MSP-PODCAST_0002_0001'." in corpus.notes
    assert [(one.split, one.columns["partition"]) for one in corpus.utterances] == [("test", "Test1"), ("", "Test3")]


def test_msp_podcast_with_details_that_are_none(tmp_path: Path) -> None:
    touch(tmp_path, f"Audios/{CONSENSUS_ROWS[0][0]}")
    write_table(tmp_path / "Labels/labels_consensus.csv", [CONSENSUS, *CONSENSUS_ROWS])
    write_table(tmp_path / "Labels/labels_detailed.csv", [["FileName", "EmoDetail"], ["a.wav", "WORKER; Neutral"]])
    with pytest.raises(CorpusError, match=r"Row 2 .* no classes and ratings in its EmoDetail"):
        open_corpus(tmp_path)
    write_table(tmp_path / "Labels/labels_detailed.csv", [["FileName", "EmoAct"], ["a.wav", "1"]])
    with pytest.raises(CorpusError, match="no column EmoClass_Major"):
        open_corpus(tmp_path)


EVALUATION = """UTD-IMPROV-S01A-F01-P-MF01.avi; A; A:3.600000; V:2.200000; D:3.400000 ; N:NaN;
R1; Angry; Angry,Frustrated; A:4.000000; V:2.000000; D:3.000000; N:NaN;
R1; Angry; Angry,Frustrated; A:4.000000; V:2.000000; D:3.000000; N:NaN;
R2; Neutral; Neutral; A:2.000000; V:2.000000; D:3.000000; N:NaN;

UTD-IMPROV-S02H-M03-R-MM01.avi; X; A:3.0; V:3.0; D:3.0 ; N:4.0;

UTD-IMPROV-S02H-M03-R-MM02.avi; H; A:3.0; V:3.0; D:3.0 ; N:4.0;
"""


@pytest.mark.parametrize(("name", "outer"), [("Evalution.txt", "Audio/"), ("Evaluation.txt", "")])
def test_msp_improv(tmp_path: Path, name: str, outer: str) -> None:
    odd = "UTD-IMPROV-S02H-M03-R-MM09.mp4; H; A:1.0; V:1.0; D:1.0 ; N:1.0;\nR7; Happy; Happy; A:5.0; V:5.0; D:5.0;\n"
    (tmp_path / name).write_text(
        EVALUATION.replace("\nUTD-IMPROV-S02H-M03-R-MM01", f"{odd}\nUTD-IMPROV-S02H-M03-R-MM01")
    )
    touch(
        tmp_path,
        f"{outer}session1/S01A/P/MSP-IMPROV-S01A-F01-P-MF01.wav",
        f"{outer}session3/S02H/R/MSP-IMPROV-S02H-M03-R-MM01.wav",
        f"{outer}session3/S02H/R/MSP-IMPROV-S02H-M03-R-MM09.wav",
    )
    corpus = open_corpus(tmp_path)
    assert (corpus.name, corpus.task.classes) == ("msp-improv", ("anger", "happiness", "neutral", "sadness"))
    told = [(one.id, one.label, one.speaker, one.session) for one in corpus.utterances]
    assert told == [
        ("MSP-IMPROV-S01A-F01-P-MF01", "anger", "M01", "01"),
        ("MSP-IMPROV-S02H-M03-R-MM01", "undecided", "M03", "03"),
    ]
    found = columns(corpus, "MSP-IMPROV-S01A-F01-P-MF01")
    assert (found["arousal"], found["valence"], found["text"], found["recording"]) == (3.6, 2.2, "01A", "P")
    assert math.isnan(found["naturalness"])
    assert (found["votes_anger"], found["votes_neutral"], found["votes_other"]) == (1.0, 1.0, 0.0)
    assert found["arousal_spread"] == pytest.approx(math.sqrt(2))
    assert any(f"1 line of {name} that should begin an utterance" in note for note in corpus.notes)
    assert any("1 label without audio" in note for note in corpus.notes)
    assert any("1 audio file without a label" in note for note in corpus.notes)


def test_msp_improv_without_its_audio(tmp_path: Path) -> None:
    (tmp_path / "Evalution.txt").write_text(EVALUATION)
    (tmp_path / "Audio").mkdir()
    with pytest.raises(CorpusError, match="has 3 labels and 0 audio files, but no labelled file"):
        open_corpus(tmp_path)
