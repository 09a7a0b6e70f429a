"""EMOVO, an Italian emotional speech database (Costantini et al., LREC 2014).

Layout: `f1/dis-f1-b1.wav`, or the files themselves: emotion, speaker, sentence.
"""

from __future__ import annotations

import re
from pathlib import Path

from embedkit.corpora.base import Corpus, Utterance
from embedkit.corpora.file_names import build_corpus, holds_names_below, match_audio_below
from embedkit.corpora.reader import Reader

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
_DEPTH = 1


def recognise(folder: Path) -> bool:
    """Tell whether a folder holds EMOVO: folders of its speakers, or the files themselves."""
    return holds_names_below(folder, _FOLDER, _NAME)


def read_emovo(folder: Path) -> Corpus:
    """Read EMOVO: 588 utterances of six speakers, seven classes; columns gender and text (the sentence's code).

    Raises:
        CorpusError: no audio file is named as in EMOVO.
    """
    matches, notes = match_audio_below(folder, _NAME, depth=_DEPTH)
    return build_corpus(
        matches,
        _utterance,
        name="emovo",
        title="EMOVO",
        root=folder,
        published=588,
        labels=LABELS,
        notes=notes,
    )


def _utterance(path: str, match: re.Match[str]) -> Utterance:
    return Utterance(
        id=match[0],
        path=path,
        label=LABELS[match["emotion"]],
        speaker=match["speaker"],
        columns={"gender": "female" if match["speaker"][0] == "f" else "male", "text": match["text"]},
    )


READER = Reader(
    layout="EMOVO (f1/dis-f1-b1.wav)",
    recognise=recognise,
    read=read_emovo,
)
