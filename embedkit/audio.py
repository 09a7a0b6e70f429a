"""Decode audio files: header, mono samples at a wanted sampling rate, digest of the bytes."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from os import PathLike
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from embedkit.audio_headers import CONTAINERS, SUFFIXES, Mended, find_lack, find_mend
from embedkit.audio_streams import Stream, is_container, too_long
from embedkit.errors import AudioError, CorpusError
from embedkit.installation import install_command
from embedkit.received import MOST_HOURS, describe_pointer, open_regular
from embedkit.system import native_path
from embedkit.wording import count_noun, list_some

DIGEST_RATE = 16_000
"""Hertz at which audio is decoded to tell one recording from another."""

SMALLEST_RATE = 1_000
LARGEST_RATE = 768_000
LARGEST_FLOAT = 16.0
"""Beyond it samples that are stored as floats have another scale than [-1, 1]."""
INT16_SCALE = 32_768.0
LARGEST_INT16 = 2 * INT16_SCALE
"""Beyond it they are not in the scale of 16 bits either: filters and resampling overshoot by less than twice."""
TOLERANCE_SECONDS = 0.05
"""A segment's end, and a file's last samples, may miss the length in the header by less than this."""

_BLOCK_SAMPLES = 1 << 20
_UNKNOWN_FRAMES = 1 << 48
_UNKNOWN_BYTES = 0x7FFFF000
_DATA_SIZE = re.compile(r"^\s*(?:data|SSND)\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class AudioInfo:
    """What a file's header says: frames (samples per channel), Hertz, channels, seconds."""

    frames: int
    sampling_rate: int
    channels: int
    duration_seconds: float


def probe_audio(path: str | PathLike[str], *, most_hours: float = MOST_HOURS) -> AudioInfo:
    """Read the header of an audio file; no sample is decoded, but of containers, which are measured by decoding.

    Raises:
        AudioError: missing, unreadable, truncated or empty file, a sampling rate out of range, or a container of more
            than `most_hours`.
    """
    with _opened(Path(path), most_hours) as sound:
        return _info(sound)


def read_audio(
    path: str | PathLike[str],
    *,
    sampling_rate: int,
    start: float | None = None,
    end: float | None = None,
    most_hours: float = MOST_HOURS,
    rescale: bool = False,
) -> NDArray[np.float32]:
    """Decode a file, or the segment from `start` to `end` seconds, to mono at `sampling_rate`.

    Channels are averaged; only the segment is decoded; resampling is soxr's high quality (bit-identical each time).
    An `end` less than 50 ms beyond the file's end is clipped to it. With `rescale`, files of floats in the scale of 16
    bits, which any loud sample in them shows, are divided by 32768.

    Returns:
        float32 `[samples]`, at least one, all finite.

    Raises:
        AudioError: as `probe_audio`; a segment outside the file, or longer than `most_hours`; values that are not
            finite, or floats in the scale of integers; nothing left.
    """
    blocks = read_blocks(
        path, sampling_rate=sampling_rate, start=start, end=end, most_hours=most_hours, rescale=rescale
    )
    return np.concatenate(list(blocks))


def read_blocks(
    path: str | PathLike[str],
    *,
    sampling_rate: int | None,
    start: float | None = None,
    end: float | None = None,
    most_hours: float = MOST_HOURS,
    rescale: bool = False,
) -> Iterator[NDArray[np.float32]]:
    """Decode as `read_audio` does, block after block, float32 `[samples]`: together they are the same to the bit.

    Args:
        path, start, end, most_hours, rescale: As for `read_audio`.
        sampling_rate: Hertz; None for the file's own.

    Raises:
        AudioError: as `read_audio`, perhaps after some blocks.
    """
    file = Path(path)
    with _opened(file, most_hours) as sound:
        info = _info(sound)
        first, last = _segment(file, info, start, end)
        if last - first > most_hours * 3600 * info.sampling_rate:
            raise too_long(f"{_span(file, start, end)}", (last - first) / info.sampling_rate, most_hours)
        blocks = _mono_blocks(file, sound, first, last, rescale=rescale)
        if sampling_rate not in (None, info.sampling_rate):
            blocks = _resampled(blocks, info.sampling_rate, sampling_rate or info.sampling_rate)
        some = False
        for block in blocks:
            some = some or block.size > 0
            yield block
        if not some:
            raise AudioError(
                f"{_span(file, start, end)} has {last - first} samples at {info.sampling_rate} Hz, which leaves none "
                f"at {sampling_rate} Hz; leave it out."
            )


