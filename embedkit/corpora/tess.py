"""TESS, the Toronto Emotional Speech Set (Pichora-Fuller & Dupuis, University of Toronto 2010).

Layout: `OAF_angry/OAF_back_angry.wav`, or the files themselves: speaker (OAF older, YAF younger), word, emotion.

2,800 utterances ("Say the word ...") of two women, seven classes; columns gender and text.
"""

from __future__ import annotations

import re
from functools import partial

from embedkit.corpora.base import Utterance
from embedkit.corpora.file_names import holds_names_below, match_audio_below, named_reader

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


def _utterance(path: str, match: re.Match[str]) -> Utterance:
    return Utterance(
        id=match[0],
        path=path,
        label=LABELS[match["emotion"].lower()],
        speaker="YAF" if match["speaker"].upper() == "YAF" else "OAF",
        columns={"gender": "female", "text": match["word"].lower()},
    )


READER = named_reader(
    partial(match_audio_below, pattern=_NAME, depth=2),
    _utterance,
    layout="TESS (OAF_angry/OAF_back_angry.wav)",
    recognise=partial(holds_names_below, inner=_FOLDER, pattern=_NAME),
    name="tess",
    title="TESS",
    published=2_800,
    labels=LABELS,
)
