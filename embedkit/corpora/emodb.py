"""EmoDB, the Berlin Database of Emotional Speech (Burkhardt et al., Interspeech 2005).

Layout: `wav/` (official) or `audio/`, or the files themselves, named like `03a01Fa.wav`: speaker 03, text a01,
emotion F, version a.
"""

from __future__ import annotations

import re
from pathlib import Path

from embedkit.corpora.base import Corpus, Utterance
from embedkit.corpora.file_names import build_corpus, find_audio_folder, match_audio
from embedkit.corpora.reader import Reader

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


def recognise(folder: Path) -> bool:
    """Tell whether a folder holds EmoDB's audio."""
    return find_audio_folder(folder, _FOLDERS, _NAME) is not None


def read_emodb(folder: Path) -> Corpus:
    """Read EmoDB: 535 utterances of 10 speakers, seven classes; columns gender, text and version.

    Raises:
        CorpusError: no audio file is named as in EmoDB.
    """
    matches, notes = match_audio(folder, find_audio_folder(folder, _FOLDERS, _NAME) or folder, _NAME)
    return build_corpus(
        matches,
        _utterance,
        name="emodb",
        title="EmoDB",
        root=folder,
        published=535,
        labels=LABELS,
        notes=notes,
    )


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


READER = Reader(
    layout="EmoDB (wav/03a01Fa.wav)",
    recognise=recognise,
    read=read_emodb,
)
