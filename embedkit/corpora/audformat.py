"""Databases in audformat (https://audeering.github.io/audformat): `db.yaml` and a table in each `db.<table>.parquet`.

The library itself would build any Python object that a header names, and unpickle tables: here the header is read as
plain YAML, and tables as CSV or Parquet alone.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from embedkit.corpora.base import STANDARD_COLUMNS, Corpus, Utterance, Value
from embedkit.corpora.manifest import SPLITS
from embedkit.corpora.manifest_ids import Clip, name_clips
from embedkit.corpora.reader import Reader, left_out_note, sort_utterances
from embedkit.corpora.texts import as_text
from embedkit.errors import CorpusError
from embedkit.received import read_text
from embedkit.registry import import_extra

HEADER = "db.yaml"
LABEL_COLUMNS = ("emotion", "label")

_TABLE_ID = re.compile(r"\w[\w.-]*")
_SUFFIXES = (".parquet", ".csv")
_TIMES = ("time", "date")


class _Column(NamedTuple):
    """A column's values: by clip, and by file where its table holds whole files, or says who speaks in them.

    Attributes:
        files: Values that all segments of a file share; empty for columns that may differ from segment to segment.
    """

    table: str
    name: str
    values: Mapping[Clip, Any]
    files: Mapping[str, Any] = {}

    def of(self, clip: Clip) -> Any:
        """Return the value of a clip, else that of its file; None where there is none."""
        whole = Clip(clip.path, None, None)
        if clip in self.values:
            return self.values[clip]
        return self.values[whole] if whole in self.values else self.files.get(clip.path)

    @classmethod
    def by_file(cls, table: str, name: str, values: Mapping[Clip, Any]) -> _Column:
        """Make a column of what a file has once, though its table may hold segments: speakers, sessions."""
        told: dict[str, set[Any]] = {}
        for clip, value in values.items():
            if value is not None:
                told.setdefault(clip.path, set()).add(value)
        return cls(table, name, values, {path: found.pop() for path, found in told.items() if len(found) == 1})


def recognise(folder: Path) -> bool:
    """Tell whether a folder holds a database's header."""
    return (folder / HEADER).is_file()


def read_audformat(folder: Path) -> Corpus:
    """Read a database: every file or segment that has a value in the column "emotion" (or "label").

    The column is taken from the table of the same name, else from all tables that have it. Columns of other tables come
    along by file or segment, "speaker" and "session" as such, with what the scheme says of each speaker; the split is
    that of the tables.

    Raises:
        CorpusError: audformat is not installed, the header or a table cannot be read, no table has labels, tables
            contradict each other, or a file lies outside the database.
    """
    audformat = import_extra("audformat", extra="audformat", needed_by="An audformat database", error=CorpusError)
    database = _load(folder, audformat)
    columns = list(_columns(database, audformat))
    labels, name = _labels(columns, folder)
    splits = _splits(database, audformat, folder)
    found = {clip: label for clip, label in labels.items() if label is not None}
    if not found:
        raise CorpusError(f"No file of the database {str(folder)!r} has a value in the column {name!r}.")
    for clip in found:
        _require_inside(clip.path, folder)
    clips = list(found)
    ids, repeated = name_clips(clips, [""] * len(clips))
    if repeated is not None:
        raise CorpusError(
            f"The database {str(folder)!r} names {clips[repeated[0]].path!r} in ways that cannot be told apart."
        )
    own = {column.name: column for column in reversed(columns) if column.name not in (name, *STANDARD_COLUMNS)}
    further = {key: _typed([column.of(clip) for clip in clips]) for key, column in own.items()}
    standard = {key: [_first(columns, key, clip) for clip in clips] for key in ("speaker", "session")}
    utterances = (
        Utterance(
            id=ids[index],
            path=clip.path,
            label=str(found[clip]),
            speaker=standard["speaker"][index],
            session=standard["session"][index],
            split=splits.get(clip, splits.get(Clip(clip.path, None, None), "")),
            start=clip.start,
            end=clip.end,
            columns={key: values[index] for key, values in further.items()},
        )
        for index, clip in enumerate(clips)
    )
    return Corpus(
        name=re.sub(r"[^\w.+-]+", "-", str(database.name)).strip(".-") or "audformat",
        kind="audformat",
        root=folder,
        utterances=sort_utterances(utterances),
        notes=left_out_note([clip.path for clip, label in labels.items() if label is None], "file{s} without a label"),
    )


