"""MSP-Podcast (Lotfian & Busso, IEEE TAC 2019; Busso et al. 2025).

Labels: `Labels/labels_consensus.csv` alone; the detailed tables hold single raters' labels. Audio: `Audios/*.wav`.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from embedkit.corpora.base import Corpus, Task, Utterance
from embedkit.corpora.reader import Reader, left_out_note, list_audio, sort_utterances
from embedkit.corpora.tables import number_or_nan, read_labels
from embedkit.errors import CorpusError
from embedkit.wording import count_noun

LABELS = {
    "A": "anger",
    "C": "contempt",
    "D": "disgust",
    "F": "fear",
    "H": "happiness",
    "N": "neutral",
    "S": "sadness",
    "U": "surprise",
    "O": "other",
    "X": "undecided",
}
TASK = Task(classes=tuple(sorted(set(LABELS.values()) - {"other", "undecided"})))
SIDES = {"train": "train", "development": "dev", "validation": "dev", "test1": "test"}
"""The parts of the given split; other partitions (Test2, Test3) are tests of their own."""

_TABLES = tuple(Path("Labels") / name for name in ("labels_consensus.csv", "labels_concensus.csv"))
"""As releases spell it; those before 1.11 the second way."""
_FOLDERS = ("Audios", "Audio")
_COLUMNS = ("FileName", "EmoClass", "EmoAct", "EmoVal", "EmoDom", "SpkrID", "Gender", "Split_Set")


def recognise(folder: Path) -> bool:
    """Tell whether a folder holds the table of consensus labels."""
    return any((folder / table).is_file() for table in _TABLES)


def read_msp_podcast(folder: Path) -> Corpus:
    """Read every utterance of the table that has audio; the task is eight classes.

    The split is the corpus's own: Train, Development, and Test1 as test. Columns: valence, arousal, dominance (1 to 7),
    gender, and partition ("Train", "Test2", ...). The speaker is empty where it is unknown.

    Raises:
        CorpusError: the table cannot be read, or no utterance has audio.
    """
    rows = read_labels(_table(folder), _COLUMNS)
    # Only names that are listed are used: no row can lead out of the folder.
    audio = {name: f"{inner}/{name}" for inner in reversed(_FOLDERS) for name in list_audio(folder / inner)}
    known = [row for row in rows if row["EmoClass"] in LABELS]
    utterances = sort_utterances(_utterance(row, audio[row["FileName"]]) for row in known if row["FileName"] in audio)
    if not utterances:
        raise CorpusError(
            f"The MSP-Podcast folder {str(folder)!r} has {len(known):,} labels and {len(audio):,} audio files, but no "
            "labelled file; expected Audios/MSP-PODCAST_0001_0008.wav and its row in Labels/labels_consensus.csv."
        )
    _require_unique(utterances, folder)
    notes = (
        *left_out_note([row["FileName"] for row in known if row["FileName"] not in audio], "label{s} without audio"),
        *left_out_note(
            [row["FileName"] for row in rows if row["EmoClass"] not in LABELS], "label{s} of no known class"
        ),
        *_note_apart(utterances),
    )
    return Corpus(name="msp-podcast", kind="msp-podcast", root=folder, utterances=utterances, task=TASK, notes=notes)


def _table(folder: Path) -> Path:
    return next((folder / table for table in _TABLES if (folder / table).is_file()), folder / _TABLES[0])


def _utterance(row: dict[str, str], path: str) -> Utterance:
    return Utterance(
        id=Path(path).stem,
        path=path,
        label=LABELS[row["EmoClass"]],
        speaker="" if row["SpkrID"].lower() == "unknown" else row["SpkrID"],
        split=SIDES.get(row["Split_Set"].lower(), ""),
        columns={
            "valence": number_or_nan(row["EmoVal"]),
            "arousal": number_or_nan(row["EmoAct"]),
            "dominance": number_or_nan(row["EmoDom"]),
            "gender": "" if row["Gender"].lower() == "unknown" else row["Gender"].lower(),
            "partition": row["Split_Set"],
        },
    )


def _note_apart(utterances: tuple[Utterance, ...]) -> tuple[str, ...]:
    """Say how the partitions that are no part of the split can be tested on."""
    apart = [str(utterance.columns["partition"]) for utterance in utterances if not utterance.split]
    if not apart:
        return ()
    names = sorted(set(apart))
    return (
        f"In no part of the split: {count_noun(len(apart), 'utterance')} of {' and '.join(names)}; to test on them, "
        f"extract --where partition={names[0]} to a store of its own for fit --test-on.",
    )


def _require_unique(utterances: tuple[Utterance, ...], folder: Path) -> None:
    for first, second in pairwise(utterances):
        if first.id == second.id:
            raise CorpusError(f"The table {str(_table(folder))!r} holds {first.id!r} twice; remove one row.")


READER = Reader(
    layout="MSP-Podcast (Labels/labels_consensus.csv and Audios)",
    recognise=recognise,
    read=read_msp_podcast,
)
