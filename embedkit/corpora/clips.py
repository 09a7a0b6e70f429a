"""Which clips to predict: audio files, folders of them, and CSV lists."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from embedkit.audio import find_audio
from embedkit.corpora.delimited import read_delimited, row_error
from embedkit.corpora.spelled_paths import SpelledPaths
from embedkit.corpora.times import find_times
from embedkit.errors import CorpusError
from embedkit.progress import Tell

LISTS = (".csv", ".tsv")


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A file, or a stretch of it.

    Attributes:
        name: The path as it was given.
        path: Where the file lies.
        start, end: Seconds; None for the file's start or end.
        group: Of a window, which clips share its batches, so that those come out the same after an interruption; None
            for clips that were not cut.
    """

    name: str
    path: Path
    start: float | None = None
    end: float | None = None
    group: int | None = None


def find_clips(inputs: Sequence[str | os.PathLike[str]], tell: Tell = lambda _: None) -> list[Clip]:
    """List the clips behind files, folders (searched to the bottom, in sorted order) and CSV lists, in order.

    A list has a column `path`, relative to the list's folder, and may have times as a manifest has them (`start`,
    `end`, ...); other columns are left alone.

    `tell` hears of files in folders that are not decoded.

    Raises:
        CorpusError: a folder without audio, or a list that cannot be read.
    """
    return [clip for given in inputs for clip in _expand(Path(given), tell)]


def _expand(path: Path, tell: Tell) -> Iterator[Clip]:
    if path.is_dir():
        yield from (Clip(name=str(file), path=file) for file in find_audio(path, tell))
    elif path.suffix.lower() in LISTS and path.is_file():
        yield from _read_list(path)
    else:
        yield Clip(name=str(path), path=path)


def _read_list(file: Path) -> Iterator[Clip]:
    def check(header: Sequence[str]) -> None:
        if "path" not in header:
            raise CorpusError(
                f"The list {str(file)!r} has no column `path` (found: {', '.join(filter(None, header)) or 'none'}); "
                "name it, and optionally start and end in seconds."
            )

    table = read_delimited(file, "list", lambda header: "path" in header, check)
    if not table.rows:
        raise CorpusError(f"The list {str(file)!r} has no rows below its header; add one for each clip.")
    times = find_times(table.header, lambda problem: CorpusError(f"The list {str(file)!r} {problem}."))
    spelled = SpelledPaths(file.parent)
    for number, fields in table.rows:
        row = dict(zip(table.header, (field.strip() for field in fields), strict=True))
        if not row["path"] or "\0" in row["path"]:
            raise row_error(file, "list", number, "has no path")
        start, end = times.segment(
            row.__getitem__, partial(row_error, file, "list", number), comma=table.delimiter != ","
        )
        yield Clip(name=row["path"], path=file.parent / spelled.find(row["path"]), start=start, end=end)
