"""Which utterances repeat another one nearly: re-encoded, louder or softer, or cut a little at an end.

Fingerprints are the signs of energy differences between neighbouring bands and frames (Haitsma and Kalker 2002, "A
highly robust audio fingerprinting system"). Utterances of alike mean spectra are compared bit by bit at all small
shifts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
import soxr
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

RATE = 8_000
_FRAME, _HOP = 2048, 128
_EDGES = np.round(np.geomspace(200, 3400, 34) * _FRAME / RATE).astype(int)
_WINDOW = np.hanning(_FRAME).astype(np.float32)
_SILENT = 1e-8
_LOUD = 1e-4

LONGEST_SECONDS = 60
"""Of longer utterances the beginning alone is compared."""
LARGEST_SHIFT = 21
"""Frames of 16 ms by which two utterances may be shifted: a third of a second."""
SMALLEST_OVERLAP = 0.6
LARGEST_DIFFERENCE = 0.25
"""Share of bits that may differ; on EmoDB copies differ by at most 0.10, different utterances by at least 0.35."""
NEIGHBOURS = 8
"""Utterances of alike mean spectra that each one is compared with."""


@dataclass(frozen=True)
class Fingerprint:
    """What of an utterance survives another codec, gain or cut.

    Attributes:
        bits: Signs of energy differences, packed, uint8 `[frames, 4]`.
        spectrum: Mean and standard deviation of the log energies in bands, without the level, float32 `[66]`.
    """

    bits: NDArray[np.uint8]
    spectrum: NDArray[np.float32]


def take_fingerprint(samples: NDArray[np.float32], sampling_rate: int) -> Fingerprint | None:
    """Return the fingerprint of samples `[samples]` at a rate in Hertz; None for silence."""
    wave = soxr.resample(samples[: LONGEST_SECONDS * sampling_rate], sampling_rate, RATE)
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(wave, _FRAME // 2), _FRAME)[::_HOP]
    power = np.square(np.abs(scipy.fft.rfft(frames * _WINDOW, axis=1)))
    energy = np.add.reduceat(power[:, : _EDGES[-1]], _EDGES[:-1], axis=1)
    total = energy.sum(axis=1)
    if len(energy) < 2 or total.max() < _SILENT:
        return None
    rising = np.diff(np.diff(energy, axis=1), axis=0) > 0
    loud = np.log(energy[total > _LOUD * total.max()] + 1e-10 * energy.max())
    loud -= loud.mean()
    spectrum = np.concatenate([loud.mean(axis=0), loud.std(axis=0)])
    return Fingerprint(np.packbits(rising, axis=1), spectrum.astype(np.float32))


def find_near_duplicates(fingerprints: Sequence[Fingerprint | None]) -> list[tuple[int, int]]:
    """Return pairs of places whose fingerprints are nearly the same, the lower place first, in order."""
    places = [place for place, one in enumerate(fingerprints) if one is not None]
    known = [one for one in fingerprints if one is not None]
    if len(known) < 2:
        return []
    spectra = np.stack([one.spectrum for one in known])
    search = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(known) - 1), algorithm="brute").fit(spectra)
    near = search.kneighbors(return_distance=False)
    candidates = sorted({(min(one, other), max(one, other)) for one, row in enumerate(near.tolist()) for other in row})
    return [
        (places[one], places[other])
        for one, other in candidates
        if _difference(known[one].bits, known[other].bits) < LARGEST_DIFFERENCE
    ]


def _difference(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Return the share of bits that differ at the best shift of two utterances, `[frames, 4]` each."""
    shortest = SMALLEST_OVERLAP * max(len(first), len(second))
    best = 1.0
    for shift in range(-LARGEST_SHIFT, LARGEST_SHIFT + 1):
        one, other = first[max(0, shift) :], second[max(0, -shift) :]
        length = min(len(one), len(other))
        if length >= shortest:
            best = min(best, float(np.bitwise_count(one[:length] ^ other[:length]).mean()) / 8)
    return best
