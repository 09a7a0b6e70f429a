"""Hugging Face datasets saved on disk by `save_to_disk`: a folder with `dataset_dict.json`, or `state.json`.

Saved datasets hold the bytes of their audio inside Arrow files: they are written to files once, in the cache folder.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from embedkit.corpora.base import (
    STANDARD_COLUMNS,
    Corpus,
    Reader,
    Utterance,
    left_out_note,
    list_names,
    sort_utterances,
)
from embedkit.corpora.demo import OTHER_CACHE, cache_folder
from embedkit.corpora.manifest import SPEAKER, SPLITS
from embedkit.corpora.texts import as_text
from embedkit.corpora.times import TimeColumns, find_times
from embedkit.errors import CorpusError
from embedkit.received import read_object
from embedkit.registry import import_extra
from embedkit.writing import new_folder

LABEL_COLUMNS = ("emotion", "label", "emotions", "labels")
SPEAKER_COLUMNS = ("speaker", "speaker_id")
SESSION_COLUMNS = ("session", "session_id")

_DICT, _STATE, _INFO = "dataset_dict.json", "state.json", "dataset_info.json"
_PLAIN = re.compile(r"\w[\w.-]*")
_SUFFIX = re.compile(r"\.(wav|flac|mp3|ogg|opus|aiff?|au)")
_BINARY_TYPE = re.compile(r"(large_)?binary")
_ROWS = 64


def recognise(folder: Path) -> bool:
    """Tell whether a folder holds a saved dataset, or several as the splits of one."""
    return (folder / _DICT).is_file() or all((folder / name).is_file() for name in (_STATE, _INFO))


def read_dataset(folder: Path) -> Corpus:
    """Read a saved dataset: one column of audio, labels in the column "emotion" or "label", or the only class column.

    Speakers and sessions are those of the columns "speaker" (or "speaker_id") and "session"; columns of times are found
    by their names (`embedkit.corpora.times`); the split is that of the column "split", else the dataset's part
    ("train", "validation", "test"); ids are those of the column "id" where none is there twice, else the rows' numbers.
    Columns of single values come along as texts. The corpus's root is the folder in the cache to which the audio was
    written.

    Raises:
        CorpusError: datasets is not installed; the folder is damaged, has no column of audio or of labels, holds no
            bytes for some audio, or times or splits that are not clear; the cache folder cannot be written to.
    """
    library = import_extra("datasets", extra="datasets", needed_by="A saved dataset", error=CorpusError)
    parts = {side: _with_plain_names(_load(folder / side, library)) for side in _sides(folder)}
    audio = {side: _audio_column(part, folder, library) for side, part in parts.items()}
    root = _write_audio(folder, parts, audio, library)
    shared = set.intersection(*(set(_plain_columns(part, library)) for part in parts.values()))
    first = next(iter(parts.values()))
    columns = _Columns.find(first, [name for name in first.column_names if name in shared], folder, library)
    kept, unlabelled, odd = [], [], []
    for side, part in parts.items():
        files = {Path(name).stem: name for name in list_names(root / _place(side))}
        for number, row in enumerate(_rows(part, columns.names, library)):
            name = f"{_place(side)}-{number:06d}"
            split = SPLITS.get(row.get("split", "").lower())
            odd += [row["split"]] if split is None else []
            if not row[columns.label]:
                unlabelled.append(name)
                continue
            path = f"{_place(side)}/{files[f'{number:06d}']}"
            kept.append(
                (side, row.get("id", ""), columns.utterance(name, path, row, split or SPLITS.get(side.lower(), "")))
            )
    if not kept:
        raise CorpusError(f"No row of the dataset {str(folder)!r} has a value in the column {columns.label!r}.")
    _require_one_split(kept, folder)
    utterances, notes = _name_rows(kept)
    ignored = {name: "not used" for part in parts.values() for name in part.column_names if name not in columns.names}
    return Corpus(
        name=folder.name,
        kind="datasets",
        root=root,
        utterances=sort_utterances(utterances),
        notes=(
            f"The audio of {folder.name} was written once to {str(root)!r}.",
            *left_out_note(unlabelled, "row{s} without a label"),
            *left_out_note(odd, "value{s} of the column split that are none of train, dev and test"),
            *notes,
            *_note_speakers(columns),
        ),
        uses={**columns.uses, **ignored, **dict.fromkeys(audio.values(), "audio")},
    )


@dataclass(frozen=True)
class _Columns:
    """What the columns of single values are."""

    names: list[str]
    label: str
    speaker: str | None
    session: str | None
    times: TimeColumns

    @classmethod
    def find(cls, part: Any, names: list[str], folder: Path, library: Any) -> _Columns:
        times = find_times(
            names, lambda problem: CorpusError(f"The dataset {str(folder)!r} {problem}; rename_column does so.")
        )
        speaker, session = (
            next((name for name in known if name in names), None) for known in (SPEAKER_COLUMNS, SESSION_COLUMNS)
        )
        return cls(names, _label_column(part, names, folder, library), speaker, session, times)

    @cached_property
    def uses(self) -> dict[str, str]:
        """Say what each column is used as that is not kept under its name."""
        found: dict[str, str] = {name: name for name in ("id", "split") if name in self.names}
        found |= {name: "not used" for name in ("path",) if name in self.names}
        named = ((self.label, "label"), (self.speaker, "speaker"), (self.session, "session"))
        # A column "label" beside "emotion" has no place: what it holds is the other's.
        found |= {name: "not used" for name in ("label", "speaker", "session") if name in self.names}
        return found | {name: use for name, use in named if name} | self.times.uses()

    def utterance(self, name: str, path: str, row: Mapping[str, str], split: str) -> Utterance:
        """Make an utterance of a row."""
        start, end = self.times.segment(
            row.__getitem__, lambda problem: CorpusError(f"The row {name} of the dataset {problem}.")
        )
        uses = self.uses
        return Utterance(
            id=name,
            path=path,
            label=row[self.label],
            speaker=row[self.speaker] if self.speaker else "",
            session=row[self.session] if self.session else "",
            split=split,
            start=start,
            end=end,
            columns={key: value for key, value in row.items() if key not in uses and key not in STANDARD_COLUMNS},
        )


def _require_one_split(kept: Sequence[tuple[str, str, Utterance]], folder: Path) -> None:
    """Refuse a column "split" that contradicts the parts of a dataset that has several."""
    known = {side: SPLITS[side.lower()] for side, _, _ in kept if SPLITS.get(side.lower())}
    for side, _, utterance in kept if len(known) > 1 else ():
        if utterance.split != known.get(side, utterance.split):
            raise CorpusError(
                f"The row {utterance.id} of the dataset {str(folder)!r} lies in {side!r}, but its column split says "
                f"{utterance.split!r}; remove the column or save the parts anew."
            )


def _name_rows(kept: Sequence[tuple[str, str, Utterance]]) -> tuple[list[Utterance], tuple[str, ...]]:
    """Give rows the ids of their column "id", with their part before it where parts share some; say where it cannot."""
    given = [(side, id_) for side, id_, _ in kept]
    utterances = [utterance for _, _, utterance in kept]
    if not any(id_ for _, id_ in given):
        return utterances, ()
    if len(set(given)) < len(given) or not all(id_ for _, id_ in given):
        note = "The column id is empty or the same in several rows, which go by their part and number instead."
        return utterances, (note,)
    shared = len({id_ for _, id_ in given}) < len(given)
    ids = [f"{_place(side)}-{id_}" if shared else id_ for side, id_ in given]
    return [replace(utterance, id=id_) for utterance, id_ in zip(utterances, ids, strict=True)], ()


def _sides(folder: Path) -> list[str]:
    """Return the folders of the splits; "" for a dataset without."""
    if not (folder / _DICT).is_file():
        return [""]
    names = _read_json(folder / _DICT).get("splits")
    if not isinstance(names, list) or not names:
        raise CorpusError(f"The file {str(folder / _DICT)!r} names no splits; save the dataset again.")
    for name in names:
        _require_plain(name, folder / _DICT)
    return names


def _load(folder: Path, library: Any) -> Any:
    state = _read_json(folder / _STATE)
    files = state.get("_data_files")
    for file in files if isinstance(files, list) else ():
        _require_plain(file.get("filename") if isinstance(file, dict) else file, folder / _STATE)
    try:
        return library.Dataset.load_from_disk(str(folder)).with_format(None)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise CorpusError(f"The dataset {str(folder)!r} cannot be read ({reason}); save it again.") from error


def _with_plain_names(part: Any) -> Any:
    """Call columns by the names that are looked for where they differ from them in capitals alone."""
    known = {*STANDARD_COLUMNS, *LABEL_COLUMNS, *SPEAKER_COLUMNS, *SESSION_COLUMNS} - set(part.column_names)
    found = {name.lower(): name for name in reversed(part.column_names) if name.lower() in known}
    return part.rename_columns({old: new for new, old in found.items()}) if found else part


def _note_speakers(columns: _Columns) -> tuple[str, ...]:
    found = [name for name in columns.names if SPEAKER.fullmatch(name)]
    if columns.speaker or not found:
        return ()
    return (f"There is no column speaker; if {found[0]!r} says who is speaking, call it so (rename_column).",)


def _read_json(file: Path) -> Mapping[str, Any]:
    try:
        return read_object(file)
    except (OSError, ValueError) as error:
        raise CorpusError(f"Cannot read the file {str(file)!r} of a saved dataset ({error}).") from error


def _require_plain(name: object, file: Path) -> None:
    if not (isinstance(name, str) and _PLAIN.fullmatch(name)):
        raise CorpusError(f"The file {str(file)!r} names {name!r}; expected the plain name of a file beside it.")


def _audio_column(part: Any, folder: Path, library: Any) -> str:
    found = [name for name, feature in part.features.items() if isinstance(feature, library.Audio)]
    if len(found) != 1:
        known = ", ".join(part.column_names) or "none"
        raise CorpusError(
            f"The dataset {str(folder)!r} has {len(found)} columns of type Audio, expected one; columns found: {known}."
        )
    return str(found[0])


def _plain_columns(part: Any, library: Any) -> list[str]:
    return [
        name
        for name, feature in part.features.items()
        if isinstance(feature, library.ClassLabel)
        or (isinstance(feature, library.Value) and not _BINARY_TYPE.match(feature.dtype))
    ]


def _label_column(part: Any, names: Sequence[str], folder: Path, library: Any) -> str:
    classes = [name for name in names if isinstance(part.features[name], library.ClassLabel)]
    named = [name for name in LABEL_COLUMNS if name in names]
    if named or len(classes) == 1:
        return (named or classes)[0]
    raise CorpusError(
        f"The dataset {str(folder)!r} has no column 'emotion' or 'label', nor a single one of type ClassLabel; columns "
        f"found: {', '.join(sorted(part.features))}."
    )


def _rows(part: Any, names: Sequence[str], library: Any) -> list[dict[str, str]]:
    """Return every row as texts; classes by their names, what is missing as ""."""
    columns: dict[str, list[str]] = {}
    for name in names:
        feature, values = part.features[name], list(part[name])
        if isinstance(feature, library.ClassLabel):
            columns[name] = ["" if value is None or value < 0 else feature.int2str(value) for value in values]
        else:
            # Single precision has fewer digits than what Python makes of it.
            written = np.float32 if feature.dtype in ("float32", "float16") else lambda value: value
            columns[name] = ["" if value is None else as_text(written(value)) for value in values]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _place(side: str) -> str:
    return side or "rows"


def _write_audio(folder: Path, parts: Mapping[str, Any], audio: Mapping[str, str], library: Any) -> Path:
    """Write the audio of every row to `<cache>/datasets/<name>-<digest>/<split>/<row>`, unless it is there."""
    target = cache_folder() / "datasets" / f"{folder.name}-{_digest(folder, parts)}"
    if target.is_dir():
        return target
    with new_folder(target, error=CorpusError, otherwise=OTHER_CACHE, is_whole=Path.is_dir) as written:
        for side, part in parts.items():
            place = written / _place(side)
            place.mkdir()
            stored = part.select_columns([audio[side]]).cast_column(audio[side], library.Audio(decode=False))
            for batch in range(0, len(stored), _ROWS):
                for number, item in enumerate(stored[batch : batch + _ROWS][audio[side]], start=batch):
                    (place / f"{number:06d}{_suffix(item)}").write_bytes(_bytes(item, folder, number))
    return target


def _digest(folder: Path, parts: Mapping[str, Any]) -> str:
    """Return a short digest of where the dataset lies and of its files' names, sizes and times."""
    files = [file for side in parts for file in sorted((folder / side).iterdir()) if file.is_file()]
    stamps = [f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]
    text = "\n".join([os.path.abspath(folder), *parts, *stamps])
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).hexdigest()


def _bytes(item: Mapping[str, Any] | None, folder: Path, number: int) -> bytes:
    data = item.get("bytes") if item else None
    if not isinstance(data, bytes):
        raise CorpusError(
            f"Row {number} of the dataset {str(folder)!r} holds no audio; save it again by save_to_disk where its "
            "audio files are at hand, or leave out rows without."
        )
    return data


def _suffix(item: Mapping[str, Any] | None) -> str:
    suffix = Path(str((item or {}).get("path") or "")).suffix.lower()
    return suffix if _SUFFIX.fullmatch(suffix) else ".wav"


READER = Reader(
    layout="a Hugging Face dataset on disk (state.json or dataset_dict.json)",
    recognise=recognise,
    read=read_dataset,
)
