"""TESS, the Toronto Emotional Speech Set (Pichora-Fuller & Dupuis, University of Toronto 2010).

Layout: `OAF_angry/OAF_back_angry.wav`, or the files themselves: speaker (OAF older, YAF younger), word, emotion.
"""

from __future__ import annotations

import re
from pathlib import Path

from embedkit.corpora.base import Corpus, Utterance
from embedkit.corpora.file_names import build_corpus, holds_names_below, match_audio_below
from embedkit.corpora.reader import Reader

LABELS = {
    "angry": "anger",
    "disgust": "disgust",
    "fear": "fear",
    "happy": "happiness",
    "neutral": "neutral",
    "ps": "surprise",
    "sad": "sadness",
}

# One published file begins with OA instead of OAF.
_NAME = re.compile(
    r"(?P<speaker>OAF?|YAF)_(?P<word>[a-z]+)_(?P<emotion>angry|disgust|fear|happy|neutral|ps|sad)", re.IGNORECASE
)
_FOLDER = re.compile(r"[OY]AF_\w+", re.IGNORECASE)
_DEPTH = 2


def recognise(folder: Path) -> bool:
    """Tell whether a folder holds TESS: folders of a speaker's emotions, or the files themselves."""
    return holds_names_below(folder, _FOLDER, _NAME)


def read_tess(folder: Path) -> Corpus:
    """Read TESS: 2,800 utterances ("Say the word ...") of two women, seven classes; columns gender and text.

    Raises:
        CorpusError: no audio file is named as in TESS.
    """
    matches, notes = match_audio_below(folder, _NAME, depth=_DEPTH)
    return build_corpus(
        matches,
        _utterance,
        name="tess",
        title="TESS",
        root=folder,
        published=2_800,
        labels=LABELS,
        notes=notes,
    )


def _utterance(path: str, match: re.Match[str]) -> Utterance:
    return Utterance(
        id=match[0],
        path=path,
        label=LABELS[match["emotion"].lower()],
        speaker="YAF" if match["speaker"].upper() == "YAF" else "OAF",
        columns={"gender": "female", "text": match["word"].lower()},
    )


READER = Reader(
    layout="TESS (OAF_angry/OAF_back_angry.wav)",
    recognise=recognise,
    read=read_tess,
)
