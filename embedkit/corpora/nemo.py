"""nEMO, emotional speech in Polish (Christop, LREC-COLING 2024).

Layout: `samples/`, or the files themselves, named like `EB0_anger_1.wav`: speaker, emotion, sentence.

4,481 utterances of nine speakers, six classes; columns gender and text (the sentence's number).
"""

from __future__ import annotations

import re
from functools import partial

from embedkit.corpora.base import Utterance
from embedkit.corpora.file_names import find_audio_folder, match_audio, named_reader

LABELS = {
    "anger": "anger",
    "fear": "fear",
    "happiness": "happiness",
    "neutral": "neutral",
    "sadness": "sadness",
    "surprised": "surprise",
}
WOMEN = frozenset({"EB0", "IC0", "KD0", "MK0"})
"""As the corpus's data.tsv has it."""

_NAME = re.compile(rf"(?P<speaker>[A-Z]{{2}}\d)_(?P<emotion>{'|'.join(LABELS)})_(?P<text>\d+)")
_FOLDERS = ("samples",)


def _utterance(path: str, match: re.Match[str]) -> Utterance:
    return Utterance(
        id=match[0],
        path=path,
        label=LABELS[match["emotion"]],
        speaker=match["speaker"],
        columns={"gender": "female" if match["speaker"] in WOMEN else "male", "text": match["text"]},
    )


READER = named_reader(
    partial(match_audio, inner=_FOLDERS, pattern=_NAME),
    _utterance,
    layout="nEMO (samples/EB0_anger_1.wav)",
    recognise=lambda folder: find_audio_folder(folder, _FOLDERS, _NAME) is not None,
    name="nemo",
    title="nEMO",
    published=4_481,
    labels=LABELS,
)
