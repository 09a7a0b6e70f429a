"""Hugging Face datasets saved on disk by `save_to_disk`: a folder with `dataset_dict.json`, or `state.json`.

Saved datasets hold the bytes of their audio inside Arrow files: they are written to files once, in the cache folder.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from embedkit.corpora.base import STANDARD_COLUMNS, Corpus, Utterance, Value
from embedkit.corpora.demo import OTHER_CACHE, cache_folder
from embedkit.corpora.manifest import SPLITS
from embedkit.corpora.reader import Reader, left_out_note, list_names, sort_utterances
from embedkit.corpora.texts import as_text
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
_NUMBER_TYPE = re.compile(r"u?int|float")
_PLAIN_TYPE = re.compile(r"u?int|float|bool|string|large_string")
_ROWS = 64


def recognise(folder: Path) -> bool:
    """Tell whether a folder holds a saved dataset, or several as the splits of one."""
    return (folder / _DICT).is_file() or all((folder / name).is_file() for name in (_STATE, _INFO))


def read_dataset(folder: Path) -> Corpus:
    """Read a saved dataset: one column of audio, labels in the column "emotion" or "label", or the only class column.

    Speakers and sessions are those of the columns "speaker" (or "speaker_id") and "session"; the splits "train",
    "validation" and "test" are the corpus's; columns of texts and numbers come along. The corpus's root is the folder
    in the cache to which the audio was written.

    Raises:
        CorpusError: datasets is not installed; the folder is damaged, has no column of audio or of labels, or holds
            no bytes for some audio; the cache folder cannot be written to.
    """
    library = import_extra("datasets", extra="datasets", needed_by="A saved dataset", error=CorpusError)
    parts = {side: _load(folder / side, library) for side in _sides(folder)}
    audio = {side: _audio_column(part, folder, library) for side, part in parts.items()}
    root = _write_audio(folder, parts, audio, library)
    shared = set.intersection(*(set(_plain_columns(part, library)) for part in parts.values()))
    label = _label_column(parts, shared, folder, library)
    utterances: list[Utterance] = []
    unlabelled: list[str] = []
    for side, part in parts.items():
        rows = _rows(part, [name for name in part.column_names if name in shared], library)
        files = {Path(name).stem: name for name in list_names(root / _place(side))}
        for number, row in enumerate(rows):
            name = f"{_place(side)}-{number:06d}"
            if not as_text(row[label]):
                unlabelled.append(name)
                continue
            utterances.append(_utterance(name, f"{_place(side)}/{files[f'{number:06d}']}", row, label, side))
    if not utterances:
        raise CorpusError(f"No row of the dataset {str(folder)!r} has a value in the column {label!r}.")
    return Corpus(
        name=folder.name,
        kind="datasets",
        root=root,
        utterances=sort_utterances(utterances),
        notes=(
            f"The audio of {folder.name} was written once to {str(root)!r}.",
            *left_out_note(unlabelled, "row{s} without a label"),
        ),
    )


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
        or (isinstance(feature, library.Value) and _PLAIN_TYPE.match(feature.dtype))
    ]


def _label_column(parts: Mapping[str, Any], shared: set[str], folder: Path, library: Any) -> str:
    features = next(iter(parts.values())).features
    classes = [name for name in shared if isinstance(features[name], library.ClassLabel)]
    named = [name for name in LABEL_COLUMNS if name in shared]
    if named or len(classes) == 1:
        return (named or classes)[0]
    raise CorpusError(
        f"The dataset {str(folder)!r} has no column 'emotion' or 'label', nor a single one of type ClassLabel; columns "
        f"found: {', '.join(sorted(features))}."
    )


def _rows(part: Any, names: Sequence[str], library: Any) -> list[dict[str, Value]]:
    """Return every row: floats of ratings as numbers, all else as texts; classes by their names, missing ones as ""."""
    columns: dict[str, list[Value]] = {}
    for name in names:
        feature, values = part.features[name], list(part[name])
        if isinstance(feature, library.ClassLabel):
            columns[name] = ["" if value is None or value < 0 else feature.int2str(value) for value in values]
        elif feature.dtype.startswith("float") and name not in (*LABEL_COLUMNS, *SPEAKER_COLUMNS, *SESSION_COLUMNS):
            columns[name] = [float("nan") if value is None else float(value) for value in values]
        else:
            columns[name] = [as_text(value) for value in values]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _utterance(name: str, path: str, row: Mapping[str, Value], label: str, side: str) -> Utterance:
    speaker = next((column for column in SPEAKER_COLUMNS if column in row), None)
    session = next((column for column in SESSION_COLUMNS if column in row), None)
    taken = {label, speaker, session, *STANDARD_COLUMNS}
    return Utterance(
        id=name,
        path=path,
        label=as_text(row[label]),
        speaker=as_text(row[speaker]) if speaker else "",
        session=as_text(row[session]) if session else "",
        split=SPLITS.get(side.lower(), ""),
        columns={key: value for key, value in row.items() if key not in taken},
    )


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
