"""A folder of recordings, such as noises or impulse responses, to draw from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from embedkit.audio import digest_file, find_audio, probe_audio, read_audio
from embedkit.errors import AudioError

KEPT_BYTES = 1 << 30
"""Decoded recordings that are kept, more than four hours at 16 kHz; any further one is decoded whenever it is drawn."""


@dataclass(frozen=True, kw_only=True)
class FolderOptions:
    """Settings of what may draw from recordings.

    Attributes:
        folder: Where they lie; none for what is drawn by a formula.
    """

    folder: str = ""


class Recordings:
    """The audio files below a folder, in sorted order.

    Raises:
        CorpusError: the folder is missing, or holds no audio.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder).expanduser().absolute()
        self.files = find_audio(self.folder)
        self._kept: dict[tuple[int, int], Tensor] = {}
        self._bytes = 0
        self._checked: set[int] = set()

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process starts from: it decodes for itself."""
        return {**vars(self), "_kept": {}, "_bytes": 0, "_checked": set()}

    @cached_property
    def digest(self) -> str:
        """Digest of all files' bytes, in order; their names do not count."""
        digests = "".join(map(digest_file, self.files))
        return hashlib.blake2b(digests.encode(), digest_size=16).hexdigest()

    def decode(self, sampling_rate: int) -> None:
        """Decode what is kept, and read the headers of the rest.

        Raises:
            AudioError: a file that cannot be decoded, or is silent.
        """
        if sampling_rate in self._checked:
            return
        for place, file in enumerate(self.files):
            if self._bytes < KEPT_BYTES:
                self._read(place, sampling_rate)
            else:
                probe_audio(file)
        self._checked.add(sampling_rate)

    def draw(self, sampling_rate: int, generator: torch.Generator | None = None) -> Tensor:
        """Return one recording `[samples]`, with a largest value of 1."""
        return self._read(int(torch.randint(len(self.files), (), generator=generator)), sampling_rate)

    def _read(self, place: int, sampling_rate: int) -> Tensor:
        if (place, sampling_rate) in self._kept:
            return self._kept[place, sampling_rate]
        wave = torch.from_numpy(read_audio(self.files[place], sampling_rate=sampling_rate))
        peak = wave.abs().max()
        if not peak:
            raise AudioError(f"The audio file {str(self.files[place])!r} is silent throughout; leave it out.")
        wave /= peak
        if self._bytes < KEPT_BYTES:
            self._kept[place, sampling_rate] = wave
            self._bytes += wave.nbytes
        return wave
