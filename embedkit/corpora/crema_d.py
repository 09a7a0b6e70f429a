"""CREMA-D, the Crowd-sourced Emotional Multimodal Actors Dataset (Cao et al., IEEE TAC 2014).

Layout: `AudioWAV/`, or the files themselves, named like `1001_DFA_ANG_XX.wav`: actor, sentence, emotion, intensity.
Votes: `processedResults/tabulatedVotes.csv`, or `finishedResponses.csv` and `finishedEmoResponses.csv`, beside
`AudioWAV`; `processedResults/summaryTable.csv` says which emotion won.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from embedkit.corpora.base import Corpus, Reader, Utterance, Value, left_out_note
from embedkit.corpora.file_names import build_corpus, find_audio_folder, match_audio
from embedkit.corpora.tables import number_or_nan, read_labels
from embedkit.corpora.votes import VOTES, count_votes
from embedkit.errors import CorpusError

LABELS = {
    "ANG": "anger",
    "DIS": "disgust",
    "FEA": "fear",
    "HAP": "happiness",
    "NEU": "neutral",
    "SAD": "sadness",
}
LETTERS = {code[0]: label for code, label in LABELS.items()}
VOICE = "1"
"""What the tables call ratings of the voice alone; 2 is the face, 3 both."""
INTENSITIES = {"LO": "low", "MD": "medium", "HI": "high", "X": "unspecified", "XX": "unspecified"}

# One published file ends in a single X.
_NAME = re.compile(
    r"(?P<speaker>\d{4})_(?P<text>[A-Z]{3})_(?P<emotion>ANG|DIS|FEA|HAP|NEU|SAD)_(?P<level>LO|MD|HI|XX?)"
)
_FOLDERS = ("AudioWAV",)
_TABULATED, _FINISHED, _FIRST, _SUMMARY = (
    "processedResults/tabulatedVotes.csv",
    "finishedResponses.csv",
    "finishedEmoResponses.csv",
    "processedResults/summaryTable.csv",
)
_QUESTION = ("sessionNums", "queryType", "questNum")
_UNTIMED = (
    f"The votes in {_FINISHED} hold answers that took more than 10 s, which the published table leaves out; put "
    f"{_FIRST}, which tells their times, or {_TABULATED} beside them."
)
_SLOW = 10_000.0
"""Milliseconds to the first click, above which the published table counts no vote (`processFinishedResponses.R`)."""


def recognise(folder: Path) -> bool:
    """Tell whether a folder holds CREMA-D's audio."""
    return find_audio_folder(folder, _FOLDERS, _NAME) is not None


def read_crema_d(folder: Path) -> Corpus:
    """Read CREMA-D: 7,442 utterances of 91 speakers, six classes; columns text (the sentence's code) and intensity.

    The label is the emotion that was acted. Where the tables of votes are there, `votes_anger` and the like count those
    who only heard the voice and named it (NaN where nobody did), and `voice_vote` is the emotion that won, or several.

    Raises:
        CorpusError: no audio file is named as in CREMA-D, or votes that do not add up.
    """
    matches, notes = match_audio(folder, _FOLDERS, _NAME)
    corpus = build_corpus(
        matches,
        _utterance,
        name="crema-d",
        title="CREMA-D",
        root=folder,
        published=7_442,
        labels=LABELS,
        notes=notes,
    )
    votes, won = _read_votes(folder), _read_winners(folder)
    untimed = bool(votes) and not any((folder / name).is_file() for name in (_TABULATED, _FIRST))
    if not votes and not won:
        return corpus
    columns = {
        one.id: {
            **(votes.get(one.id) or count_votes([], LABELS.values()) if votes else {}),
            **_won(won, one.id),
        }
        for one in corpus.utterances
    }
    return replace(
        corpus,
        utterances=tuple(replace(one, columns={**one.columns, **columns[one.id]}) for one in corpus.utterances),
        notes=(
            *corpus.notes,
            *((_UNTIMED,) if untimed else ()),
            *left_out_note(
                [one.id for one in corpus.utterances if votes and one.id not in votes],
                "vote{s} on the voice",
                verb="Did not find",
            ),
        ),
    )


def _won(won: Mapping[str, str], clip: str) -> dict[str, Value]:
    return {"voice_vote": won.get(clip, "")} if won else {}


def _read_votes(folder: Path) -> dict[str, dict[str, float]]:
    """Read how many named each emotion by the voice alone, by utterance; none where there is no table."""
    if (file := folder / _TABULATED).is_file():
        # Rows are numbered 100000 times the kind of rating, and the clip.
        rows = [row for row in read_labels(file, ("", *LETTERS, "fileName", "numResponses")) if _is_voice(row[""])]
        if repeated := [name for name, count in Counter(row["fileName"] for row in rows).items() if count > 1]:
            raise CorpusError(
                f"The votes on {repeated[0]!r} by the voice alone stand twice in {str(file)!r}; take the published "
                "table."
            )
        return {row["fileName"]: _tabulated(file, row) for row in rows}
    named: dict[str, list[list[str]]] = defaultdict(list)
    if (file := folder / _FINISHED).is_file():
        slow = _read_slow(folder)
        for row in read_labels(file, ("queryType", "clipName", "respEmo", *(_QUESTION if slow else ()))):
            known = row["queryType"] == VOICE and row["respEmo"] in LETTERS
            if known and not (slow and tuple(row[name] for name in _QUESTION) in slow):
                named[row["clipName"]].append([LETTERS[row["respEmo"]]])
    return {clip: count_votes(votes, LABELS.values()) for clip, votes in named.items()}


def _read_slow(folder: Path) -> set[tuple[str, ...]]:
    """Read which questions were answered too late to count; none where no table tells."""
    if not (file := folder / _FIRST).is_file():
        return set()
    rows = read_labels(file, ("ttr", *_QUESTION))
    return {tuple(row[name] for name in _QUESTION) for row in rows if number_or_nan(row["ttr"]) > _SLOW}


def _is_voice(number: str) -> bool:
    return number.startswith(VOICE) and len(number) == 6


def _tabulated(file: Path, row: Mapping[str, str]) -> dict[str, float]:
    counts = [row[letter] for letter in LETTERS]
    if not all(text.isdecimal() for text in [*counts, row["numResponses"]]) or sum(map(int, counts)) != int(
        row["numResponses"]
    ):
        raise CorpusError(
            f"The votes on {row['fileName']!r} in {str(file)!r} do not add up: {', '.join(counts)} for "
            f"{', '.join(LETTERS)}, but {row['numResponses']} responses; take the published table."
        )
    if row["numResponses"] == "0":
        return count_votes([], LABELS.values())
    return {f"{VOTES}{label}": float(row[letter]) for letter, label in LETTERS.items()}


def _read_winners(folder: Path) -> dict[str, str]:
    if not (file := folder / _SUMMARY).is_file():
        return {}
    return {
        row["FileName"]: "+".join(
            LETTERS[letter] for letter in re.findall(r"[A-Z]", row["VoiceVote"]) if letter in LETTERS
        )
        for row in read_labels(file, ("FileName", "VoiceVote"))
    }


def _utterance(path: str, match: re.Match[str]) -> Utterance:
    return Utterance(
        id=match[0],
        path=path,
        label=LABELS[match["emotion"]],
        speaker=match["speaker"],
        columns={"text": match["text"], "intensity": INTENSITIES[match["level"]]},
    )


READER = Reader(
    layout="CREMA-D (AudioWAV/1001_DFA_ANG_XX.wav)",
    recognise=recognise,
    read=read_crema_d,
)
