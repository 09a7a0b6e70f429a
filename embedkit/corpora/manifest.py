"""Any corpus, by a CSV manifest: columns `path,label`, optionally `id,speaker,session,split,start,end`, and more.

Comma, semicolon and tab are told apart by the header. Paths are relative to the manifest's folder. Rows are counted
as spreadsheets do: the header is row 1. A row that cannot be read ends the reading; whether a segment lies in its file
is seen when the audio is.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from embedkit.corpora.base import STANDARD_COLUMNS, Corpus, Utterance, Value
from embedkit.corpora.manifest_ids import Clip, name_clips
from embedkit.corpora.reader import Reader, list_names, sort_utterances
from embedkit.errors import CorpusError
from embedkit.received import open_text

SUFFIXES = (".csv", ".tsv")
SPLITS = {
    "": "",
    "train": "train",
    "training": "train",
    "dev": "dev",
    "devel": "dev",
    "development": "dev",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "test": "test",
    "testing": "test",
}
REQUIRED = ("path", "label")

GENERIC = ("annotations", "data", "dataset", "filelist", "index", "labels", "manifest", "meta", "metadata")
"""Names of files that say nothing about the corpus."""

_DELIMITERS = (",", ";", "\t")
_LONGEST_FIELD = 1 << 24


@dataclass(frozen=True)
class _Table:
    """A manifest's header and its rows, each with its number."""

    file: Path
    header: tuple[str, ...]
    rows: list[tuple[int, list[str]]]

    def column(self, name: str) -> list[str]:
        """Return a column's text, stripped; empty text where there is no such column."""
        if name not in self.header:
            return [""] * len(self.rows)
        index = self.header.index(name)
        return [fields[index].strip() for _, fields in self.rows]

    def error(self, row: int, problem: str) -> CorpusError:
        return _row_error(self.file, row, problem)


def _row_error(file: Path, row: int, problem: str) -> CorpusError:
    return CorpusError(f"Row {row} of the manifest {str(file)!r} {problem} (the header is row 1).")


def name_file(file: Path) -> str:
    """Return a corpus's name: its file's, or its folder's where the file has a generic name."""
    folder = Path(os.path.abspath(file)).parent.name
    return folder if folder and file.stem.lower() in GENERIC else file.stem


def is_manifest(file: Path) -> bool:
    """Tell from its header whether a file is a manifest; False where it cannot be read."""
    if file.suffix.lower() not in SUFFIXES or file.name.startswith("._") or not file.is_file():
        return False
    try:
        with open_text(file, encoding="utf-8-sig", newline="") as stream:
            return set(REQUIRED) <= set(_read_header(stream.readline())[1])
    except (OSError, UnicodeError, csv.Error):
        return False


def find_manifests(folder: Path) -> list[Path]:
    """Return the manifests directly in a folder."""
    return [folder / name for name in list_names(folder) if is_manifest(folder / name)]


def recognise(folder: Path) -> bool:
    """Tell whether a folder holds exactly one manifest."""
    return len(find_manifests(folder)) == 1


def read_manifest(source: Path) -> Corpus:
    """Read a manifest, given itself or as the only one of a folder.

    The corpus is called like the file, or like its folder where the file has a generic name such as metadata.csv.

    Further columns become floats where every row holds a number or nothing (NaN) and some row a number, else text.
    An id that is not given is the file's stem, where several share it with the segment or the path added.

    Raises:
        CorpusError: the file cannot be read as a table, lacks a column, or a row holds what it may not.
    """
    file = _only_manifest(source) if source.is_dir() else source
    table = _read_table(file)
    root = Path(os.path.abspath(file.parent))
    labels = table.column("label")
    paths = _paths(table, root)
    segments = list(zip(_seconds(table, "start"), _seconds(table, "end"), strict=True))
    for (row, _), label in zip(table.rows, labels, strict=True):
        if not label:
            raise table.error(row, "has no label; give one or leave the row out")
    ids = _ids(table, paths, segments)
    columns = _further_columns(table)
    utterances = (
        Utterance(
            id=id_, path=path, label=label, speaker=speaker, session=session, split=split, start=start, end=end,
            columns=dict(zip(columns, values, strict=True)),
        )
        for id_, path, label, speaker, session, split, (start, end), values in zip(
            ids, paths, labels, table.column("speaker"), table.column("session"), _splits(table), segments,
            zip(*columns.values(), strict=True) if columns else [()] * len(labels), strict=True,
        )
    )  # fmt: skip
    return Corpus(name=name_file(file), kind="manifest", root=root, utterances=sort_utterances(utterances))


def _only_manifest(folder: Path) -> Path:
    found = find_manifests(folder)
    if len(found) != 1:
        names = ", ".join(repr(file.name) for file in found[:5])
        raise CorpusError(
            f"The folder {str(folder)!r} holds {len(found)} CSV manifests with columns path and label"
            f"{f' ({names})' if names else ''}, expected one; give the file."
        )
    return found[0]


def _read_header(line: str) -> tuple[str, list[str]]:
    """Return the delimiter that gives the required columns, else the most columns, and the columns' names."""
    headers = {}
    for delimiter in _DELIMITERS:
        names = [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]
        headers[delimiter] = [name.lower() if name.lower() in STANDARD_COLUMNS else name for name in names]
    return max(headers.items(), key=lambda item: (set(REQUIRED) <= set(item[1]), len(item[1])))


