"""Clips of utterances that a page plays: MP3 within it, of audio that is still what was encoded."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from embedkit.audio import read_blocks
from embedkit.errors import AudioError, EmbedkitError, RunError
from embedkit.extraction.segments import file_stamp, segment_digest
from embedkit.reporting.predictions import find_tested
from embedkit.wording import count_noun, list_some

if TYPE_CHECKING:
    from embedkit.store.reader import Store
    from embedkit.training.runs import RunRecord

RATE = 16_000
"""Hertz of clips."""
MOST_SECONDS = 15.0
MOST_LETTERS = 16_000_000
"""Of all clips, as a page holds them: with its figures a page stays below 25 MB."""
_NAMED = 5
_COLUMNS = ("path", "start", "end", "digest")
"""Where an utterance lies, and what was encoded of it; stores of others may lack them."""


class Clips:
    """Take utterances by their runs, and number the clips of those that can be played.

    Attributes:
        data: MP3 in base64, by number.
    """

    def __init__(self) -> None:
        if "MP3" not in soundfile.available_formats():
            raise RunError(
                f"libsndfile {soundfile.__libsndfile_version__} does not write MP3, expected 1.1 or later; install a "
                "newer soundfile, or leave out --audio."
            )
        self.data: list[str] = []
        self._room = MOST_LETTERS
        self._places: dict[tuple[str, str], int | None] = {}
        self._missing: dict[str, dict[str, None]] = {}

    def take(self, record: RunRecord | None, ids: Sequence[str]) -> list[int | None]:
        """Return the numbers of clips of utterances that a run was tested on; None for those that do not play."""
        try:
            if record is None:
                raise RunError("no embedding file of all folds says where they lie")
            rows = find_tested(record)
            columns: dict[Store, list[NDArray[Any]]] = {}
            for store in dict.fromkeys(store for store, _ in rows.values()):
                if lacking := [name for name in _COLUMNS if name not in store.columns]:
                    raise RunError(f"the store {str(store.path)!r} has no column {lacking[0]}")
                columns[store] = [store.column(name) for name in _COLUMNS]
        except EmbedkitError as error:
            self._miss(str(error), ids)
            return [None] * len(ids)
        found: list[int | None] = [None] * len(ids)
        # Where there is no room for all, what plays is spread over all.
        for place in np.random.default_rng(0).permutation(len(ids)).tolist():
            if ids[place] not in rows:
                self._miss("the store does not hold them", [ids[place]])
                continue
            store, row = rows[ids[place]]
            own = (column[row].item() for column in columns[store])
            found[place] = self._take(store.corpus_info["root"], ids[place], *own)
        return found

    def _take(self, root: str, name: str, path: str, start: float, end: float, digest: str) -> int | None:
        file = Path(root, path)
        key = (str(file), digest)
        if key not in self._places:
            times = (None if start != start else start, None if end != end else end)
            self._places[key] = self._encode(name, file, *times, digest)
        return self._places[key]

    def _encode(self, name: str, file: Path, start: float | None, end: float | None, digest: str) -> int | None:
        if self._room <= 0:
            self._miss(_FULL, [name])
            return None
        try:
            stamp = file_stamp(file)
        except (OSError, ValueError):
            self._miss("the file is missing", [name])
            return None
        try:
            if segment_digest(file, stamp, start, end) != digest:
                self._miss("the file is not the one that was encoded", [name])
                return None
            clip = _compress(_cut(read_blocks(file, sampling_rate=RATE, start=start, end=end)))
        except AudioError:
            self._miss("the file cannot be decoded", [name])
            return None
        self._room -= len(clip)
        if self._room < 0:
            self._miss(_FULL, [name])
            return None
        self.data.append(clip)
        return len(self.data) - 1

    def _miss(self, reason: str, names: Sequence[str]) -> None:
        self._missing.setdefault(reason.rstrip("."), {}).update(dict.fromkeys(names))

    def describe(self) -> list[str]:
        """Say how many utterances play, and of the others why not."""
        missing = sum(map(len, self._missing.values()))
        sentences = [
            f"{len(self.data):,} of {count_noun(len(self.data) + missing, 'utterance')} shown here can be played: "
            f"click a point of a map, or Play beside an utterance. Clips end after {MOST_SECONDS:g} s."
        ]
        return sentences + [
            f"{count_noun(len(names), 'utterance')} cannot be played ({list_some(names, _NAMED)}): {reason}."
            for reason, names in self._missing.items()
        ]


_FULL = "the page would be larger than 25 MB"


def _cut(blocks: Iterator[np.ndarray[Any, np.dtype[np.float32]]]) -> Iterator[np.ndarray[Any, np.dtype[np.float32]]]:
    left = round(MOST_SECONDS * RATE)
    for block in blocks:
        yield block[:left]
        left -= len(block)
        if left <= 0:
            return


def _compress(blocks: Iterator[np.ndarray[Any, np.dtype[np.float32]]]) -> str:
    file = io.BytesIO()
    soundfile.write(file, np.clip(np.concatenate(list(blocks)), -1, 1), RATE, format="MP3", compression_level=0.9)
    return base64.b64encode(file.getvalue()).decode()
