"""What a corpus reader is, and what readers share: finding files, notes, and the check of published counts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from embedkit.corpora.base import Corpus, Utterance
from embedkit.errors import CorpusError
from embedkit.wording import count_noun

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
