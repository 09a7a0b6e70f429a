"""MELD, the Multimodal EmotionLines Dataset (Poria et al., ACL 2019).

Labels: `train_sent_emo.csv`, `dev_sent_emo.csv`, `test_sent_emo.csv`, here or in `train/`, `dev/`, `test/`.
Audio: `dia0_utt0.mp4` for each utterance, as published (with the extra `video`), or `dia0_utt0.wav` in the same folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from embedkit.audio_headers import find_lack
from embedkit.corpora.base import (
    Corpus,
    Reader,
    Task,
    Utterance,
    count_note,
    is_audio,
    left_out_note,
    list_names,
    sort_utterances,
)
from embedkit.corpora.tables import read_labels
from embedkit.errors import CorpusError
from embedkit.installation import install_command
from embedkit.wording import count_noun

LABELS = {
    "anger": "anger",
    "disgust": "disgust",
    "fear": "fear",
    "joy": "happiness",
    "neutral": "neutral",
    "sadness": "sadness",
    "surprise": "surprise",
}
FOLDERS = {
    "train": ("train_splits", "train/train_splits", "train"),
    "dev": ("dev_splits_complete", "dev/dev_splits_complete", "dev"),
    "test": ("output_repeated_splits_test", "test/output_repeated_splits_test", "test"),
}
"""Where the clips of each part may lie; the numbers of dialogues begin anew in each part."""

_NAME = re.compile(r"dia\d+_utt\d+\.(wav|flac|mp4)", re.IGNORECASE)
_NUMBER = re.compile(r"\d+")
_PUBLISHED = 13_708
_COLUMNS = ("Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID", "Season", "Episode")


def recognise(folder: Path) -> bool:
    """Tell whether a folder holds one of MELD's tables."""
    return any(_find_table(folder, side) is not None for side in FOLDERS)


def read_meld(folder: Path) -> Corpus:
    """Read every utterance that has audio; the split is MELD's own, and its "joy" is called happiness.

    The id is part of the split and clip ("train_dia0_utt0"); main characters are in all parts of the split. Columns:
    text, sentiment, dialogue, season and episode.

    Raises:
        CorpusError: a table cannot be read, or no utterance has audio (videos count with the extra `video`).
    """
    utterances: list[Utterance] = []
    silent: list[str] = []
    unknown: list[str] = []
    undecoded: list[str] = []
    lack = find_lack()
    for side in FOLDERS:
        clips = dict(_find_clips(folder, side))
        for row in _read_rows(folder, side):
            clip = f"dia{row['Dialogue_ID']}_utt{row['Utterance_ID']}"
            if row["Emotion"].lower() not in LABELS:
                unknown.append(f"{side}_{clip}")
            elif clip not in clips:
                silent.append(f"{side}_{clip}")
            elif is_audio(clips[clip]) or not lack:
                utterances.append(_utterance(row, side, clip, clips[clip]))
            else:
                undecoded.append(f"{side}_{clip}")
    advice = (
        f"decoding videos needs {lack}; run {install_command('video')}, or write the audio of each beside it, as in: "
        "ffmpeg -i dia0_utt0.mp4 -ac 1 -ar 16000 dia0_utt0.wav."
    )
    if not utterances and undecoded:
        raise CorpusError(f"The MELD folder {str(folder)!r} holds {len(undecoded):,} videos and no audio, and {advice}")
    if not utterances:
        raise CorpusError(
            f"The MELD folder {str(folder)!r} holds no audio of its utterances; expected train_splits/dia0_utt0.mp4 "
            "(or .wav), dev_splits_complete/ and output_repeated_splits_test/."
        )
    found = sort_utterances({utterance.id: utterance for utterance in utterances}.values())
    return Corpus(
        name="meld",
        kind="meld",
        root=folder,
        utterances=found,
        task=Task(classes=tuple(sorted(LABELS.values()))),
        notes=(
            *count_note(len(found), _PUBLISHED, "MELD"),
            *left_out_note(silent, "label{s} without audio"),
            *((f"Left out {count_noun(len(undecoded), 'label')} with a video alone: {advice}",) if undecoded else ()),
            *left_out_note(unknown, "label{s} of no known class"),
        ),
    )


def _find_table(folder: Path, side: str) -> Path | None:
    name = f"{side}_sent_emo.csv"
    return next((file for file in (folder / name, folder / side / name) if file.is_file()), None)


def _read_rows(folder: Path, side: str) -> list[dict[str, str]]:
    file = _find_table(folder, side)
    rows = [] if file is None else read_labels(file, _COLUMNS)
    for number, row in enumerate(rows, start=2):
        if not (_NUMBER.fullmatch(row["Dialogue_ID"]) and _NUMBER.fullmatch(row["Utterance_ID"])):
            raise CorpusError(f"Row {number} of the table {str(file)!r} has no number as Dialogue_ID or Utterance_ID.")
    return rows


def _find_clips(folder: Path, side: str) -> Iterator[tuple[str, str]]:
    """Yield clips and their paths relative to the corpus; audio comes last, so that it wins over video."""
    for inner in FOLDERS[side]:
        names = [name for name in list_names(folder / inner) if _NAME.fullmatch(name)]
        yield from ((Path(name).stem, f"{inner}/{name}") for name in sorted(names, key=is_audio))


def _utterance(row: dict[str, str], side: str, clip: str, path: str) -> Utterance:
    return Utterance(
        id=f"{side}_{clip}",
        path=path,
        label=LABELS[row["Emotion"].lower()],
        speaker=row["Speaker"],
        split=side,
        columns={
            "text": row["Utterance"].replace("\0", ""),
            "sentiment": row["Sentiment"].lower(),
            "dialogue": f"{side}_{row['Dialogue_ID']}",
            "season": row["Season"],
            "episode": row["Episode"],
        },
    )


READER = Reader(
    layout="MELD (train_sent_emo.csv and train_splits/dia0_utt0.wav)",
    recognise=recognise,
    read=read_meld,
)
