"""EmoDB, the Berlin Database of Emotional Speech (Burkhardt et al., Interspeech 2005).

Layout: `wav/` (official) or `audio/`, or the files themselves, named like `03a01Fa.wav`: speaker 03, text a01,
emotion F, version a.

535 utterances of 10 speakers, seven classes; columns gender, text and version.
"""

from __future__ import annotations

import re
from functools import partial

from embedkit.corpora.base import Utterance
from embedkit.corpora.file_names import find_audio_folder, match_audio, named_reader

LABELS = {
    "W": "anger",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happiness",
    "T": "sadness",
    "N": "neutral",
}
MEN = frozenset({"03", "10", "11", "12", "15"})

_NAME = re.compile(r"(?P<speaker>\d\d)(?P<text>[ab]\d\d)(?P<emotion>[WLEAFTN])(?P<version>[a-z])")
_FOLDERS = ("wav", "audio")


def _utterance(path: str, match: re.Match[str]) -> Utterance:
    return Utterance(
        id=match[0],
        path=path,
        label=LABELS[match["emotion"]],
        speaker=match["speaker"],
        columns={
            "gender": "male" if match["speaker"] in MEN else "female",
            "text": match["text"],
            "version": match["version"],
        },
    )


READER = named_reader(
    partial(match_audio, inner=_FOLDERS, pattern=_NAME),
    _utterance,
    layout="EmoDB (wav/03a01Fa.wav)",
    recognise=lambda folder: find_audio_folder(folder, _FOLDERS, _NAME) is not None,
    name="emodb",
    title="EmoDB",
    published=535,
    labels=LABELS,
)
