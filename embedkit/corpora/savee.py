"""SAVEE, Surrey Audio-Visual Expressed Emotion (Haq & Jackson, AVSP 2009).

Layout: `AudioData/DC/a01.wav`: speaker (DC, JE, JK, KL), emotion, sentence; also flat as `DC_a01.wav`.

480 utterances of four men, seven classes; columns gender and text (the sentence's code). The id is speaker and sentence
("DC_a01"). Codes count for each emotion on its own: a01 and d01 may be one sentence.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from embedkit.corpora.base import Utterance
from embedkit.corpora.file_names import holds_names, match_audio_below, named_reader

LABELS = {
    "a": "anger",
    "d": "disgust",
    "f": "fear",
    "h": "happiness",
    "n": "neutral",
    "sa": "sadness",
    "su": "surprise",
}
SPEAKERS = ("DC", "JE", "JK", "KL")

_SENTENCE = re.compile(r"(a|d|f|h|n|sa|su)\d\d")
_NAME = re.compile(r"(?P<speaker>DC|JE|JK|KL)_(?P<text>(?P<emotion>a|d|f|h|n|sa|su)\d\d)")
_FOLDERS = ("AudioData", "ALL")


def recognise(folder: Path) -> bool:
    """Tell whether a folder holds SAVEE: folders of its speakers, or the files themselves."""
    places = (*(folder / name for name in _FOLDERS), folder)
    return any(
        holds_names(place, _NAME) or any(holds_names(place / speaker, _SENTENCE) for speaker in SPEAKERS)
        for place in places
    )


def _name(path: Path) -> str:
    return f"{path.parent.name}_{path.stem}" if path.parent.name in SPEAKERS else path.stem


def _utterance(path: str, match: re.Match[str]) -> Utterance:
    return Utterance(
        id=match[0],
        path=path,
        label=LABELS[match["emotion"]],
        speaker=match["speaker"],
        columns={"gender": "male", "text": match["text"]},
    )


READER = named_reader(
    partial(match_audio_below, pattern=_NAME, depth=2, name=_name),
    _utterance,
    layout="SAVEE (AudioData/DC/a01.wav)",
    recognise=recognise,
    name="savee",
    title="SAVEE",
    published=480,
    labels=LABELS,
)
