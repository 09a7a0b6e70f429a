"""Databases in audformat (https://audeering.github.io/audformat): `db.yaml` and a table in each `db.<table>.parquet`.

The library itself would build any Python object that a header names, and unpickle tables: here the header is read as
plain YAML, and tables as CSV or Parquet alone.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from embedkit.corpora.base import STANDARD_COLUMNS, Corpus, Reader, Utterance, left_out_note, sort_utterances
from embedkit.corpora.manifest import SPLITS
from embedkit.corpora.manifest_ids import Clip, name_clips
from embedkit.corpora.spelled_paths import SpelledPaths
from embedkit.corpora.tables import read_labels
from embedkit.corpora.texts import as_text
from embedkit.errors import CorpusError
from embedkit.received import read_text
from embedkit.registry import import_extra

HEADER = "db.yaml"
LABEL_COLUMNS = ("emotion", "label")

_TABLE_ID = re.compile(r"\w[\w.-]*")
_SUFFIXES = (".parquet", ".csv")
_TIMES = ("time", "date")
_TEXTS = ("str", "object", "int")
_TOLERANCE = 1e-3


class _Column:
    """A column's texts by clip, "" where one is missing.

    What a table says of the whole file counts for its segments; what it says of segments counts for the clips that lie
    in them, and for the file where they all say the same.
    """

    def __init__(self, table: str, name: str, values: Mapping[Clip, str]) -> None:
        self.table, self.name, self.values = table, name, values
        self._segments: dict[str, list[tuple[Clip, str]]] = defaultdict(list)
        for clip, value in values.items():
            if value:
                self._segments[clip.path].append((clip, value))

    def of(self, clip: Clip) -> str:
        """Return the value of a clip, else that of its file or of what it lies in; "" where there is none."""
        known = self.values.get(clip) or self.values.get(Clip(clip.path, None, None))
        if known:
            return known
        found = self._segments.get(clip.path, [])
        is_file = clip.start is None and clip.end is None
        values = {value for segment, value in found if is_file or _lies_in(clip, segment)}
        return values.pop() if len(values) == 1 else ""


def _lies_in(clip: Clip, other: Clip) -> bool:
    ends = other.end is None or (clip.end is not None and clip.end <= other.end + _TOLERANCE)
    return ends and (clip.start or 0.0) >= (other.start or 0.0) - _TOLERANCE


def recognise(folder: Path) -> bool:
    """Tell whether a folder holds a database's header."""
    return (folder / HEADER).is_file()


def read_audformat(folder: Path) -> Corpus:
    """Read a database: every file or segment that has a value in the column "emotion" (or "label").

    The column is taken from the table of the same name, else from all tables that have it. Columns of other tables come
    along by file or segment, "speaker" and "session" as such, with what the scheme says of each speaker; the split is
    that of the tables.

    Paths are found in the characters in which they lie on disk.

    Raises:
        CorpusError: audformat is not installed, the header or a table cannot be read, no table has labels, tables
            contradict each other, or a file lies outside the database.
    """
    audformat = import_extra("audformat", extra="audformat", needed_by="An audformat database", error=CorpusError)
    database, written = _load(folder, audformat)
    columns = list(_columns(database, audformat, written))
    labels, name = _labels(columns, folder)
    splits = _splits(database, audformat, folder)
    found = {clip: label for clip, label in labels.items() if label}
    if not found:
        raise CorpusError(f"No file of the database {str(folder)!r} has a value in the column {name!r}.")
    clips = list(found)
    spelled = SpelledPaths(folder)
    paths = [spelled.find(clip.path) for clip in clips]
    for path in [*paths, *(clip.path for clip in clips)]:
        _require_inside(path, folder)
    ids, repeated = name_clips(
        [clip._replace(path=path) for clip, path in zip(clips, paths, strict=True)], [""] * len(clips)
    )
    if repeated is not None:
        raise CorpusError(
            f"The database {str(folder)!r} names {clips[repeated[0]].path!r} in ways that cannot be told apart."
        )
    own = {column.name: column for column in reversed(columns) if column.name not in (name, *STANDARD_COLUMNS)}
    standard = {key: [_first(columns, key, clip) for clip in clips] for key in ("speaker", "session")}
    utterances = (
        Utterance(
            id=ids[index],
            path=paths[index],
            label=found[clip],
            speaker=standard["speaker"][index],
            session=standard["session"][index],
            split=splits.of(clip),
            start=clip.start,
            end=clip.end,
            columns={key: column.of(clip) for key, column in own.items()},
        )
        for index, clip in enumerate(clips)
    )
    unknown = {
        key: [clip.path for clip, value in zip(clips, values, strict=True) if not value]
        for key, values in standard.items()
        if any(column.name == key for column in columns)
    }
    return Corpus(
        name=re.sub(r"[^\w.+-]+", "-", str(database.name)).strip(".-") or "audformat",
        kind="audformat",
        root=folder,
        utterances=sort_utterances(utterances),
        notes=(
            *left_out_note([clip.path for clip, label in labels.items() if not label], "file{s} without a label"),
            *(
                note
                for key, files in unknown.items()
                for note in left_out_note(files, f"{key}{{s}}: the tables give none, or several,", verb="Did not find")
            ),
            *spelled.explain(paths),
        ),
        uses=_uses(columns, database, name),
    )


