"""EMOVO, an Italian emotional speech database (Costantini et al., LREC 2014).

Layout: `f1/dis-f1-b1.wav`, or the files themselves: emotion, speaker, sentence.

588 utterances of six speakers, seven classes; columns gender and text (the sentence's code).
"""

from __future__ import annotations

import re
from functools import partial

from embedkit.corpora.base import Utterance
from embedkit.corpora.file_names import holds_names_below, match_audio_below, named_reader

LABELS = {
    "dis": "disgust",
    "gio": "happiness",
    "neu": "neutral",
    "pau": "fear",
    "rab": "anger",
    "sor": "surprise",
    "tri": "sadness",
}

_NAME = re.compile(r"(?P<emotion>dis|gio|neu|pau|rab|sor|tri)-(?P<speaker>[fm][123])-(?P<text>[a-z]\d)")
_FOLDER = re.compile(r"[fm][123]")


def _utterance(path: str, match: re.Match[str]) -> Utterance:
    return Utterance(
        id=match[0],
        path=path,
        label=LABELS[match["emotion"]],
        speaker=match["speaker"],
        columns={"gender": "female" if match["speaker"][0] == "f" else "male", "text": match["text"]},
    )


READER = named_reader(
    partial(match_audio_below, pattern=_NAME, depth=1),
    _utterance,
    layout="EMOVO (f1/dis-f1-b1.wav)",
    recognise=partial(holds_names_below, inner=_FOLDER, pattern=_NAME),
    name="emovo",
    title="EMOVO",
    published=588,
    labels=LABELS,
)