def _read_table(file: Path) -> _Table:
    name = str(file)
    try:
        with open_text(file, encoding="utf-8-sig", newline="") as stream:
            delimiter, header = _read_header(stream.readline())
            _check_header(file, header)
            rows = list(_read_rows(file, csv.reader(stream, delimiter=delimiter, strict=True), len(header)))
    except OSError as error:
        raise CorpusError(f"Cannot read the manifest {name!r} ({error.strerror}).") from error
    except UnicodeError as error:
        raise CorpusError(f"The manifest {name!r} is not UTF-8 text; save it as CSV in UTF-8.") from error
    if not rows:
        raise CorpusError(f"The manifest {name!r} has no rows below its header; add one per utterance.")
    return _Table(file, tuple(header), rows)


def _check_header(file: Path, header: Sequence[str]) -> None:
    missing = [f"`{name}`" for name in REQUIRED if name not in header]
    if missing:
        found = ", ".join(repr(name) for name in header) or "none"
        raise CorpusError(
            f"The manifest {str(file)!r} has no column {' and no '.join(missing)}; columns found: {found}; "
            "add it, or rename one of them."
        )
    for index, name in enumerate(header):
        if not name:
            raise CorpusError(f"Column {index + 1} of the manifest {str(file)!r} has no name; name it or remove it.")
        if name in header[:index]:
            raise CorpusError(f"The manifest {str(file)!r} has two columns {name!r}; rename or remove one.")


def _read_rows(file: Path, lines: Iterator[list[str]], width: int) -> Iterator[tuple[int, list[str]]]:
    row = 1
    limit = csv.field_size_limit(_LONGEST_FIELD)
    try:
        for row, fields in enumerate(lines, start=2):
            if not any(field.strip() for field in fields):
                continue
            if len(fields) == width:
                yield row, fields
            else:
                problem = f"has {len(fields)} fields, but the header has {width}; quote fields that hold the delimiter"
                raise _row_error(file, row, problem)
    except csv.Error as error:
        raise _row_error(file, row + 1, f"cannot be read as CSV ({error})") from error
    finally:
        csv.field_size_limit(limit)


def _paths(table: _Table, root: Path) -> list[str]:
    resolved: dict[str, str] = {}
    paths = []
    for (row, _), path in zip(table.rows, table.column("path"), strict=True):
        if not path:
            raise table.error(row, "has no path; give the audio file's")
        if "\0" in path:
            raise table.error(row, "has a path with a NUL character; correct it")
        folder, name = os.path.split(path)
        if folder not in resolved:
            resolved[folder] = _resolve(folder, root)
        paths.append(os.path.join(resolved[folder], name).replace(os.sep, "/"))
    return paths


def _resolve(folder: str, root: Path) -> str:
    """Write a folder relative to the root where it lies below it, else absolute; links count where `..` follows."""
    joined = os.path.join(root, folder)
    if os.pardir in Path(folder).parts:
        joined = os.path.realpath(joined)
    normal = os.path.normpath(joined)
    if normal == str(root):
        return ""
    prefix = os.path.join(root, "")
    return normal[len(prefix) :] if normal.startswith(prefix) else normal


def _seconds(table: _Table, column: str) -> list[float | None]:
    values: list[float | None] = []
    for (row, _), text in zip(table.rows, table.column(column), strict=True):
        number = _number(text) if text else 0.0
        if number is None or not math.isfinite(number):
            raise table.error(row, f"has {text!r} as {column}, expected seconds such as 1.25, or nothing")
        values.append(number if text else None)
    return values


def _splits(table: _Table) -> list[str]:
    splits = []
    for (row, _), text in zip(table.rows, table.column("split"), strict=True):
        if text.lower() not in SPLITS:
            raise table.error(row, f"has the split {text!r}, expected train, dev or test, or nothing")
        splits.append(SPLITS[text.lower()])
    return splits


def _ids(table: _Table, paths: list[str], segments: list[tuple[float | None, float | None]]) -> list[str]:
    given = table.column("id")
    rows: dict[str, int] = {}
    for (row, _), id_ in zip(table.rows, given, strict=True):
        if "\0" in id_:
            raise table.error(row, "has an id with a NUL character; remove it")
        if id_ and rows.setdefault(id_, row) != row:
            raise table.error(row, f"repeats the id {id_!r} of row {rows[id_]}; ids must be unique")
    clips = [Clip(path, *segment) for path, segment in zip(paths, segments, strict=True)]
    ids, repeated = name_clips(clips, given)
    if repeated is not None:
        first, second = (table.rows[index][0] for index in repeated)
        raise table.error(
            second, f"repeats the path and the segment of row {first}; remove it, or give both rows an id"
        )
    return ids


def _further_columns(table: _Table) -> dict[str, Sequence[Value]]:
    return {name: _typed(table.column(name)) for name in table.header if name not in STANDARD_COLUMNS}


def _typed(texts: list[str]) -> Sequence[Value]:
    numbers = []
    for text in texts:
        number = _number(text) if text else math.nan
        if number is None:
            return texts
        numbers.append(number)
    return numbers if any(texts) else texts


def _number(text: str) -> float | None:
    # float() also takes "1_000", which is a name rather than a number.
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


READER = Reader(
    layout="a CSV manifest (columns path,label)",
    recognise=recognise,
    read=read_manifest,
)
