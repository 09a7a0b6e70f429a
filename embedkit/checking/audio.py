"""What a check measures of every utterance's audio, in one pass over the files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedkit.audio import probe_audio, read_audio
from embedkit.checking.near_duplicates import Fingerprint, take_fingerprint
from embedkit.corpora import Corpus, Utterance
from embedkit.errors import AudioError
from embedkit.progress import Progress

FULL_SCALE = 0.999
CLIPPED_RUN = 3
"""Samples in a row at full scale that count as clipped: a single one may be a peak that just fits."""
SILENCE = 10 ** (-60 / 20)
"""Level (root mean square, full scale is 1) below which a stretch of 20 ms is silent: -60 dB."""
STRETCH_SECONDS = 0.02


@dataclass(frozen=True, kw_only=True)
class Measures:
    """What was measured of one utterance, on the mean of its channels at the file's own sampling rate.

    Attributes:
        id: The utterance.
        seconds, sampling_rate, channels: Its length and format.
        peak: Largest absolute sample; full scale is 1.
        clipped: Share of samples in runs of three or more at full scale.
        silence: Share of stretches of 20 ms below -60 dB.
        offset: Mean of the samples (DC offset).
        digest: Of the decoded samples: equal where the audio is, whatever the file format.
        fingerprint: Alike where the audio nearly is; None for silence.
    """

    id: str
    seconds: float
    sampling_rate: int
    channels: int
    peak: float
    clipped: float
    silence: float
    offset: float
    digest: str
    fingerprint: Fingerprint | None = None


def measure_corpus(
    corpus: Corpus, utterances: Sequence[Utterance], *, workers: int, progress: Progress | None
) -> tuple[list[Measures], dict[str, str]]:
    """Decode every utterance once.

    Returns:
        The measures in order, and the utterances that cannot be read: id -> reason.
    """
    measures: list[Measures] = []
    unreadable: dict[str, str] = {}
    pool = ThreadPoolExecutor(workers)
    try:
        found = pool.map(lambda utterance: _measure(corpus, utterance), utterances)
        for done, (utterance, item) in enumerate(zip(utterances, found, strict=True), start=1):
            if isinstance(item, Measures):
                measures.append(item)
            else:
                unreadable[utterance.id] = item
            if progress is not None:
                progress(done, len(utterances))
    finally:
        # Whoever presses Ctrl-C does not wait for the whole corpus.
        pool.shutdown(cancel_futures=True)
    return measures, unreadable


def _measure(corpus: Corpus, utterance: Utterance) -> Measures | str:
    path = corpus.audio_path(utterance)
    try:
        info = probe_audio(path)
        samples = read_audio(path, sampling_rate=info.sampling_rate, start=utterance.start, end=utterance.end)
    except AudioError as error:
        return str(error)
    return Measures(
        id=utterance.id,
        seconds=len(samples) / info.sampling_rate,
        sampling_rate=info.sampling_rate,
        channels=info.channels,
        peak=float(np.abs(samples).max()),
        clipped=clipped_share(samples),
        silence=silent_share(samples, info.sampling_rate),
        offset=float(samples.mean(dtype=np.float64)),
        digest=hashlib.blake2b(samples.data, digest_size=16, salt=info.sampling_rate.to_bytes(8, "little")).hexdigest(),
        fingerprint=take_fingerprint(samples, info.sampling_rate),
    )


def clipped_share(samples: NDArray[np.float32]) -> float:
    """Return the share of samples `[samples]` in runs of three or more at full scale of one sign."""
    loud = np.where(np.abs(samples) >= FULL_SCALE, np.sign(samples), 0)
    edges = np.flatnonzero(np.diff(loud, prepend=0, append=0))
    runs = np.diff(edges)[loud[edges[:-1]] != 0] if len(edges) else edges
    return float(runs[runs >= CLIPPED_RUN].sum() / len(samples))


def silent_share(samples: NDArray[np.float32], sampling_rate: int) -> float:
    """Return the share of stretches of 20 ms of `[samples]` below -60 dB; what is left at the end is one more."""
    starts = np.arange(0, len(samples), max(1, round(STRETCH_SECONDS * sampling_rate)))
    sizes = np.diff(starts, append=len(samples))
    powers = np.add.reduceat(np.square(samples, dtype=np.float64), starts) / sizes
    return float(np.mean(powers < SILENCE**2))
