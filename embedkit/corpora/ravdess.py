"""RAVDESS, the Ryerson Audio-Visual Database of Emotional Speech and Song (Livingstone & Russo, PLoS ONE 2018).

Layout: `Actor_01/03-01-06-01-02-01-12.wav`, also below one further folder: modality, vocal channel, emotion,
intensity, statement, repetition, actor.

Of its audio-only speech, 1,440 utterances of 24 actors, eight classes; columns gender, text (the statement's number,
"01" or "02"), intensity ("normal", "strong") and repetition.
"""

from __future__ import annotations

import re
from pathlib import Path

from embedkit.corpora.base import Utterance, is_audio, left_out_note, list_names, relative_path, walk_files
from embedkit.corpora.file_names import NameMatch, keep_first_of_each_name, name_matches, named_reader

LABELS = {
    "01": "neutral",
    "02": "calm",
    "03": "happiness",
    "04": "sadness",
    "05": "anger",
    "06": "fear",
    "07": "disgust",
    "08": "surprise",
}

_NAME = re.compile(
    r"(?P<modality>0[123])-(?P<channel>0[12])-(?P<emotion>0[1-8])-(?P<intensity>0[12])"
    r"-(?P<statement>0[12])-(?P<repetition>0[12])-(?P<actor>\d\d)"
)
_ACTOR = re.compile(r"Actor_\d\d")
_DEPTH = 3


def recognise(folder: Path) -> bool:
    """Tell whether a folder holds RAVDESS: folders of actors here or one level down, or the files themselves."""
    for name in list_names(folder):
        if _ACTOR.fullmatch(name) or name_matches(_NAME, name):
            return True
        if "actors" in name.lower() and any(_ACTOR.fullmatch(inner) for inner in list_names(folder / name)):
            return True
    return False


def _match(folder: Path) -> tuple[list[NameMatch], tuple[str, ...]]:
    """Leave out song and video files with a note; a file that was unpacked twice counts once."""
    named = [(path, match) for path in walk_files(folder, depth=_DEPTH) if (match := name_matches(_NAME, path.name))]
    video = [path.name for path, match in named if not is_audio(path.name) or match["modality"] != "03"]
    audio = [(path, match) for path, match in named if is_audio(path.name) and match["modality"] == "03"]
    song = [path.name for path, match in audio if match["channel"] == "02"]
    speech, repeated = keep_first_of_each_name(path for path, match in audio if match["channel"] == "01")
    notes = (
        *left_out_note(song, "song file{s}"),
        *left_out_note(video, "video file{s}"),
        *left_out_note([relative_path(folder, path) for path in repeated], "repetition{s} of a file"),
    )
    matches = ((relative_path(folder, path), name_matches(_NAME, path.name)) for path in speech)
    return [(path, match) for path, match in matches if match], notes


def _utterance(path: str, match: re.Match[str]) -> Utterance:
    return Utterance(
        id=match[0],
        path=path,
        label=LABELS[match["emotion"]],
        speaker=match["actor"],
        columns={
            "gender": "male" if int(match["actor"]) % 2 else "female",
            "text": match["statement"],
            "intensity": "strong" if match["intensity"] == "02" else "normal",
            "repetition": match["repetition"],
        },
    )


READER = named_reader(
    _match,
    _utterance,
    layout="RAVDESS (Actor_01/03-01-06-01-02-01-12.wav)",
    recognise=recognise,
    name="ravdess",
    title="RAVDESS (audio-only speech)",
    published=1_440,
    labels=LABELS,
)
