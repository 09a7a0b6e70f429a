"""ESD, the Emotional Speech Database (Zhou et al., Speech Communication 2022).

Layout: `0011/Angry/0011_000351.wav`, or with the given split, `0011/Angry/train/0011_000351.wav`.

35,000 utterances of ten Mandarin and ten English speakers, five classes. Columns: language ("mandarin", "english")
and text (the sentence's number, the same in all emotions). The split is that of the folders, if there is one
("evaluation" is dev).
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from embedkit.corpora.base import Utterance, list_names
from embedkit.corpora.file_names import holds_names, match_audio_below, named_reader

LABELS = {
    "Angry": "anger",
    "Happy": "happiness",
    "Neutral": "neutral",
    "Sad": "sadness",
    "Surprise": "surprise",
}
SPLITS = {"train": "train", "evaluation": "dev", "test": "test"}
SENTENCES = 350
"""Every speaker says as many sentences, the same ones in each emotion and in the same order."""

_STEM = re.compile(r"\d{4}_\d{6}")
_NAME = re.compile(rf"(?P<emotion>{'|'.join(LABELS)})/(?P<speaker>\d{{4}})_(?P<number>\d{{6}})")
_SPEAKER = re.compile(r"\d{4}")
_LAST_MANDARIN = 10


def recognise(folder: Path) -> bool:
    """Tell whether a folder holds folders of ESD's speakers."""
    for speaker in (folder / name for name in list_names(folder) if _SPEAKER.fullmatch(name)):
        for emotion in (speaker / name for name in list_names(speaker) if name in LABELS):
            if any(holds_names(place, _STEM) for place in (emotion, *(emotion / split for split in SPLITS))):
                return True
    return False


def _name(path: Path) -> str:
    """Name a file by the folder of its emotion."""
    emotion = next((name for name in path.parts[-3:-1] if name in LABELS), "")
    return f"{emotion}/{path.stem}"


def _utterance(path: str, match: re.Match[str]) -> Utterance:
    language = "mandarin" if int(match["speaker"]) <= _LAST_MANDARIN else "english"
    sentence = (int(match["number"]) - 1) % SENTENCES + 1
    return Utterance(
        id=match[0].partition("/")[2],
        path=path,
        label=LABELS[match["emotion"]],
        speaker=match["speaker"],
        split=SPLITS.get(Path(path).parent.name, ""),
        columns={"language": language, "text": f"{language}-{sentence:03d}"},
    )


READER = named_reader(
    partial(match_audio_below, pattern=_NAME, depth=3, name=_name),
    _utterance,
    layout="ESD (0011/Angry/0011_000351.wav)",
    recognise=recognise,
    name="esd",
    title="ESD",
    published=35_000,
    labels=LABELS,
)
