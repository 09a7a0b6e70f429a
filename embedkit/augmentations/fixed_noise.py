"""Noise at one signal-to-noise ratio: what belongs to a recording, not to its turn."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embedkit.augmentations import require_torchaudio
from embedkit.augmentations.noise import fit_length, mix
from embedkit.augmentations.recordings import Recordings

VERSION = 1
"""Raised when clips get other noise, so that stores of before are not taken for those of now."""


class FixedNoise:
    """White noise, or stretches of recordings, drawn for every clip from a key of its own.

    Args:
        snr: Ratio of the energies of the clip and of the noise, in decibels.
        folder: Where recordings lie; None for white noise.

    Raises:
        ConfigError: torchaudio is needed and cannot be loaded.
        CorpusError: the folder is missing or holds no audio.
    """

    def __init__(self, snr: float, folder: str | None = None) -> None:
        require_torchaudio("noise")
        self.snr = snr
        self.recordings = None if folder is None else Recordings(folder)

    def prepare(self, sampling_rate: int) -> None:
        """Find out what cannot be used.

        Raises:
            AudioError: a recording that cannot be decoded, or is silent.
        """
        if self.recordings is not None:
            self.recordings.decode(sampling_rate)

    def describe(self) -> dict[str, Any]:
        """Return everything that determines what it adds; recordings by their content."""
        told: dict[str, Any] = {"snr": self.snr, "version": VERSION}
        return told if self.recordings is None else {**told, "recordings": self.recordings.digest}

    def add(self, samples: NDArray[np.float32], sampling_rate: int, key: str) -> NDArray[np.float32]:
        """Return a clip `[samples]` with noise; of equal keys at every ratio the same, a silent clip as it is."""
        seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1
        generator = torch.Generator().manual_seed(seed)
        if self.recordings is None:
            noise = torch.randn(samples.shape, generator=generator)
        else:
            noise = fit_length(self.recordings.draw(sampling_rate, generator), len(samples), generator)
        mixed: NDArray[np.float32] = mix(torch.from_numpy(samples), noise, self.snr).numpy()
        return mixed
