"""Any corpus, by a CSV manifest: columns `path,label`, optionally `id,speaker,session,split,start,end`, and more.

Comma, semicolon, tab and bar are told apart by the header. Paths are relative to the manifest's folder. Rows are
counted as spreadsheets do: the header is row 1. A row that cannot be read ends the reading; whether a segment lies in
its file is seen when the audio is.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from embedkit.cells import read_cell
from embedkit.corpora.base import STANDARD_COLUMNS, Corpus, Reader, Utterance, list_names, sort_utterances
from embedkit.corpora.delimited import Delimited, peek_header, read_delimited, row_error
from embedkit.corpora.manifest_ids import Clip, name_clips
from embedkit.corpora.spelled_paths import SpelledPaths
from embedkit.corpora.times import TimeColumns, find_times
from embedkit.errors import CorpusError

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

_KIND = "manifest"
SPEAKER = re.compile(r"(speaker|spk|spkr|subject|participant|actor)_?(id|name)?", re.IGNORECASE)


@dataclass(frozen=True)
class _Table:
    """A manifest, read as text."""

    text: Delimited
    header: tuple[str, ...]

    @property
    def rows(self) -> list[tuple[int, list[str]]]:
        return self.text.rows

    def column(self, name: str) -> list[str]:
        """Return a column's text, stripped, as `write_cell` was given it; empty text where there is no such column."""
        if name not in self.header:
            return [""] * len(self.rows)
        index = self.header.index(name)
        texts = [fields[index].strip() for _, fields in self.rows]
        return texts if name == "path" else list(map(read_cell, texts))

    def error(self, row: int, problem: str) -> CorpusError:
        return row_error(self.text.file, _KIND, row, problem)


def name_file(file: Path) -> str:
    """Return a corpus's name: its file's, or its folder's where the file has a generic name."""
    folder = Path(os.path.abspath(file)).parent.name
    return folder if folder and file.stem.lower() in GENERIC else file.stem


def is_manifest(file: Path) -> bool:
    """Tell from its header whether a file is a manifest; False where it cannot be read."""
    if file.suffix.lower() not in SUFFIXES or file.name.startswith("._") or not file.is_file():
        return False
    try:
        return _is_header(peek_header(file, _is_header))
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

    Further columns are texts; times are found by their names (`embedkit.corpora.times`). An id that is not given is the
    file's stem, where several share it with the segment or the path added.

    Raises:
        CorpusError: the file cannot be read as a table, lacks a column, or a row holds what it may not.
    """
    file = _only_manifest(source) if source.is_dir() else source
    table = _read_table(file)
    root = Path(os.path.abspath(file.parent))
    labels = table.column("label")
    spelled = SpelledPaths(root)
    paths = _paths(table, root, spelled)
    times = _times(table)
    segments = _segments(table, times)
    for (row, _), label in zip(table.rows, labels, strict=True):
        if not label:
            raise table.error(row, "has no label; give one or leave the row out")
    ids = _ids(table, paths, segments)
    uses = _uses(table, times)
    columns = {name: table.column(name) for name in table.header if name not in uses}
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
    return Corpus(
        name=name_file(file),
        kind="manifest",
        root=root,
        utterances=sort_utterances(utterances),
        notes=(*table.text.notes(), *_note_speakers(table), *spelled.explain(paths)),
        uses=uses,
    )


def _note_speakers(table: _Table) -> tuple[str, ...]:
    """Say which column may be meant as the speaker's."""
    found = [name for name in table.header if SPEAKER.fullmatch(name)]
    if not found or "speaker" in table.header:
        return ()
    return (f"There is no column speaker; if {found[0]!r} says who is speaking, call it so.",)


def _only_manifest(folder: Path) -> Path:
    found = find_manifests(folder)
    if len(found) != 1:
        names = ", ".join(repr(file.name) for file in found[:5])
        raise CorpusError(
            f"The folder {str(folder)!r} holds {len(found)} CSV manifests with columns path and label"
            f"{f' ({names})' if names else ''}, expected one; give the file."
        )
    return found[0]


def _names(header: Sequence[str]) -> list[str]:
    return [name.lower() if name.lower() in STANDARD_COLUMNS else name for name in header]


def _is_header(header: Sequence[str]) -> bool:
    return set(REQUIRED) <= set(_names(header))


def _read_table(file: Path) -> _Table:
    text = read_delimited(file, _KIND, _is_header, partial(_check_header, file))
    if not text.rows:
        raise CorpusError(f"The manifest {str(file)!r} has no rows below its header; add one per utterance.")
    return _Table(text, tuple(_names(text.header)))


def _check_header(file: Path, header: Sequence[str]) -> None:
    header = _names(header)
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


def _paths(table: _Table, root: Path, spelled: SpelledPaths) -> list[str]:
    resolved: dict[str, str] = {}
    paths = []
    for (row, _), path in zip(table.rows, table.column("path"), strict=True):
        if not path:
            raise table.error(row, "has no path; give the audio file's")
        if "\0" in path:
            raise table.error(row, "has a path with a NUL character; correct it")
        folder, name = os.path.split(spelled.find(path))
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


def _times(table: _Table) -> TimeColumns:
    return find_times(table.header, lambda problem: CorpusError(f"The manifest {str(table.text.file)!r} {problem}."))


def _segments(table: _Table, times: TimeColumns) -> list[tuple[float | None, float | None]]:
    columns = {name: table.column(name) for name in times.uses()}
    comma = table.text.delimiter != ","
    segments = []
    for index, (row, _) in enumerate(table.rows):
        own = {name: column[index] for name, column in columns.items()}
        segments.append(times.segment(own.__getitem__, partial(table.error, row), comma=comma))
    return segments


def _uses(table: _Table, times: TimeColumns) -> dict[str, str]:
    """Say of every column that is not kept what it is used as, in the order of the header."""
    used = {name: name for name in STANDARD_COLUMNS if name in table.header and name not in ("start", "end")}
    used |= times.uses()
    return {name: used[name] for name in table.header if name in used}


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


READER = Reader(
    layout="a CSV manifest (columns path,label)",
    recognise=recognise,
    read=read_manifest,
)