class StretchReader:
    """Stretches of one file in the order of their starts, decoded once, as `read_audio` gives each of them.

    In memory is what the last stretch began with, and what was decoded since: a stretch and a block at most. Use it as
    a context manager, which closes the file.

    Args:
        path, most_hours, rescale: As for `read_audio`.
    """

    def __init__(self, path: Path, *, most_hours: float = MOST_HOURS, rescale: bool = False) -> None:
        self.path, self._most_hours, self._rescale = path, most_hours, rescale
        self._stack = ExitStack()
        self._sound: soundfile.SoundFile | Stream | None = None
        self._blocks: Iterator[NDArray[np.float32]] | None = None
        self._held, self._first = np.empty(0, np.float32), 0
        self._broken = False

    def __enter__(self) -> StretchReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def probe(self) -> AudioInfo:
        """Return what the header says.

        Raises:
            AudioError: as `probe_audio`.
        """
        if self._sound is None:
            self._sound = self._stack.enter_context(_opened(self.path, self._most_hours))
        return _info(self._sound)

    def read(self, start: float | None, end: float | None, sampling_rate: int) -> NDArray[np.float32]:
        """Return a stretch in seconds, mono at a sampling rate, `[samples]`.

        Raises:
            AudioError: as `read_audio`.
        """
        info = self.probe()
        first, last = _segment(self.path, info, start, end)
        if not self._broken and first >= self._first:
            try:
                samples = self._take(first, last, info.frames)
            except AudioError:
                # What lies before the damage, or behind it, can be read by itself.
                self._broken = True
            else:
                if sampling_rate != info.sampling_rate:
                    (samples,) = _resampled(iter([samples]), info.sampling_rate, sampling_rate)
                if samples.size:
                    return samples
        return read_audio(
            self.path,
            sampling_rate=sampling_rate,
            start=start,
            end=end,
            most_hours=self._most_hours,
            rescale=self._rescale,
        )

    def _take(self, first: int, last: int, frames: int) -> NDArray[np.float32]:
        assert self._sound is not None
        have = self._first + len(self._held)
        # What a codec gives after a leap depends on where it leapt to.
        leaps = self._sound.subtype.startswith(("PCM", "FLOAT", "DOUBLE"))
        if self._blocks is None or (leaps and first > have):
            begin = first if leaps else 0
            self._blocks = _mono_blocks(self.path, self._sound, begin, frames, rescale=self._rescale)
            self._held, self._first, have = np.empty(0, np.float32), begin, begin
        pieces = [self._held]
        while have < last and (block := next(self._blocks, None)) is not None:
            pieces.append(block)
            have += len(block)
            while len(pieces) > 1 and self._first + len(pieces[0]) <= first:
                self._first += len(pieces.pop(0))
        held = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        self._held, self._first = held[first - self._first :], first
        return self._held[: last - first]


def _resampled(blocks: Iterator[NDArray[np.float32]], before: int, after: int) -> Iterator[NDArray[np.float32]]:
    stream = soxr.ResampleStream(before, after, 1, dtype="float32", quality="HQ")
    held = next(blocks, np.empty(0, np.float32))
    while True:
        following = next(blocks, None)
        yield np.asarray(stream.resample_chunk(held, last=following is None), np.float32)
        if following is None:
            return
        held = following


def find_audio(folder: str | PathLike[str], tell: Callable[[str], None] = lambda _: None) -> list[Path]:
    """List the audio files below a folder, in sorted order; what is hidden is passed over.

    Args:
        folder: Where to look.
        tell: Hears of files that cannot be decoded without the extra `video` (m4a, mp4, ...).

    Raises:
        CorpusError: the folder is missing, cannot be listed, or holds none.
    """
    found: list[Path] = []
    unread: list[str] = []
    lack = find_lack()
    read, left_out = (SUFFIXES, CONTAINERS) if lack else ((*SUFFIXES, *CONTAINERS), ())
    for root, folders, names in os.walk(folder, onerror=_cannot_list):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        shown = sorted(name for name in names if not name.startswith("."))
        found += [Path(root, name) for name in shown if name.lower().endswith(read)]
        unread += [name for name in shown if name.lower().endswith(left_out)]
    left = ""
    if unread:
        left = (
            f"{count_noun(len(unread), 'file')} in {str(folder)!r} left out ({list_some(unread, 5)}), because decoding "
            f"needs {lack}; run {install_command('video')}, or convert to WAV."
        )
    if not found:
        raise CorpusError(
            f"The folder {str(folder)!r} holds no audio; expected files that end in {', '.join(SUFFIXES)}."
            f"{' ' if left else ''}{left}"
        )
    if left:
        tell(left)
    return found


