"""Corpora whose labels are in the file names: from a list of files to utterances."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from embedkit.corpora.base import (
    Corpus,
    Reader,
    Task,
    Utterance,
    count_note,
    is_audio,
    left_out_note,
    list_audio,
    list_names,
    relative_path,
    sort_utterances,
    walk_files,
)
from embedkit.errors import CorpusError

NameMatch: TypeAlias = tuple[str, re.Match[str]]
"""A file's path relative to the corpus, and the match of its name."""


def name_matches(pattern: re.Pattern[str], name: str) -> re.Match[str] | None:
    """Match a pattern against the whole of a file name without its suffix."""
    return pattern.fullmatch(Path(name).stem)


def holds_names(folder: Path, pattern: re.Pattern[str]) -> bool:
    """Tell whether at least half of a folder's audio files (and at least one) are named by a pattern."""
    names = list_audio(folder)
    return 2 * sum(name_matches(pattern, name) is not None for name in names) >= max(1, len(names))


def find_audio_folder(folder: Path, inner: Sequence[str], pattern: re.Pattern[str]) -> Path | None:
    """Return the first of the inner folders, or the folder itself, that holds audio named by a pattern."""
    for candidate in (*(folder / name for name in inner), folder):
        if holds_names(candidate, pattern):
            return candidate
    return None


def holds_names_below(folder: Path, inner: re.Pattern[str], pattern: re.Pattern[str]) -> bool:
    """Tell whether a folder, or a folder in it whose name matches `inner`, holds audio named by a pattern."""
    below = (folder / name for name in list_names(folder) if inner.fullmatch(name))
    return holds_names(folder, pattern) or any(holds_names(candidate, pattern) for candidate in below)


def keep_first_of_each_name(paths: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Split files into the first of each stem (fewest folders, then by path) and the repetitions."""
    kept: dict[str, Path] = {}
    repeated: list[Path] = []
    for path in sorted(paths, key=lambda path: (len(path.parts), str(path))):
        if path.stem in kept:
            repeated.append(path)
        else:
            kept[path.stem] = path
    return list(kept.values()), repeated


def build_corpus(
    matches: Iterable[NameMatch],
    describe: Callable[[str, re.Match[str]], Utterance],
    *,
    name: str,
    title: str,
    root: Path,
    published: int,
    labels: Mapping[str, str],
    notes: tuple[str, ...],
) -> Corpus:
    """Put a corpus together whose kind is its name and whose count is published.

    Args:
        matches: The files and the matches of their names.
        describe: Makes an utterance of a file's path and match.
        name: The corpus's name and kind.
        title: What it is called in sentences.
        root: Its folder.
        published: How many utterances it has where nothing is missing.
        labels: From the codes in names to labels; these are the classes.
        notes: What reading it left out.

    Raises:
        CorpusError: no utterance is left.
    """
    found = sort_utterances(describe(path, match) for path, match in matches)
    if not found:
        reasons = "; ".join(["", *(note.rstrip(".") for note in notes)])
        raise CorpusError(f"The folder {str(root)!r} holds no utterance of {title}{reasons}.")
    notes = (*count_note(len(found), published, title), *notes)
    task = Task(classes=tuple(sorted(labels.values())))
    return Corpus(name=name, kind=name, root=root, utterances=found, task=task, notes=notes)


def named_reader(
    match: Callable[[Path], tuple[Sequence[NameMatch], tuple[str, ...]]],
    describe: Callable[[str, re.Match[str]], Utterance],
    *,
    layout: str,
    recognise: Callable[[Path], bool],
    name: str,
    title: str,
    published: int,
    labels: Mapping[str, str],
) -> Reader:
    """Return the reader of a corpus whose file names say it all.

    Args:
        match: Finds the files in a folder with the matches of their names, and says what is left out.
        layout, recognise: As a `Reader` has them.
        describe, name, title, published, labels: See `build_corpus`.
    """

    def read(folder: Path) -> Corpus:
        matches, notes = match(folder)
        return build_corpus(
            matches, describe, name=name, title=title, root=folder, published=published, labels=labels, notes=notes
        )

    return Reader(layout=layout, recognise=recognise, read=read)


def match_audio(root: Path, inner: Sequence[str], pattern: re.Pattern[str]) -> tuple[list[NameMatch], tuple[str, ...]]:
    """Match every audio file directly in the first of the inner folders, or the root, that holds such names.

    Returns:
        (path relative to the root, match) of each file named by the pattern, and notes on those left out.
    """
    folder = find_audio_folder(root, inner, pattern) or root
    paths, repeated = keep_first_of_each_name(folder / name for name in list_audio(folder))
    matches = [(path, name_matches(pattern, path.name)) for path in paths]
    strangers = [path.name for path, match in matches if match is None]
    notes = left_out_note(strangers, "file{s} whose name is not one of this corpus") + left_out_note(
        [path.name for path in repeated], "file{s} that is there in another format"
    )
    return [(relative_path(root, path), match) for path, match in matches if match is not None], notes


def match_audio_below(
    root: Path, pattern: re.Pattern[str], *, depth: int, name: Callable[[Path], str] = lambda path: path.stem
) -> tuple[list[NameMatch], tuple[str, ...]]:
    """Match every audio file down to `depth` folders below the root.

    Args:
        root: The corpus.
        pattern: What the whole of a name must match.
        depth: How many folders below the root to look.
        name: Gives a file's name; of files with the same one, that in the fewest folders counts.

    Returns:
        (path relative to the root, match) of each file named by the pattern, and notes on those left out.
    """
    kept: dict[str, NameMatch] = {}
    strangers, repeated = [], []
    for path in sorted(walk_files(root, depth=depth), key=lambda path: (len(path.parts), str(path))):
        if not is_audio(path.name):
            continue
        relative, match = relative_path(root, path), pattern.fullmatch(name(path))
        if match is None:
            strangers.append(relative)
        elif kept.setdefault(match[0], (relative, match))[0] != relative:
            repeated.append(relative)
    notes = left_out_note(strangers, "file{s} whose name is not one of this corpus") + left_out_note(
        repeated, "repetition{s} of a file"
    )
    return list(kept.values()), notes
