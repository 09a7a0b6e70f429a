"""What a check measures of every utterance's audio, in one pass over the files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedkit.audio import probe_audio, read_blocks
from embedkit.checking.near_duplicates import LONGEST_SECONDS, Fingerprint, take_fingerprint
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
    corpus: Corpus, utterances: Sequence[Utterance], *, workers: int, max_hours: float, progress: Progress | None
) -> tuple[list[Measures], dict[str, str]]:
    """Decode every utterance once.

    Returns:
        The measures in order, and the utterances that cannot be read: id -> reason.
    """
    measures: list[Measures] = []
    unreadable: dict[str, str] = {}
    pool = ThreadPoolExecutor(workers)
    try:
        found = pool.map(lambda utterance: _measure(corpus, utterance, max_hours), utterances)
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


def _measure(corpus: Corpus, utterance: Utterance, most_hours: float) -> Measures | str:
    path = corpus.audio_path(utterance)
    try:
        info = probe_audio(path, most_hours=most_hours)
        rate = info.sampling_rate
        stretch = max(1, round(STRETCH_SECONDS * rate))
        blocks = _whole_stretches(
            read_blocks(path, sampling_rate=None, start=utterance.start, end=utterance.end, most_hours=most_hours),
            stretch,
        )
        digest = hashlib.blake2b(digest_size=16, salt=rate.to_bytes(8, "little"))
        clipping, beginning, kept = Clipping(), [], 0
        count, peak, total, silent, stretches = 0, 0.0, 0.0, 0, 0
        for block in blocks:
            digest.update(block.data)
            count, peak = count + len(block), max(peak, float(np.abs(block).max()))
            total += float(block.sum(dtype=np.float64))
            found = silent_stretches(block, stretch)
            silent, stretches = silent + int(found.sum()), stretches + len(found)
            clipping.add(block)
            if kept < LONGEST_SECONDS * rate:
                beginning.append(block)
                kept += len(block)
    except AudioError as error:
        return str(error)
    return Measures(
        id=utterance.id,
        seconds=count / rate,
        sampling_rate=rate,
        channels=info.channels,
        peak=peak,
        clipped=clipping.finish() / count,
        silence=silent / stretches,
        offset=total / count,
        digest=digest.hexdigest(),
        fingerprint=take_fingerprint(np.concatenate(beginning), rate),
    )


def _whole_stretches(blocks: Iterator[NDArray[np.float32]], stretch: int) -> Iterator[NDArray[np.float32]]:
    """Cut blocks anew so that each but the last holds whole stretches."""
    left = np.empty(0, np.float32)
    for block in blocks:
        joined = np.concatenate([left, block])
        whole = len(joined) // stretch * stretch
        left = joined[whole:]
        if whole:
            yield joined[:whole]
    if len(left):
        yield left


class Clipping:
    """Counts samples in runs of three or more at full scale of one sign, block after block."""

    def __init__(self) -> None:
        self.count = self.run = self.sign = 0

    def add(self, samples: NDArray[np.float32]) -> None:
        """Take the next samples `[samples]`."""
        loud = np.where(np.abs(samples) >= FULL_SCALE, np.sign(samples), 0).astype(np.int8)
        starts = np.flatnonzero(np.diff(loud, prepend=np.int8(9)))
        for sign, length in zip(loud[starts].tolist(), np.diff(starts, append=len(loud)).tolist(), strict=True):
            if sign == self.sign:
                self.run += length
            else:
                self.finish()
                self.sign, self.run = sign, length

    def finish(self) -> int:
        """End the last run; return the samples counted so far."""
        self.count += self.run if self.sign and self.run >= CLIPPED_RUN else 0
        self.run = self.sign = 0
        return self.count


def silent_stretches(samples: NDArray[np.float32], stretch: int) -> NDArray[np.bool_]:
    """Tell of each stretch of so many samples `[samples]` whether it is below -60 dB, `[stretches]`."""
    starts = np.arange(0, len(samples), stretch)
    sizes = np.diff(starts, append=len(samples))
    powers = np.add.reduceat(np.square(samples, dtype=np.float64), starts) / sizes
    return np.asarray(powers < SILENCE**2)