def _cannot_list(error: OSError) -> None:
    raise CorpusError(f"Cannot list the folder {error.filename!r} ({error.strerror}); check the path.") from error


def digest_file(path: str | PathLike[str]) -> str:
    """Return the BLAKE2b digest (128 bits, hexadecimal) of a file's bytes.

    Raises:
        AudioError: the file is missing or cannot be read.
    """
    file = Path(path)
    try:
        with open_regular(file) as stream:
            return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except (OSError, ValueError) as error:
        raise _unreadable(file, error) from error


def digest_samples(samples: NDArray[np.float32]) -> str:
    """Return the BLAKE2b digest (128 bits, hexadecimal) of decoded samples `[samples]`, little-endian float32.

    Of the mono samples at `DIGEST_RATE` it says which recording a clip is, whatever file it lies in.
    """
    return hashlib.blake2b(np.ascontiguousarray(samples, "<f4").data, digest_size=16).hexdigest()


def digest_audio(
    path: str | PathLike[str], *, start: float | None = None, end: float | None = None, most_hours: float = MOST_HOURS
) -> str:
    """Decode a file, or a segment in seconds, at `DIGEST_RATE` and digest its samples, whatever their scale.

    Raises:
        AudioError: as `read_audio`.
    """
    digest = hashlib.blake2b(digest_size=16)
    blocks = read_blocks(path, sampling_rate=DIGEST_RATE, start=start, end=end, most_hours=most_hours, rescale=True)
    for block in blocks:
        digest.update(np.ascontiguousarray(block, "<f4").data)
    return digest.hexdigest()


def _name(path: Path) -> str:
    return repr(str(path))


def _span(path: Path, start: float | None, end: float | None) -> str:
    if start is None and end is None:
        return f"The audio file {_name(path)}"
    until = "its end" if end is None else f"{end:g} s"
    return f"The segment {start or 0:g} s to {until} of {_name(path)}"


def _unreadable(path: Path, error: Exception) -> AudioError:
    reason = getattr(error, "strerror", None) or str(error)
    return AudioError(f"Cannot read the audio file {_name(path)} ({reason.strip().rstrip('.')}).")


def _open(path: Path, most_hours: float) -> soundfile.SoundFile | Stream:
    """Open a file with what decodes it: its content decides, not its name."""
    try:
        sound = soundfile.SoundFile(native_path(path))
    except soundfile.SoundFileError:
        if is_container(path):
            return Stream(path, most_hours)
        raise
    mend = find_mend(path, sound.format, sound.frames)
    if mend is None:
        return sound
    sound.close()
    return soundfile.SoundFile(Mended(path, mend))


@contextmanager
def _opened(path: Path, most_hours: float = MOST_HOURS) -> Iterator[soundfile.SoundFile | Stream]:
    try:
        if not path.exists():
            raise AudioError(f"There is no audio file {_name(path)}; check the path.")
        if not path.is_file():
            # A pipe would block for ever.
            raise AudioError(f"{_name(path)} is not a file; expected an audio file.")
        with path.open("rb") as stream:
            if not stream.read(1):
                raise AudioError(f"The audio file {_name(path)} is empty (0 bytes); copy it again or leave it out.")
        sound = _open(path, most_hours)
    except AudioError:
        raise
    except OSError as error:
        raise _unreadable(path, error) from error
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        find_mend(path, "WAV", 0)
        reason = describe_pointer(path) or f"{_reason(error)}; convert it to WAV"
        raise AudioError(f"Cannot decode {_name(path)} as audio: {reason}.") from error
    with sound:
        _check_header(path, sound)
        yield sound


def _reason(error: Exception) -> str:
    text = getattr(error, "error_string", None) or str(error)
    return " ".join(text.split()).removeprefix("Error : ").rstrip(".")


def _info(sound: soundfile.SoundFile | Stream) -> AudioInfo:
    return AudioInfo(
        frames=sound.frames,
        sampling_rate=sound.samplerate,
        channels=sound.channels,
        duration_seconds=sound.frames / sound.samplerate,
    )


