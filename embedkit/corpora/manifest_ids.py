"""Names for clips that a manifest gives no id."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Clip(NamedTuple):
    """A file, or a segment of it in seconds."""

    path: str
    start: float | None
    end: float | None


def name_clips(clips: Sequence[Clip], given: Sequence[str]) -> tuple[list[str], tuple[int, int] | None]:
    """Choose an id for every clip that has none: the shortest way of naming it that no other clip shares.

    The stem is tried first, then the stem with the segment, the path, and the path with the segment.

    Returns:
        The ids, and the indices of two clips that cannot be told apart (None where there are none).
    """
    ids = list(given)
    taken = set(filter(None, given))
    unnamed = [index for index, id_ in enumerate(given) if not id_]
    waiting = unnamed
    for name in _NAMES:
        if not waiting:
            break
        candidates = {index: name(clips[index]) for index in unnamed}
        counts = Counter(candidates.values())
        named = [index for index in waiting if counts[candidates[index]] == 1 and candidates[index] not in taken]
        for index in named:
            ids[index] = candidates[index]
        taken.update(candidates[index] for index in named)
        waiting = [index for index in waiting if not ids[index]]
    return ids, _indistinct(clips, waiting)


def _indistinct(clips: Sequence[Clip], waiting: Sequence[int]) -> tuple[int, int] | None:
    first: dict[Clip, int] = {}
    for index in waiting:
        if first.setdefault(clips[index], index) != index:
            return first[clips[index]], index
    return (waiting[0], waiting[0]) if waiting else None


def _stem(clip: Clip) -> str:
    return posixpath.splitext(posixpath.basename(clip.path))[0]


def _segment(clip: Clip) -> str:
    if clip.start is None and clip.end is None:
        return ""
    return f"@{clip.start or 0.0}-{'end' if clip.end is None else clip.end}"


_NAMES: tuple[Callable[[Clip], str], ...] = (
    _stem,
    lambda clip: _stem(clip) + _segment(clip),
    lambda clip: clip.path,
    lambda clip: clip.path + _segment(clip),
)
