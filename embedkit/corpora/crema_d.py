"""CREMA-D, the Crowd-sourced Emotional Multimodal Actors Dataset (Cao et al., IEEE TAC 2014).

Layout: `AudioWAV/`, or the files themselves, named like `1001_DFA_ANG_XX.wav`: actor, sentence, emotion, intensity.
"""

from __future__ import annotations

import re
from pathlib import Path

from embedkit.corpora.base import Corpus, Utterance
from embedkit.corpora.file_names import build_corpus, find_audio_folder, match_audio
from embedkit.corpora.reader import Reader

LABELS = {
    "ANG": "anger",
    "DIS": "disgust",
    "FEA": "fear",
    "HAP": "happiness",
    "NEU": "neutral",
    "SAD": "sadness",
}
INTENSITIES = {"LO": "low", "MD": "medium", "HI": "high", "X": "unspecified", "XX": "unspecified"}

# One published file ends in a single X.
_NAME = re.compile(
    r"(?P<speaker>\d{4})_(?P<text>[A-Z]{3})_(?P<emotion>ANG|DIS|FEA|HAP|NEU|SAD)_(?P<level>LO|MD|HI|XX?)"
)
_FOLDERS = ("AudioWAV",)


def recognise(folder: Path) -> bool:
    """Tell whether a folder holds CREMA-D's audio."""
    return find_audio_folder(folder, _FOLDERS, _NAME) is not None


def read_crema_d(folder: Path) -> Corpus:
    """Read CREMA-D: 7,442 utterances of 91 speakers, six classes; columns text (the sentence's code) and intensity.

    Raises:
        CorpusError: no audio file is named as in CREMA-D.
    """
    matches, notes = match_audio(folder, find_audio_folder(folder, _FOLDERS, _NAME) or folder, _NAME)
    return build_corpus(
        matches,
        _utterance,
        name="crema-d",
        title="CREMA-D",
        root=folder,
        published=7_442,
        labels=LABELS,
        notes=notes,
    )


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