def _check_header(path: Path, sound: soundfile.SoundFile | Stream) -> None:
    rate = sound.samplerate
    if not SMALLEST_RATE <= rate <= LARGEST_RATE:
        raise AudioError(
            f"The audio file {_name(path)} claims a sampling rate of {rate} Hz, expected {SMALLEST_RATE} to "
            f"{LARGEST_RATE} Hz; its header is probably damaged."
        )
    if sound.frames <= 0:
        raise AudioError(f"The audio file {_name(path)} holds no samples; leave it out.")
    if sound.frames >= _UNKNOWN_FRAMES:
        raise AudioError(f"The header of {_name(path)} does not say how long it is; convert it to WAV.")
    sizes = _DATA_SIZE.search(sound.extra_info)
    if sizes is None:
        return
    declared, present = int(sizes[1]), int(sizes[2])
    # Programs that write to a pipe declare the largest size there is, and the data goes to the file's end.
    if declared < _UNKNOWN_BYTES and present:
        _check_length(path, sound, sound.frames * declared / present, sound.frames)


def _check_length(path: Path, sound: soundfile.SoundFile | Stream, expected: float, found: int) -> None:
    if expected - found >= TOLERANCE_SECONDS * sound.samplerate:
        raise AudioError(
            f"The audio file {_name(path)} is truncated: {found / sound.samplerate:.2f} s of "
            f"{expected / sound.samplerate:.2f} s are there; copy it again."
        )


def _segment(path: Path, info: AudioInfo, start: float | None, end: float | None) -> tuple[int, int]:
    begins = 0.0 if start is None else start
    ends = info.duration_seconds if end is None else end
    if not (math.isfinite(begins) and math.isfinite(ends) and begins >= 0 and (end is None or begins < ends)):
        raise AudioError(f"{_span(path, start, end)} is not a segment; expected 0 <= start < end, in seconds.")
    if begins >= info.duration_seconds or (end is not None and ends >= info.duration_seconds + TOLERANCE_SECONDS):
        raise AudioError(
            f"{_span(path, start, end)} lies outside the file, which lasts {info.duration_seconds:.3f} s; "
            "check the segment's times."
        )
    first = round(begins * info.sampling_rate)
    last = info.frames if end is None else min(info.frames, round(ends * info.sampling_rate))
    if first >= last:
        raise AudioError(f"{_span(path, start, end)} holds no sample at {info.sampling_rate} Hz; make it longer.")
    return first, last


def _mean_of_channels(block: NDArray[np.float32]) -> NDArray[np.float32]:
    if block.shape[1] == 1:
        return block[:, 0]
    with np.errstate(invalid="ignore"):
        return np.asarray(block.mean(axis=1, dtype=np.float64), np.float32)


@lru_cache(maxsize=1 << 12)
def _find_scale(path: Path, _: int, __: int) -> float:
    """Return what the samples of a file of floats are divided by: 32768 where they are in the scale of 16 bits."""
    peak = 0.0
    with _opened(path) as sound:
        most = max(1, _BLOCK_SAMPLES // sound.channels)
        while len(block := sound.read(most, dtype="float32", always_2d=True)):
            peak = max(peak, float(np.abs(block).max()))
    return INT16_SCALE if LARGEST_FLOAT < peak <= LARGEST_INT16 else 1.0


def _mono_blocks(
    path: Path, sound: soundfile.SoundFile | Stream, first: int, last: int, *, rescale: bool
) -> Iterator[NDArray[np.float32]]:
    missing, floats, scale = last - first, sound.subtype in ("FLOAT", "DOUBLE"), 1.0
    try:
        if rescale and floats:
            status = path.stat()
            scale = _find_scale(path, status.st_size, status.st_mtime_ns)
        if first:
            sound.seek(first)
        # A damaged header may claim any length: memory is taken for what is there, not for what is claimed.
        while missing:
            most = max(1, _BLOCK_SAMPLES // sound.channels)
            block = sound.read(min(missing, most), dtype="float32", always_2d=True)
            if not len(block):
                break
            missing -= len(block)
            if scale != 1:
                block /= scale
            mono = _mean_of_channels(block)
            if not np.isfinite(mono).all():
                raise AudioError(
                    f"The audio file {_name(path)} holds samples that are NaN or infinite; convert it again."
                )
            if floats and (peak := float(np.abs(block).max())) > LARGEST_FLOAT:
                ways = "give --rescale to extract or predict, or " if peak <= LARGEST_INT16 and not rescale else ""
                raise AudioError(
                    f"The audio file {_name(path)} holds floats up to {peak:g}, expected [-1, 1]: the scale of "
                    f"integers, it seems; {ways}divide its samples by the largest of that type (32768 for 16 bits)."
                )
            yield mono
    except AudioError:
        raise
    except (soundfile.SoundFileError, OSError, ValueError) as error:
        raise AudioError(
            f"Cannot decode the audio file {_name(path)} to its end ({_reason(error)}); it is damaged or truncated, "
            "copy it again."
        ) from error
    _check_length(path, sound, last - first, last - first - missing)
