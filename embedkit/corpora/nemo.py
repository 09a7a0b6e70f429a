"""nEMO, emotional speech in Polish (Christop, LREC-COLING 2024).

Layout: `samples/`, or the files themselves, named like `EB0_anger_1.wav`: speaker, emotion, sentence.
"""

from __future__ import annotations

import re
from pathlib import Path

from embedkit.corpora.base import Corpus, Utterance
from embedkit.corpora.file_names import build_corpus, find_audio_folder, match_audio
from embedkit.corpora.reader import Reader

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


def recognise(folder: Path) -> bool:
    """Tell whether a folder holds nEMO's audio."""
    return find_audio_folder(folder, _FOLDERS, _NAME) is not None


def read_nemo(folder: Path) -> Corpus:
    """Read nEMO: 4,481 utterances of nine speakers, six classes; columns gender and text (the sentence's number).

    Raises:
        CorpusError: no audio file is named as in nEMO.
    """
    matches, notes = match_audio(folder, find_audio_folder(folder, _FOLDERS, _NAME) or folder, _NAME)
    return build_corpus(
        matches,
        _utterance,
        name="nemo",
        title="nEMO",
        root=folder,
        published=4_481,
        labels=LABELS,
        notes=notes,
    )


def _utterance(path: str, match: re.Match[str]) -> Utterance:
    return Utterance(
        id=match[0],
        path=path,
        label=LABELS[match["emotion"]],
        speaker=match["speaker"],
        columns={"gender": "female" if match["speaker"] in WOMEN else "male", "text": match["text"]},
    )


READER = Reader(
    layout="nEMO (samples/EB0_anger_1.wav)",
    recognise=recognise,
    read=read_nemo,
)