def _uses(columns: Sequence[_Column], database: Any, label: str) -> dict[str, str]:
    """Say of every column by table what it is used as, unless it is kept under its name."""
    used = {f"{one.table}.{one.name}": one.name for one in columns if one.name in ("speaker", "session")}
    labels = [column for column in columns if column.name == label]
    own = [column for column in labels if column.table == label] or labels
    used |= {f"{column.table}.{column.name}": "label" for column in own}
    read = {(column.table, column.name) for column in columns}
    tables = {**database.tables, **database.misc_tables}
    every = [(table, name) for table, found in tables.items() for name in found.columns]
    unused = {f"{table}.{name}": "not used" for table, name in every if (table, name) not in read}
    return used | unused


def _load(folder: Path, audformat: Any) -> tuple[Any, dict[str, dict[str, list[str]]]]:
    """Read the header and all tables; of those in CSV also the texts as they are written, by table and column."""
    import yaml

    try:
        header = yaml.safe_load(read_text(folder / HEADER))
        database = audformat.Database.load_header_from_yaml(header)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise CorpusError(f"The header {str(folder / HEADER)!r} is not audformat's ({reason}).") from error
    written: dict[str, dict[str, list[str]]] = {}
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
            if source.suffix == ".csv":
                rows = read_labels(source, ())
                written[str(table_id)] = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
    return database, written


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


def _columns(database: Any, audformat: Any, written: Mapping[str, Mapping[str, list[str]]]) -> Iterator[_Column]:
    """Yield every column of the tables, then what the schemes say of each speaker."""
    speakers: list[_Column] = []
    for table_id, table in database.tables.items():
        clips = _clips(table, audformat)
        for name, column in table.columns.items():
            scheme = database.schemes.get(column.scheme_id)
            if scheme is not None and scheme.dtype in _TIMES:
                continue
            values = _values(column.get())
            texts = written.get(str(table_id), {}).get(name, [])
            # The library takes "NA" for missing, "007" without a scheme for a number, integers beside a gap for floats.
            if (scheme is None or scheme.dtype in _TEXTS) and len(texts) == len(values):
                values = texts
            yield _Column(table_id, name, dict(zip(clips, values, strict=True)))
            if name == "speaker" and scheme is not None:
                speakers += [
                    _Column(table_id, key, dict(zip(clips, _values(column.get(map=key)), strict=True)))
                    for key in _speaker_keys(database, scheme)
                ]
    yield from speakers


def _speaker_keys(database: Any, scheme: Any) -> list[str]:
    """Name what a scheme, or the table that it points to, says of each speaker."""
    if isinstance(scheme.labels, str):
        return sorted(map(str, database.misc_tables[scheme.labels].columns))
    entries = scheme.labels.values() if isinstance(scheme.labels, dict) else ()
    return sorted({key for entry in entries if isinstance(entry, dict) for key in entry})


def _clips(table: Any, audformat: Any) -> list[Clip]:
    if audformat.is_filewise_index(table.index):
        return [Clip(file, None, None) for file in table.index]
    return [
        # A segment from 0 to NaT is the whole file.
        Clip(file, start.total_seconds() or None, None if end != end else end.total_seconds())
        for file, start, end in table.index
    ]


def _values(series: Any) -> list[str]:
    pairs = zip(series.tolist(), series.isna(), strict=True)
    return ["" if missing else as_text(value) for value, missing in pairs]


def _labels(columns: list[_Column], folder: Path) -> tuple[dict[Clip, str], str]:
    """Return label ("" where it is missing) by clip, and the column's name."""
    for name in LABEL_COLUMNS:
        found = [column for column in columns if column.name == name]
        own = [column for column in found if column.table == name]
        labels: dict[Clip, str] = {}
        for column in own or found:
            for clip, label in column.values.items():
                if not labels.get(clip):
                    labels[clip] = label
                elif label not in ("", labels[clip]):
                    raise CorpusError(
                        f"The tables of {str(folder)!r} give {clip.path!r} both {labels[clip]!r} and {label!r} as "
                        f"{name}; make a table {name!r} that holds the one to take."
                    )
        if found:
            return labels, name
    known = ", ".join(sorted({f"{column.table}.{column.name}" for column in columns})) or "none"
    raise CorpusError(f"No table of {str(folder)!r} has a column 'emotion' or 'label'; columns found: {known}.")


def _splits(database: Any, audformat: Any, folder: Path) -> _Column:
    splits: dict[Clip, str] = {}
    for table in database.tables.values():
        side = SPLITS.get(database.splits[table.split_id].type, "") if table.split_id in database.splits else ""
        for clip in _clips(table, audformat) if side else ():
            if splits.setdefault(clip, side) != side:
                raise CorpusError(f"The tables of {str(folder)!r} put {clip.path!r} into {splits[clip]} and {side}.")
    return _Column("", "split", splits)


def _require_inside(file: str, folder: Path) -> None:
    path = PurePosixPath(file)
    if path.is_absolute() or os.path.isabs(file) or ".." in path.parts or "\0" in file:
        raise CorpusError(f"The database {str(folder)!r} names the file {file!r}, which does not lie below it.")


def _first(columns: Sequence[_Column], name: str, clip: Clip) -> str:
    return next((value for column in columns if column.name == name and (value := column.of(clip))), "")


READER = Reader(
    layout="audformat (db.yaml)",
    recognise=recognise,
    read=read_audformat,
)