def _load(folder: Path, audformat: Any) -> Any:
    """Read the header and all tables."""
    import yaml

    try:
        header = yaml.safe_load(read_text(folder / HEADER))
        database = audformat.Database.load_header_from_yaml(header)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise CorpusError(f"The header {str(folder / HEADER)!r} is not audformat's ({reason}).") from error
    with tempfile.TemporaryDirectory() as apart:
        for table_id in [*database.misc_tables, *database.tables]:
            source = _find_table(folder, str(table_id))
            # Beside its pickled copy, the library would take that.
            shutil.copyfile(source, Path(apart) / source.name)
            try:
                database[table_id].load(str(Path(apart) / source.name.removesuffix(source.suffix)))
            except Exception as error:
                reason = " ".join(str(error).split())
                raise CorpusError(f"The table {str(source)!r} cannot be read ({reason}).") from error
    return database


def _find_table(folder: Path, table_id: str) -> Path:
    if not _TABLE_ID.fullmatch(table_id):
        raise CorpusError(f"The header {str(folder / HEADER)!r} names a table {table_id!r}; expected a plain name.")
    stem = folder / f"db.{table_id}"
    for suffix in _SUFFIXES:
        if (file := Path(f"{stem}{suffix}")).is_file():
            return file
    raise CorpusError(
        f"The database {str(folder)!r} has no {stem.name}.parquet or .csv (pickled tables are not read); write it by "
        "audformat.Database.save(..., storage_format='parquet')."
    )


def _columns(database: Any, audformat: Any) -> Iterator[_Column]:
    """Yield every column of the tables, then what the schemes say of each speaker."""
    speakers: list[_Column] = []
    for table_id, table in database.tables.items():
        clips = _clips(table, audformat)
        for name, column in table.columns.items():
            scheme = database.schemes.get(column.scheme_id)
            if scheme is not None and scheme.dtype in _TIMES:
                continue
            make = _Column.by_file if name in ("speaker", "session") else _Column
            yield make(table_id, name, dict(zip(clips, _values(column.get()), strict=True)))
            if name == "speaker" and scheme is not None and isinstance(scheme.labels, dict):
                keys = {key for entry in scheme.labels.values() if isinstance(entry, dict) for key in entry}
                speakers += [
                    _Column.by_file(table_id, key, dict(zip(clips, _values(column.get(map=key)), strict=True)))
                    for key in sorted(keys)
                ]
    yield from speakers


def _clips(table: Any, audformat: Any) -> list[Clip]:
    if audformat.is_filewise_index(table.index):
        return [Clip(file, None, None) for file in table.index]
    return [
        # A segment from 0 to NaT is the whole file.
        Clip(file, start.total_seconds() or None, None if end != end else end.total_seconds())
        for file, start, end in table.index
    ]


def _values(series: Any) -> list[Any]:
    return [None if missing else value for value, missing in zip(series.tolist(), series.isna(), strict=True)]


def _labels(columns: list[_Column], folder: Path) -> tuple[dict[Clip, Any], str]:
    """Return label (None where it is missing) by clip, and the column's name."""
    for name in LABEL_COLUMNS:
        found = [column for column in columns if column.name == name]
        own = [column for column in found if column.table == name]
        labels: dict[Clip, Any] = {}
        for column in own or found:
            for clip, label in column.values.items():
                if labels.get(clip) is None:
                    labels[clip] = label
                elif label not in (None, labels[clip]):
                    raise CorpusError(
                        f"The tables of {str(folder)!r} give {clip.path!r} both {labels[clip]!r} and {label!r} as "
                        f"{name}; make a table {name!r} that holds the one to take."
                    )
        if found:
            return labels, name
    known = ", ".join(sorted({f"{column.table}.{column.name}" for column in columns})) or "none"
    raise CorpusError(f"No table of {str(folder)!r} has a column 'emotion' or 'label'; columns found: {known}.")


def _splits(database: Any, audformat: Any, folder: Path) -> dict[Clip, str]:
    splits: dict[Clip, str] = {}
    for table in database.tables.values():
        side = SPLITS.get(database.splits[table.split_id].type, "") if table.split_id in database.splits else ""
        for clip in _clips(table, audformat) if side else ():
            if splits.setdefault(clip, side) != side:
                raise CorpusError(f"The tables of {str(folder)!r} put {clip.path!r} into {splits[clip]} and {side}.")
    return splits


def _require_inside(file: str, folder: Path) -> None:
    path = PurePosixPath(file)
    if path.is_absolute() or os.path.isabs(file) or ".." in path.parts or "\0" in file:
        raise CorpusError(f"The database {str(folder)!r} names the file {file!r}, which does not lie below it.")


def _first(columns: list[_Column], name: str, clip: Clip) -> str:
    values = (column.of(clip) for column in columns if column.name == name)
    return next((as_text(value) for value in values if value is not None), "")


def _typed(values: list[Any]) -> list[Value]:
    if all(value is None or isinstance(value, float) for value in values):
        return [float("nan") if value is None else value for value in values]
    return [as_text(value) for value in values]


READER = Reader(
    layout="audformat (db.yaml)",
    recognise=recognise,
    read=read_audformat,
)
