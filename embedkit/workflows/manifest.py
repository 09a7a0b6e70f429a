"""Manifest: write the CSV of a corpus whose folders and file names say what is in it."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embedkit.arguments import checked
from embedkit.audio import find_audio
from embedkit.cells import write_cell
from embedkit.corpora.manifest import SPLITS
from embedkit.corpora.pattern import PathPattern, read_pattern
from embedkit.corpora.texts import find_doubtful
from embedkit.corpora.times import find_times
from embedkit.errors import ConfigError, CorpusError
from embedkit.progress import Tell
from embedkit.wording import count_noun, escape_controls, list_some
from embedkit.writing import write_file

_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A manifest that was written; `str()` shows what it holds and what was left.

    Attributes:
        path: The CSV file.
        columns: Its columns without `path`, in their order.
        rows: One mapping of the columns an audio file, by its path as the manifest has it.
        left: Audio files below the folder that the pattern does not match, relative to it.
        notes: What should be known before a study, one sentence each.
    """

    path: Path
    columns: tuple[str, ...]
    rows: Mapping[str, Mapping[str, str]]
    left: tuple[str, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        labels = Counter(row["label"] for row in self.rows.values())
        speakers = {label: Counter(self._of(label, "speaker")) for label in labels}
        width = max(len("label"), *map(len, map(escape_controls, labels)))
        lines = [f"{'label':<{width}}  files  speakers"]
        for label, count in sorted(labels.items()):
            lines.append(f"{escape_controls(label):<{width}}  {count:>5,}  {len(speakers[label]):>8,}")
        lines.append("")
        for name in self.columns[1:]:
            counts = Counter(row[name] for row in self.rows.values())
            shown = list_some((f"{escape_controls(value)} ({count:,})" for value, count in sorted(counts.items())), 12)
            lines.append(f"{name}: {len(counts):,} ({shown})" if len(counts) > 1 else f"{name}: {shown}")
        lines += map(escape_controls, self.notes)
        if self.left:
            shown = list_some(map(repr, self.left), _SHOWN)
            lines.append(f"Left: {count_noun(len(self.left), 'audio file')} that the pattern does not match, {shown}.")
        return "\n".join([*lines, f"{escape_controls(str(self.path))}: {count_noun(len(self.rows), 'row')}"])

    def _of(self, label: str, name: str) -> list[str]:
        return [row[name] for row in self.rows.values() if row["label"] == label and row.get(name)]


@checked("embedkit.write_manifest")
def write_manifest(
    folder: str | os.PathLike[str],
    pattern: str,
    *,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    unknown_speakers: bool = False,
    tell: Tell = lambda _: None,
) -> Manifest:
    """Write a manifest of the audio below a folder: a row for each file that a pattern matches.

    Args:
        folder: The corpus, searched to the bottom.
        pattern: The path of a file below the folder, with `{label}`, `{speaker}`, `{session}` and names of further
            columns where these stand; see `embedkit.corpora.pattern.read_pattern`.
        out: The CSV file; None for the folder's name in the current folder.
        overwrite: Whether a file that is there is replaced.
        unknown_speakers: Whether the pattern may leave out who is speaking.
        tell: Hears of files that cannot be decoded.

    Returns:
        What was written. Labels are in lower case.

    Raises:
        ConfigError: a pattern that is ambiguous, names no label or no speaker, or a file that is there.
        CorpusError: a folder without audio, or none that the pattern matches.
    """
    root = Path(os.path.abspath(Path(folder).expanduser()))
    read = read_pattern(pattern)
    _require_fields(read, unknown_speakers=unknown_speakers)
    path = Path(f"{root.name or 'corpus'}.csv" if out is None else out).expanduser()
    if path.exists() and not overwrite:
        raise ConfigError(f"{str(path)!r} is there already; name another file with --out, or give --overwrite.")
    names = [file.relative_to(root).as_posix() for file in find_audio(root, tell)]
    found = {name: fields for name in names if (fields := read.match(name)) is not None}
    if not found:
        raise CorpusError(
            f"--pattern {pattern!r} matches none of the {count_noun(len(names), 'audio file')} below {str(root)!r}, "
            f"such as {names[0]!r}; write it as such a path, with {{label}} and {{speaker}} where these stand."
        )
    standard = [name for name in ("label", "speaker", "session", "split") if name in read.fields]
    columns = (*standard, *(name for name in read.fields if name not in standard))
    rows = {
        _place(root / name, path.absolute().parent): {
            column: fields[column].lower() if column == "label" else fields[column] for column in columns
        }
        for name, fields in sorted(found.items())
    }
    _require_readable(rows)
    _write(path, columns, rows)
    doubtful = (find_doubtful(name, (row[name] for row in rows.values())) for name in standard)
    return Manifest(
        path=path,
        columns=columns,
        rows=rows,
        left=tuple(name for name in names if name not in found),
        notes=tuple(note for notes in doubtful for note in notes),
    )


def _require_fields(pattern: PathPattern, *, unknown_speakers: bool) -> None:
    if "label" not in pattern.fields:
        raise ConfigError(f"--pattern {pattern.text!r} names no label; write {{label}} where the emotion stands.")
    if "speaker" not in pattern.fields and not unknown_speakers:
        raise ConfigError(
            f"--pattern {pattern.text!r} leaves labels without speakers, which folds and intervals rest on; write "
            "{speaker} where the speaker stands, or give --unknown-speakers where nothing says who it is."
        )
    times = [
        *find_times(
            pattern.fields,
            lambda problem: ConfigError(
                f"A manifest by --pattern {pattern.text!r} {problem}, or * where it does not matter."
            ),
        ).uses()
    ]
    if times:
        raise ConfigError(
            f"--pattern {pattern.text!r} calls a part {times[0]}, which manifests read as times in seconds; write "
            "another name, such as {part}, or * where it does not matter."
        )


def _require_readable(rows: Mapping[str, Mapping[str, str]]) -> None:
    """Refuse what a manifest's reader would refuse.

    Raises:
        CorpusError: identifiers that repeat, or splits that are none.
    """
    names = Counter(row["id"] for row in rows.values() if "id" in row)
    if repeated := [name for name, count in names.items() if count > 1]:
        raise CorpusError(
            f"The pattern gives {names[repeated[0]]} files the id {repeated[0]!r}; call that part otherwise, for paths "
            "are identifiers where there is none."
        )
    odd = {row["split"] for row in rows.values() if row.get("split", "").lower() not in SPLITS}
    if odd:
        raise CorpusError(f"The pattern gives the split {min(odd)!r}, expected train, dev or test; call it otherwise.")


def _place(file: Path, folder: Path) -> str:
    """Write where a file lies, seen from the manifest's folder."""
    try:
        place = os.path.relpath(file, folder).replace(os.sep, "/")
    except ValueError:
        # Another drive of Windows.
        return file.as_posix()
    # Cells that begin like a formula would be written otherwise.
    return place if write_cell(place) == place else f"./{place}"


def _write(path: Path, columns: tuple[str, ...], rows: Mapping[str, Mapping[str, str]]) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["path", *columns])
    writer.writerows([place, *(write_cell(row[name]) for name in columns)] for place, row in rows.items())
    try:
        data = buffer.getvalue().encode()
    except UnicodeEncodeError:
        bad = next(place for place, row in rows.items() if any(0xD800 <= ord(letter) < 0xE000 for letter in place))
        raise CorpusError(f"The name {bad!r} is no text that a CSV file can hold; rename the file.") from None
    write_file(path, data, error=ConfigError, otherwise="name another file with --out")
