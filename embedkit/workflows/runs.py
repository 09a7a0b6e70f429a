"""Finished runs on the disk: what there is, how they differ, and what may go."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedkit.encoders.run_encoders import FOLDER
from embedkit.errors import RunError
from embedkit.reporting.metrics import METRICS, metrics_of, task_of
from embedkit.training.runs import (
    UNFINISHED,
    RunRecord,
    find_run_folders,
    find_runs,
    has_files_of_run,
    read_run,
)
from embedkit.trust import walk
from embedkit.writing import is_abandoned, is_temporary, is_worked_in


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A run on the disk.

    Attributes:
        folder: Where it lies.
        score: Its first score, with unit.
        size, encoders: Bytes of all that is in it, and of its trained encoders.
        source: What it was trained on, its store or the corpus, where all that it needs is there: it can be made again.
        damage: Why it cannot be read; empty for a whole one.
    """

    folder: Path
    score: str
    size: int
    encoders: int
    source: Path | None
    damage: str = ""


@dataclass(frozen=True)
class Removal:
    """Something that may be removed: a folder or a file, what it is, and its bytes."""

    path: Path
    what: str
    size: int


def survey_runs(folder: str | Path) -> list[Entry]:
    """List the runs below a folder, damaged ones too.

    Raises:
        RunError: there is none.
    """
    return [_enter(place) for place in find_run_folders(folder)]


def _enter(folder: Path) -> Entry:
    size, encoders = _size(folder), _size(folder / FOLDER)
    try:
        record = read_run(folder)
    except RunError as error:
        return Entry(folder=folder, score="damaged", size=size, encoders=encoders, source=None, damage=str(error))
    return Entry(folder=folder, score=record.score, size=size, encoders=encoders, source=_find_source(record))


def describe_run(folder: str | Path) -> dict[str, Any]:
    """Return a run's scores, and what its configuration holds by place (`budget.epochs`).

    Raises:
        RunError: it is no run, or damaged.
    """
    record = read_run(folder)
    source = _find_source(record)
    return {
        "folder": record.folder,
        "bytes": _size(record.folder),
        "can be made again": "no, its store or corpus is gone" if source is None else f"yes, from {source}",
        **_describe(record),
    }


def compare_settings(folders: Sequence[str | Path]) -> dict[str, list[Any]]:
    """Return what differs between runs, by place, with the value of each.

    Raises:
        RunError: fewer than two, or one that is no run.
    """
    if len(folders) < 2:
        raise RunError("Found one run to compare; give at least two.")
    found = [_describe(read_run(folder)) for folder in folders]
    names = dict.fromkeys(name for own in found for name in own)
    values = {name: [own.get(name, "-") for own in found] for name in names}
    return {name: own for name, own in values.items() if any(one != own[0] for one in own)}


def plan_removal(folders: Sequence[str | Path]) -> list[Removal]:
    """Name runs for `remove`, damaged ones too.

    Raises:
        RunError: one is no run; nothing else is ever removed.
    """
    entries = {entry.folder.resolve(): entry for entry in map(_enter, map(Path, folders))}
    for entry in entries.values():
        if entry.damage and not has_files_of_run(entry.folder):
            raise RunError(entry.damage)
    return [Removal(entry.folder, f"a run, {entry.score}", entry.size) for entry in entries.values()]


def plan_cleaning(folder: str | Path, *, encoders: bool = False) -> list[Removal]:
    """Name what stopped fits left below a folder of runs, and trained encoders of runs that can be made again.

    While a fit writes there, what is unfinished may be its own, and stays.

    Args:
        folder: The folder of runs; it may hold none.
        encoders: Whether the encoders are wanted, too.

    Raises:
        RunError: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RunError(f"The folder {str(folder)!r} is not there; name a folder of runs.")
    found = []
    if not is_worked_in(folder / UNFINISHED):
        work = (path for path in folder.glob(f"{UNFINISHED}/*") if not is_temporary(path.name))
        found = [Removal(path, "work of a fit that was stopped", _size(path)) for path in work]
    left = (path for path in folder.rglob(".*.part") if is_abandoned(path) and UNFINISHED not in path.parts)
    found += [Removal(path, "an unfinished file or run", _size(path)) for path in left]
    if encoders:
        found += [
            Removal(record.folder / FOLDER, "trained encoders; fit --save-encoder makes them again", size)
            for record in find_runs(folder)
            if _find_source(record) is not None and (size := _size(record.folder / FOLDER))
        ]
    return sorted(found, key=lambda one: one.path)


def remove(found: Sequence[Removal]) -> None:
    """Remove files and folders; of a link the link alone.

    Raises:
        RunError: one cannot be removed.
    """
    for one in found:
        try:
            if one.path.is_dir() and not one.path.is_symlink():
                shutil.rmtree(one.path)
            else:
                one.path.unlink()
            if one.path.parent.name == UNFINISHED and not any(one.path.parent.iterdir()):
                one.path.parent.rmdir()
        except OSError as error:
            raise RunError(f"{str(one.path)!r} cannot be removed ({error.strerror}); check its permissions.") from error


def _find_source(record: RunRecord) -> Path | None:
    """Return the store or the corpus that a run was trained on, where all of it is there."""
    stores = [record.config.get(name) or {} for name in ("store", "test_store")]
    parts = [Path(str(part["path"])) for store in stores for part in store.get("stores", [store]) if part.get("path")]
    # What an encoder heard while heads trained is named by its corpus, as if a store lay there.
    places = parts if record.metrics.get("mode", "cached") == "cached" else [part.parent for part in parts]
    return places[0] if places and all(place.exists() for place in places) else None


def _describe(record: RunRecord) -> dict[str, Any]:
    """Return scores, and what the configuration holds, by place; what lists hold for each fold is left out."""
    known = {name: record.metrics.get(name) for name in metrics_of(task_of(record.metrics))}
    scores = {METRICS[name].label: f"{value:.4f}" for name, value in known.items() if value is not None}
    plain = {
        place: value for place, value in walk(record.config) if "[" not in place and not isinstance(value, Mapping)
    }
    return scores | {
        place: ",".join(map(str, value)) if isinstance(value, list) else value
        for place, value in plain.items()
        if not isinstance(value, list) or not any(isinstance(one, Mapping | list) for one in value)
    }


def _size(path: Path) -> int:
    return sum(file.lstat().st_size for file in _files(path))


def _files(path: Path) -> Iterator[Path]:
    if path.is_symlink() or path.is_file():
        yield path
        return
    for above, _, names in os.walk(path):
        yield from (Path(above, name) for name in names)
