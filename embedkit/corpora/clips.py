"""Which clips to predict: audio files, folders of them, and CSV lists."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from embedkit.audio import find_audio
from embedkit.errors import CorpusError
from embedkit.progress import Tell
from embedkit.received import open_text

LISTS = (".csv", ".tsv")

_DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A file, or a stretch of it.

    Attributes:
        name: The path as it was given.
        path: Where the file lies.
        start, end: Seconds; None for the file's start or end.
    """

    name: str
    path: Path
    start: float | None = None
    end: float | None = None


def find_clips(inputs: Sequence[str | os.PathLike[str]], tell: Tell = lambda _: None) -> list[Clip]:
    """List the clips behind files, folders (searched to the bottom, in sorted order) and CSV lists, in order.

    A list has a column `path`, relative to the list's folder, and may have `start` and `end` in seconds; other columns
    are left alone. `tell` hears of files in folders that are not decoded.

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
    try:
        with open_text(file, encoding="utf-8-sig", newline="") as stream:
            header = stream.readline()
            delimiter = max(_DELIMITERS, key=header.count)
            names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
            if "path" not in names:
                raise CorpusError(
                    f"The list {str(file)!r} has no column `path` (found: {', '.join(filter(None, names)) or 'none'}); "
                    "name it, and optionally start and end in seconds."
                )
            rows = list(csv.DictReader(stream, names, delimiter=delimiter, restval=""))
    except OSError as error:
        raise CorpusError(f"Cannot read the list {str(file)!r} ({error.strerror}).") from error
    except (UnicodeError, csv.Error) as error:
        raise CorpusError(f"The list {str(file)!r} cannot be read ({error}); save it as CSV in UTF-8.") from error
    if not rows:
        raise CorpusError(f"The list {str(file)!r} has no rows below its header; add one for each clip.")
    for number, row in enumerate(rows, start=2):
        yield _read_row(file, number, row)


def _read_row(file: Path, number: int, row: Mapping[str, str]) -> Clip:
    name = row["path"].strip()
    if not name or "\0" in name:
        raise CorpusError(f"Row {number} of the list {str(file)!r} has no path (the header is row 1).")
    times = {}
    for column in ("start", "end"):
        text = row.get(column, "").strip()
        try:
            seconds = float(text) if text else None
        except ValueError:
            seconds = math.nan
        if seconds is not None and not math.isfinite(seconds):
            raise CorpusError(
                f"Row {number} of the list {str(file)!r} has {text!r} as {column}, expected seconds such as 1.25, or "
                "nothing (the header is row 1)."
            )
        times[column] = seconds
    return Clip(name=name, path=file.parent / name, **times)
