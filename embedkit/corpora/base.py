"""What a corpus is, what reads one, and what readers share: finding files, notes, and the check of published counts."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from embedkit.errors import CorpusError
from embedkit.showing import draw_facts
from embedkit.wording import count_noun, list_some

Value: TypeAlias = str | float


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """One labelled stretch of speech: a whole file, or a segment of one.

    Attributes:
        id: Unique within the corpus.
        path: The audio file, relative to the corpus root where it lies below it (POSIX), else absolute.
        label: The emotion, in words ("anger"); never empty.
        speaker: Who is speaking; empty where unknown.
        session: The recording session; empty where the corpus has none.
        split: "train", "dev" or "test" where the corpus gives one, else empty.
        start, end: Segment in seconds within the file; None means the file's start or end.
        columns: Further columns (text, gender, ...); the same keys in every utterance of a corpus. Texts, whatever they
            look like: only ratings of a corpus that says so (valence, ...) are numbers.
    """

    id: str
    path: str
    label: str
    speaker: str = ""
    session: str = ""
    split: str = ""
    start: float | None = None
    end: float | None = None
    columns: Mapping[str, Value] = field(default_factory=dict)

    def value(self, column: str) -> Value | None:
        """Return a column by name, standard or further; None where there is no such column or value."""
        if column in STANDARD_COLUMNS:
            value: Value | None = getattr(self, column)
            return value
        return self.columns.get(column)


IDENTIFIERS = ("label", "speaker", "session", "split")
"""Standard columns of names, which stay texts whatever they look like, as ids and paths do."""

STANDARD_COLUMNS = ("id", "path", "label", "speaker", "session", "split", "start", "end")


@dataclass(frozen=True, kw_only=True)
class Task:
    """The standard classification task of a corpus.

    Attributes:
        classes: Labels that take part, after merging; empty means every label.
        merge: Labels that count as another ("excitement" -> "happiness").
    """

    classes: tuple[str, ...] = ()
    merge: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, repr=False)
class Corpus:
    """Utterances of one corpus, sorted by id.

    Attributes:
        name: Short name used in paths and tables ("iemocap", "emodb", the manifest's stem or folder, "demo").
        kind: The reader that made it ("iemocap", "emodb", "ravdess", "crema-d", "manifest").
        root: Folder that relative paths start from.
        utterances: All of them, also those outside the standard task.
        task: What `fit` takes as default.
        notes: What a user must be told, one sentence each (counts that differ from the published ones, ...).
        uses: What the columns of its table are used as ("emotion" -> "label"), in their order; those that are kept
            under their name are not among them.
        unread: Notes on audio files in its folders that were not read; a store does not keep them.
    """

    name: str
    kind: str
    root: Path
    utterances: tuple[Utterance, ...]
    task: Task = field(default_factory=Task)
    notes: tuple[str, ...] = ()
    uses: Mapping[str, str] = field(default_factory=dict)
    unread: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<Corpus {self.name}: {count_noun(len(self.utterances), 'utterance')}>"

    def _repr_html_(self) -> str:
        labels = Counter(one.label for one in self.utterances)
        facts = {
            "kind": self.kind,
            "root": self.root,
            "utterances": f"{len(self.utterances):,}",
            "speakers": len({one.speaker for one in self.utterances} - {""}),
            "labels": list_some((f"{label} {count:,}" for label, count in labels.most_common()), 20),
            "notes": " ".join(self.notes),
        }
        return draw_facts(f"Corpus {self.name}", facts)

    def audio_path(self, utterance: Utterance) -> Path:
        """Return where the utterance's audio file lies."""
        return self.root / utterance.path


AUDIO_SUFFIXES = (".wav", ".flac")


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One corpus format.

    Attributes:
        layout: What its folder looks like, in words.
        recognise: Tells from a folder's listing alone whether it is one.
        read: Turns the folder (or the manifest's file) into a corpus; opens no audio file.
        apart: Patterns of paths in it (`*` is any text) that hold audio for something else.
    """

    layout: str
    recognise: Callable[[Path], bool]
    read: Callable[[Path], Corpus]
    apart: tuple[str, ...] = ()


def is_audio(name: str) -> bool:
    """Tell whether a file name is one of audio in an official layout; what Macs add (`._*`) is not."""
    return name.lower().endswith(AUDIO_SUFFIXES) and not name.startswith("._")


def list_names(folder: Path) -> list[str]:
    """Return the sorted names in a folder; none where it is missing or no folder.

    Raises:
        CorpusError: the folder may not be listed.
    """
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise CorpusError(
            f"Cannot list the folder {str(folder)!r} ({error.strerror}); check its permissions."
        ) from error


def list_audio(folder: Path) -> list[str]:
    """Return the sorted names of the audio files directly in a folder."""
    return [name for name in list_names(folder) if is_audio(name)]


def walk_files(folder: Path, *, depth: int) -> Iterator[Path]:
    """Yield files down to `depth` folders below `folder` in sorted order; links are followed, hidden names are not."""
    for name in list_names(folder):
        path = folder / name
        if name.startswith("."):
            continue
        if not path.is_dir():
            yield path
        elif depth:
            yield from walk_files(path, depth=depth - 1)


def relative_path(root: Path, path: Path) -> str:
    """Write a path below the root as an utterance holds it: relative, with forward slashes."""
    return path.relative_to(root).as_posix()


def sort_utterances(utterances: Iterable[Utterance]) -> tuple[Utterance, ...]:
    """Order utterances as a corpus holds them: by id."""
    return tuple(sorted(utterances, key=lambda utterance: utterance.id))


class LeftOut(str):
    """A note on what was not read; extractions and checks list it in their table.

    Attributes:
        what: What they are ("files without a label").
        names: All of them, sorted.
    """

    what: str
    names: tuple[str, ...]


def left_out_note(names: Sequence[str], what: str, *, verb: str = "Left out") -> tuple[str, ...]:
    """Say how many things were left out and name the first; no note where there is none.

    >>> left_out_note(["b.wav", "a.wav"], "file{s} without a label")
    ("Left out 2 files without a label, such as 'a.wav'.",)
    """
    if not names:
        return ()
    told = what.format(s="" if len(names) == 1 else "s")
    note = LeftOut(f"{verb} {len(names):,} {told}, such as {min(names)!r}.")
    note.what, note.names = told, tuple(sorted(names))
    return (note,)


def count_note(found: int, published: int, corpus: str) -> tuple[str, ...]:
    """Say that a corpus is not the complete one; no note where it is."""
    if found == published:
        return ()
    return (f"Found {count_noun(found, 'utterance')}; the complete {corpus} has {published:,}.",)
