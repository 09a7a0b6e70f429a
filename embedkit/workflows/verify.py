"""Verify: read a whole store, recompute its digests, and name what is damaged."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from embedkit.errors import AudioError
from embedkit.extraction.segments import file_stamp, segment_digest
from embedkit.progress import Progress, show_progress
from embedkit.store import Store, find_damage, open_store
from embedkit.wording import count_noun, escape_controls, list_some

_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What was found; `ok` is True where everything is as it was written.

    Attributes:
        path: The store.
        utterances: How many it holds.
        damaged_utterances: Ids of utterances whose embeddings are damaged.
        damaged_parts: Columns and other small parts that are damaged ("utterances/label").
        not_finite: Ids of utterances whose embeddings hold NaN or infinity.
        changed_audio: Ids of utterances whose audio file has changed or is missing; None where that was not asked.
    """

    path: Path
    utterances: int
    damaged_utterances: tuple[str, ...]
    damaged_parts: tuple[str, ...]
    not_finite: tuple[str, ...] = ()
    changed_audio: tuple[str, ...] | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged, all is finite, and no audio has changed."""
        return not (self.damaged_utterances or self.damaged_parts or self.not_finite or self.changed_audio)

    def __str__(self) -> str:
        read = count_noun(self.utterances, "utterance")
        lines = [f"{self.path}: {read} read, {'all is well' if self.ok else 'not all is well'}."]
        if self.damaged_utterances:
            lines.append(f"Damaged embeddings: {list_some(self.damaged_utterances, _SHOWN)}.")
        if self.damaged_parts:
            lines.append(f"Damaged parts: {list_some(self.damaged_parts, _SHOWN)}.")
        if self.not_finite:
            lines.append(f"Embeddings that are not finite: {list_some(self.not_finite, _SHOWN)}.")
        if self.damaged_utterances or self.damaged_parts or self.not_finite:
            lines.append("Restore a copy of the file, or extract again with --overwrite.")
        if self.changed_audio:
            changed = list_some(self.changed_audio, _SHOWN)
            lines.append(f"Audio changed or missing: {changed}; extract again to bring it up to date.")
        elif self.changed_audio is not None:
            lines.append("All audio files are as they were.")
        return "\n".join(map(escape_controls, lines))


def verify_store(
    path: str | os.PathLike[str], *, audio: bool = False, progress: Progress | bool | None = False
) -> Verification:
    """Compare everything in a store with its digests.

    Args:
        path: The store.
        audio: Compare the corpus's audio files with their digests as well.
        progress: Called with the number of utterances done and in all; True shows a bar, None one on a terminal.

    Raises:
        StoreError: the file is no whole store (missing, truncated, so damaged that it cannot be opened).
    """
    with open_store(path) as store, show_progress(progress, "verify") as report:
        damage = find_damage(store, progress=report)
        readable = not any(part.startswith("utterances/") for part in damage.parts)
        return Verification(
            path=store.path,
            utterances=len(store),
            damaged_utterances=damage.utterances,
            damaged_parts=damage.parts,
            not_finite=damage.not_finite,
            changed_audio=_changed_audio(store) if audio and readable else None,
        )


def _changed_audio(store: Store) -> tuple[str, ...]:
    root = Path(store.corpus_info["root"])
    names = ("id", "path", "start", "end", "digest")
    rows = zip(*(store.column(name).tolist() for name in names), strict=True)
    return tuple(name for name, path, start, end, digest in rows if _digest(root / path, start, end) != digest)


def _digest(path: Path, start: float, end: float) -> str | None:
    try:
        return segment_digest(path, file_stamp(path), *(None if time != time else time for time in (start, end)))
    except (AudioError, OSError):
        return None
