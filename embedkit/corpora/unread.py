"""Audio that lies in a corpus's folders and was not read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from embedkit.audio_headers import CONTAINERS, SUFFIXES
from embedkit.corpora.base import Corpus, LeftOut, left_out_note, list_names, relative_path, walk_files
from embedkit.errors import CorpusError

DEPTH = 5


def add_unread(corpus: Corpus, *, beside: bool, apart: tuple[str, ...] = ()) -> Corpus:
    """Say which audio files below a corpus's folder none of its utterances and notes name.

    Args:
        corpus: The corpus.
        beside: Whether only folders in which it has files are looked at, as for a manifest; else all below its root.
        apart: Patterns of paths that the corpus's layout has for something else ("Session*/dialog/*").
    """
    told = {name for note in corpus.notes if isinstance(note, LeftOut) for name in note.names}
    read = {utterance.path for utterance in corpus.utterances}
    stems = {PurePosixPath(path).stem for path in read}
    try:
        files = list(_files_beside(corpus.root, read) if beside else _files_below(corpus.root))
    except CorpusError as error:
        return replace(corpus, notes=(*corpus.notes, f"Which files were not read is unknown. {error}"))
    found = [
        path
        for path in files
        if path not in read
        and not told & {path, PurePosixPath(path).name, PurePosixPath(path).stem}
        and not any(fnmatchcase(path, pattern) for pattern in apart)
    ]
    copies = [path for path in found if PurePosixPath(path).stem in stems]
    others = [path for path in found if PurePosixPath(path).stem not in stems]
    unread = (
        *left_out_note(others, f"audio file{{s}} that {_namer(corpus)} does not name"),
        *left_out_note(copies, "audio file{s} with the name of one that was read"),
    )
    return replace(corpus, unread=unread)


def is_audio_of_any_kind(path: Path) -> bool:
    """Tell whether a file's name is one of audio, or of video with sound."""
    return path.suffix.lower() in (*SUFFIXES, *CONTAINERS) and not path.name.startswith(".")


def _namer(corpus: Corpus) -> str:
    own = {"manifest": "the manifest", "audformat": "a table"}
    return own.get(corpus.kind, f"the layout of {corpus.kind}")


def _files_beside(root: Path, read: set[str]) -> Iterator[str]:
    folders = {path.rpartition("/")[0] for path in read if not path.startswith("/") and ":" not in path}
    for folder in sorted(folders):
        # What lies in a folder that cannot be listed is told of the utterances that are read from it.
        names: list[str] = []
        with suppress(CorpusError):
            names = list_names(root / folder)
        for name in names:
            if is_audio_of_any_kind(Path(name)):
                yield f"{folder}/{name}".removeprefix("/")


def _files_below(root: Path) -> Iterator[str]:
    return (relative_path(root, path) for path in walk_files(root, depth=DEPTH) if is_audio_of_any_kind(path))
