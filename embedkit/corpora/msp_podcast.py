"""MSP-Podcast (Lotfian & Busso, IEEE TAC 2019; Busso et al. 2025).

Labels: `Labels/labels_consensus.csv` ("concensus" in earlier releases), and those of single annotators in
`Labels/labels_detailed.csv`. Audio: `Audios/*.wav`. Where the table lacks them, speakers and partitions are in
`Speaker_ids.txt` and `Partitions.txt`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from embedkit.corpora.base import (
    Corpus,
    Reader,
    Task,
    Utterance,
    Value,
    is_audio,
    left_out_note,
    list_audio,
    sort_utterances,
)
from embedkit.corpora.manifest import SPLITS
from embedkit.corpora.msp_podcast_raters import TABLE as DETAILED
from embedkit.corpora.msp_podcast_raters import no_raters, read_raters
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
SIDES = {**SPLITS, "test1": "test"}
"""The parts of the given split; other partitions (Test2, Test3) are tests of their own."""

_TABLES = tuple(Path("Labels") / f"labels_{word}.csv" for word in ("consensus", "concensus"))
_LISTS = {"SpkrID": "Speaker_ids.txt", "Split_Set": "Partitions.txt"}
"""What stands in for a column that a table lacks, with a line for each file: `Train; MSP-PODCAST_0001_0008.wav`."""

_PAIR = re.compile(r"\s*[;,\t]\s*|\s+")
_FOLDERS = ("Audios", "Audio")
_COLUMNS = ("FileName", "EmoClass", "EmoAct", "EmoVal", "EmoDom")
_LATER = ("SpkrID", "Gender", "Split_Set")


def recognise(folder: Path) -> bool:
    """Tell whether a folder holds the table of consensus labels."""
    return _find_table(folder) is not None


def read_msp_podcast(folder: Path) -> Corpus:
    """Read every utterance of the table that has audio; the task is eight classes.

    The split is the corpus's own: Train, Development or Validation, and Test1 as test. Columns: valence, arousal,
    dominance (1 to 7), gender, partition ("Train", "Test2", ...), and those of the annotators (`read_raters`). The
    speaker is empty where it is unknown.

    Raises:
        CorpusError: the table cannot be read, or no utterance has audio.
    """
    table = _find_table(folder) or folder / _TABLES[0]
    rows, missing = _read_rows(folder, table)
    # Only names that are listed are used: no row can lead out of the folder.
    audio = {name: f"{inner}/{name}" for inner in reversed(_FOLDERS) for name in list_audio(folder / inner)}
    known = [row for row in rows if row["EmoClass"] in LABELS]
    raters = read_raters(folder)
    missed = no_raters() if raters else {}
    utterances = sort_utterances(
        _utterance(row, audio[row["FileName"]], raters.get(row["FileName"], missed))
        for row in known
        if row["FileName"] in audio
    )
    if not utterances:
        raise CorpusError(
            f"The MSP-Podcast folder {str(folder)!r} has {len(known):,} labels and {len(audio):,} audio files, but no "
            "labelled file; expected Audios/MSP-PODCAST_0001_0008.wav and its row in Labels/labels_consensus.csv."
        )
    _require_unique(utterances, table)
    notes = (
        *left_out_note([row["FileName"] for row in known if row["FileName"] not in audio], "label{s} without audio"),
        *left_out_note(
            [row["FileName"] for row in rows if row["EmoClass"] not in LABELS], "label{s} of no known class"
        ),
        *left_out_note(
            [one.id for one in utterances if raters and Path(one.path).name not in raters],
            f"utterance{{s}} in {DETAILED.name}",
            verb="Did not find",
        ),
        *_note_apart(utterances),
        *(f"{table.name} has no column {name}, and there is no {_LISTS.get(name, 'list of it')}." for name in missing),
    )
    return Corpus(name="msp-podcast", kind="msp-podcast", root=folder, utterances=utterances, task=TASK, notes=notes)


def _utterance(row: dict[str, str], path: str, raters: Mapping[str, Value]) -> Utterance:
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
            **raters,
        },
    )


def _note_apart(utterances: tuple[Utterance, ...]) -> tuple[str, ...]:
    """Say how the partitions that are no part of the split can be tested on."""
    apart = [str(utterance.columns["partition"]) for utterance in utterances if not utterance.split]
    if not apart:
        return ()
    names = sorted(set(apart) - {""})
    if not names:
        return ()
    return (
        f"In no part of the split: {count_noun(len(apart), 'utterance')} of {' and '.join(names)}; to test on them, "
        f"extract --where partition={names[0]} to a store of its own for fit --test-on, and --where "
        f"partition!={','.join(names)} to the one that is trained on.",
    )


def _find_table(folder: Path) -> Path | None:
    return next((folder / table for table in _TABLES if (folder / table).is_file()), None)


def _read_rows(folder: Path, table: Path) -> tuple[list[dict[str, str]], list[str]]:
    """Return the rows with all columns, and the columns that are nowhere."""
    rows = read_labels(table, _COLUMNS)
    lacking = [name for name in _LATER if rows and name not in rows[0]]
    lists = {name: _read_list(folder / _LISTS[name]) for name in lacking if name in _LISTS}
    for row in rows:
        row |= {name: lists.get(name, {}).get(row["FileName"], "") for name in lacking}
    return rows, [name for name in lacking if not lists.get(name)]


def _read_list(file: Path) -> dict[str, str]:
    """Read the value of each file from lines that hold both, in either order; none where there is no such list."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise CorpusError(f"Cannot read the list {str(file)!r} ({error.strerror}).") from error
    pairs = (_PAIR.split(line.strip()) for line in lines)
    ordered = (pair if is_audio(pair[0]) else pair[::-1] for pair in pairs if len(pair) == 2)
    return {name: value for name, value in ordered if is_audio(name)}


def _require_unique(utterances: tuple[Utterance, ...], table: Path) -> None:
    for first, second in pairwise(utterances):
        if first.id == second.id:
            raise CorpusError(f"The table {str(table)!r} holds {first.id!r} twice; remove one row.")


READER = Reader(
    layout="MSP-Podcast (Labels/labels_consensus.csv and Audios)",
    recognise=recognise,
    read=read_msp_podcast,
)
