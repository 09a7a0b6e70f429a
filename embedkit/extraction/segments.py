"""What is to be encoded: utterances with the size, time and estimated length of their audio."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from embedkit.audio import TOLERANCE_SECONDS, digest_audio, digest_file, probe_audio
from embedkit.audio_streams import too_long
from embedkit.corpora.base import Corpus, Utterance
from embedkit.errors import AudioError, ExtractionError
from embedkit.received import MOST_HOURS
from embedkit.store.layout import digest_bytes, storable_text
from embedkit.system import count_cores

OnError: TypeAlias = Literal["fail", "skip"]


class Stamp(NamedTuple):
    """Size in bytes and modification time in nanoseconds of an audio file."""

    size: int
    mtime: int


class AudioSegment(NamedTuple):
    """One utterance to encode, as a plan keeps it.

    `samples` is the length at the encoder's sampling rate, estimated from the header; `start` and `end` are seconds.
    """

    id: str
    path: str
    start: float | None
    end: float | None
    samples: int
    size: int
    mtime: int


class Failures(dict[str, str]):
    """Utterances that cannot be used: id -> reason. Raises at the first one unless they are to be skipped."""

    def __init__(self, on_error: OnError) -> None:
        super().__init__()
        self.on_error = on_error

    def add(self, name: str, reason: str) -> None:
        """Note an utterance that cannot be used.

        Raises:
            ExtractionError: wrong utterances are not to be skipped.
        """
        if self.on_error == "fail":
            raise unusable(name, reason)
        self[_storable(name)] = _storable(reason)


def unusable(name: str, reason: str) -> ExtractionError:
    """Say that an utterance cannot be used, and what to do."""
    return ExtractionError(
        f"Utterance {name!r} cannot be used: {reason} Repair it, or leave such utterances out with --on-error skip; "
        "what is finished is kept."
    )


def _storable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\0")


@contextmanager
def noting(failures: Failures, name: str) -> Iterator[None]:
    """Note an utterance as failed when its audio cannot be used."""
    try:
        yield
    except AudioError as error:
        failures.add(name, str(error))


def stamp_files(corpus: Corpus, failures: Failures) -> dict[str, Stamp]:
    """Return size and time of every utterance's audio file, by utterance id; ids must be unique.

    Raises:
        ExtractionError: an id occurs twice, or a file is missing and is not to be skipped.
    """
    stamps: dict[str, Stamp] = {}
    seen: set[str] = set()
    known: dict[str, Stamp | AudioError] = {}
    for utterance in corpus.utterances:
        if utterance.id in seen:
            raise ExtractionError(
                f"The corpus {corpus.name!r} has two utterances with the id {utterance.id!r}; make ids unique."
            )
        seen.add(utterance.id)
        if utterance.path not in known:
            known[utterance.path] = _stamp(corpus.audio_path(utterance))
        with noting(failures, utterance.id):
            stamps[utterance.id] = _usable(utterance, known[utterance.path])
    return stamps


def survey(
    corpus: Corpus,
    utterances: Sequence[Utterance],
    stamps: dict[str, Stamp],
    *,
    sampling_rate: int,
    workers: int,
    failures: Failures,
    most_seconds: float = MOST_HOURS * 3600,
) -> list[AudioSegment]:
    """Read the headers of the utterances' audio files; utterances that cannot be used are noted in order."""
    paths = {utterance.path: corpus.audio_path(utterance) for utterance in utterances}
    with ThreadPoolExecutor(workers) as pool:
        measure = partial(_duration, most_hours=most_seconds / 3600)
        lengths = dict(zip(paths, pool.map(measure, paths.values()), strict=True))
    items: list[AudioSegment] = []
    for utterance in utterances:
        with noting(failures, utterance.id):
            seconds = _length(utterance, lengths[utterance.path])
            if seconds > most_seconds:
                raise too_long(f"The audio in {utterance.path!r}", seconds, most_seconds / 3600)
            samples = max(1, round(seconds * sampling_rate))
            stamp = stamps[utterance.id]
            items.append(AudioSegment(utterance.id, utterance.path, utterance.start, utterance.end, samples, *stamp))
    return items


def segment_digest(path: Path, stamp: Stamp, start: float | None, end: float | None) -> str:
    """Digest the bytes of an audio file together with the segment's times.

    Raises:
        AudioError: the file cannot be read.
    """
    whole = _file_digest(str(path), stamp)
    return digest_bytes(f"{whole} {_seconds(start)} {_seconds(end)}".encode())


def recording_digest(path: Path, stamp: Stamp, start: float | None, end: float | None) -> str:
    """Digest the decoded samples of an audio file, or of a segment of it; decoded once as long as the stamp holds.

    Raises:
        AudioError: as `digest_audio`.
    """
    return _recording_digest(str(path), stamp, start, end)


def corpus_digests(corpus: Corpus) -> list[str]:
    """Return the digest of every utterance's decoded samples, nothing for those that cannot be read."""

    def digest(utterance: Utterance) -> str:
        path = corpus.audio_path(utterance)
        try:
            return recording_digest(path, file_stamp(path), utterance.start, utterance.end)
        except (AudioError, OSError):
            return ""

    with ThreadPoolExecutor(min(4, count_cores())) as pool:
        return list(pool.map(digest, corpus.utterances))


def file_stamp(path: Path) -> Stamp:
    """Return size and time of a file."""
    status = path.stat()
    return Stamp(status.st_size, status.st_mtime_ns)


def _stamp(path: Path) -> Stamp | AudioError:
    try:
        return file_stamp(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return AudioError(f"There is no audio file {os.fspath(path)!r} ({reason}).")


def _usable(utterance: Utterance, stamp: Stamp | AudioError) -> Stamp:
    if isinstance(stamp, AudioError):
        raise stamp
    texts = (value for value in vars(utterance).values() if isinstance(value, str))
    own = (text for pair in utterance.columns.items() for text in pair if isinstance(text, str))
    unfit = next((text for text in (*texts, *own) if not storable_text(text)), None)
    if unfit is not None:
        raise AudioError(f"It has the text {unfit!r}, which is not valid UTF-8 without NUL.")
    return stamp


def _duration(path: Path, most_hours: float) -> float | AudioError:
    try:
        return probe_audio(path, most_hours=most_hours).duration_seconds
    except AudioError as error:
        return error


def _length(utterance: Utterance, duration: float | AudioError) -> float:
    if isinstance(duration, AudioError):
        raise duration
    start = utterance.start or 0.0
    end = duration if utterance.end is None else utterance.end
    if end <= start and utterance.end is not None:
        raise AudioError(f"Its segment ends at {end:g} s, not after its start at {start:g} s.")
    if not 0 <= start < min(end, duration) or end >= duration + TOLERANCE_SECONDS:
        raise AudioError(
            f"Its segment {start:g} s to {end:g} s does not lie in {utterance.path!r}, which lasts {duration:.3f} s."
        )
    return min(end, duration) - start


def _seconds(value: float | None) -> str:
    return "" if value is None else repr(float(value))


@lru_cache(maxsize=1024)
def _file_digest(path: str, stamp: Stamp) -> str:
    return digest_file(path)


@lru_cache(maxsize=1 << 16)
def _recording_digest(path: str, _: Stamp, start: float | None, end: float | None) -> str:
    return digest_audio(path, start=start, end=end)
