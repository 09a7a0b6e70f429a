"""MSP-IMPROV (Busso et al., IEEE TAC 2017).

Labels: `Evalution.txt` (as it is spelt; "Evaluation.txt" in some copies), with every annotator's below each utterance:

    UTD-IMPROV-S01A-F01-P-FM01.avi; N; A:2.8; V:3.4; D:2.6 ; N:4.6;
    R01; Neutral; Neutral,Concerned; A:3.0; V:3.0; D:3.0; N:5.0;

Audio: `Audio/session1/S01A/P/MSP-IMPROV-S01A-F01-P-FM01.wav`, or without the outer folder.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from embedkit.corpora.base import (
    Corpus,
    Reader,
    Task,
    Utterance,
    count_note,
    left_out_note,
    list_names,
    sort_utterances,
)
from embedkit.corpora.file_names import match_audio_below
from embedkit.corpora.tables import number_or_nan
from embedkit.corpora.votes import count_votes, measure_spread
from embedkit.errors import CorpusError
from embedkit.received import read_text

LABELS = {"A": "anger", "H": "happiness", "N": "neutral", "S": "sadness", "O": "other", "X": "undecided"}
VOTED = {"angry": "anger", "happy": "happiness", "neutral": "neutral", "sad": "sadness", "other": "other"}
TASK = Task(classes=("anger", "happiness", "neutral", "sadness"))
ATTRIBUTES = {"A": "arousal", "V": "valence", "D": "dominance", "N": "naturalness"}

_TABLES = ("Evalution.txt", "Evaluation.txt")
_NAME = re.compile(
    r"MSP-IMPROV-(?P<key>S(?P<text>\d\d[AHNS])-[FM](?P<session>\d\d)-(?P<recording>[A-Z])-(?P<sex>[FM])[FM]\d+)"
)
_HEAD = re.compile(r"(?:UTD|MSP)-IMPROV-(?P<key>\S+?)\.(?:avi|wav)\s*;\s*(?P<code>[A-Z])\s*;(?P<rest>.*)")
_BEGINS = re.compile(r"\s*(?:UTD|MSP)-IMPROV", re.IGNORECASE)
_RATING = re.compile(r"\b([AVDN]):\s*(\d+(?:\.\d*)?|NaN)")
_SESSION = re.compile(r"session\d+", re.IGNORECASE)
_DEPTH = 5
_PUBLISHED = 8_438


@dataclass
class _Label:
    code: str
    ratings: dict[str, float]
    raters: dict[str, tuple[str, dict[str, float]]] = field(default_factory=dict)


def recognise(folder: Path) -> bool:
    """Tell whether a folder holds MSP-IMPROV's labels beside its audio."""
    names = list_names(folder)
    return any(name in names for name in _TABLES) and any(name == "Audio" or _SESSION.fullmatch(name) for name in names)


def read_msp_improv(folder: Path) -> Corpus:
    """Read every labelled utterance that has audio; the task is four classes.

    The speaker is the letter that the name's last part begins with, and the session ("M01" for
    `MSP-IMPROV-S01A-F01-P-MF01`, where M01 answers). Columns: valence, arousal, dominance and naturalness (1 to 5, NaN
    where missing), gender, text (the target sentence and its emotion), recording ("P", "R", "S", "T"), the votes of all
    annotators and the spread of their ratings.

    Raises:
        CorpusError: the labels cannot be read, or no utterance has audio.
    """
    table = next((folder / name for name in _TABLES if (folder / name).is_file()), folder / _TABLES[0])
    labels, odd = _read_labels(table)
    matches, notes = match_audio_below(folder, _NAME, depth=_DEPTH)
    utterances = sort_utterances(
        _utterance(path, match, labels[match["key"]])
        for path, match in matches
        if match["key"] in labels and labels[match["key"]].code in LABELS
    )
    if not utterances:
        raise CorpusError(
            f"The MSP-IMPROV folder {str(folder)!r} has {len(labels):,} labels and {len(matches):,} audio files, but "
            "no labelled file; expected Audio/session1/S01A/P/MSP-IMPROV-S01A-F01-P-FM01.wav and its line in "
            "Evalution.txt."
        )
    heard = {match["key"] for _, match in matches}
    notes = (
        *count_note(len(utterances), _PUBLISHED, "MSP-IMPROV"),
        *notes,
        *left_out_note(odd, f"line{{s}} of {table.name} that should begin an utterance and cannot be read"),
        *left_out_note(
            [key for key, label in labels.items() if label.code not in LABELS],
            f"utterance{{s}} with a code other than {', '.join(LABELS)}",
        ),
        *left_out_note([key for key in labels if key not in heard], "label{s} without audio"),
        *left_out_note(
            [path for path, match in matches if match["key"] not in labels], "audio file{s} without a label"
        ),
    )
    return Corpus(name="msp-improv", kind="msp-improv", root=folder, utterances=utterances, task=TASK, notes=notes)


def _read_labels(table: Path) -> tuple[dict[str, _Label], list[str]]:
    """Return the labels by utterance, and lines that begin like those of an utterance and are none."""
    try:
        text = read_text(table, errors="replace")
    except (OSError, ValueError) as error:
        raise CorpusError(f"Cannot read the labels in {str(table)!r} ({error}).") from error
    labels: dict[str, _Label] = {}
    odd: list[str] = []
    latest: _Label | None = None
    for line in text.splitlines():
        if match := _HEAD.fullmatch(line.strip()):
            latest = labels.setdefault(match["key"], _Label(match["code"], _ratings(match["rest"])))
        elif _BEGINS.match(line):
            odd.append(line.strip()[:80])
            latest = None
        elif latest is not None and line.count(";") > 1:
            # Some annotators stand twice below an utterance, with the same ratings.
            rater, word, _ = (part.strip() for part in line.split(";", 2))
            latest.raters[rater] = (VOTED.get(word.lower(), "other"), _ratings(line))
    return labels, odd


def _ratings(text: str) -> dict[str, float]:
    found = dict(_RATING.findall(text))
    return {name: number_or_nan(found.get(letter, "")) for letter, name in ATTRIBUTES.items()}


def _utterance(path: str, match: re.Match[str], label: _Label) -> Utterance:
    raters = list(label.raters.values())
    return Utterance(
        id=match[0],
        path=path,
        label=LABELS[label.code],
        speaker=match["sex"] + match["session"],
        session=match["session"],
        columns={
            **label.ratings,
            "gender": "female" if match["sex"] == "F" else "male",
            "text": match["text"],
            "recording": match["recording"],
            **count_votes(([word] for word, _ in raters), VOTED.values()),
            **measure_spread({name: [ratings[name] for _, ratings in raters] for name in ATTRIBUTES.values()}),
        },
    )


READER = Reader(
    layout="MSP-IMPROV (Evalution.txt and Audio/session1)",
    recognise=recognise,
    read=read_msp_improv,
)
