"""Audio files whose headers say less, or more, than the file holds: estimated, unfinished, or several joined.

libsndfile reads what a header promises. MPEG streams without a frame count are estimated, recorders that crash or write
to a pipe leave a length of zero, and files that were joined by `cat` end for it with the first.
"""

from __future__ import annotations

import io
import mmap
import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from embedkit.errors import AudioError
from embedkit.installation import describe_lack

SUFFIXES = (
    ".wav", ".flac", ".mp3", ".ogg", ".opus", ".aif", ".aiff", ".au", ".caf", ".w64", ".wave", ".bwf", ".rf64", ".oga",
    ".mp2", ".mpga", ".aifc", ".snd", ".sph", ".voc",
)  # fmt: skip
"""What is looked for in folders; a file that is named itself may end as it likes."""

CONTAINERS = (
    ".m4a", ".m4b", ".mp4", ".m4v", ".mov", ".webm", ".mkv", ".aac", ".wma", ".amr", ".3gp", ".avi", ".mka", ".ape",
    ".wv", ".tta", ".flv",
)  # fmt: skip
"""What else holds sound as a rule, and is read through TorchCodec (`audio_streams.py`) where that is installed."""

_KBITS = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Bit rates of layer III by whether it is MPEG 1 (ISO/IEC 11172-3, 13818-3)."""
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_LAYER_3, _MONO = 1, 3
_FRAMES_FLAG = 1

_FLAC_STARTS = (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")
_BEGINS_STREAM = 2
_UNKNOWN_SIZE = 0xFFFFFFFF
_MOST_CHUNKS = 10_000
_MOST_REST = 0.25
"""Seconds that may follow the sound of a WAV file and be neither chunks nor tags."""
_CHUNK = re.compile(rb"[\w ]{4}")
_TAGS = (b"TAG", b"ID3", b"APE")


def find_lack() -> str | None:
    """Say what is missing for containers to be read; None if nothing is."""
    return describe_lack("torchcodec", "video")


class Mend(NamedTuple):
    """A beginning that a file should have: `head` in the place of its first `skipped` bytes."""

    head: bytes
    skipped: int


class Mended(io.RawIOBase):
    """A file that reads as if it had another beginning."""

    def __init__(self, path: Path, mend: Mend) -> None:
        self._file = path.open("rb")
        self._mend = mend
        self._length = len(mend.head) + path.stat().st_size - mend.skipped
        self._place = 0

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that it can be sought in."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._length}[whence]
        self._place = max(0, base + offset)
        return self._place

    def tell(self) -> int:
        """Return the place."""
        return self._place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read what fits."""
        head = self._mend.head
        if self._place < len(head):
            data = head[self._place : self._place + len(buffer)]
        else:
            self._file.seek(self._place - len(head) + self._mend.skipped)
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def find_mend(path: Path, kind: str, frames: int) -> Mend | None:
    """Return the beginning that a file needs to be decoded to its end; None where it needs none.

    Args:
        path: A regular file.
        kind: Its format as libsndfile calls it ("WAV", "RF64", "FLAC", "OGG", "MP3").
        frames: How many frames libsndfile expects.

    Raises:
        AudioError: several files that were joined.
    """
    status = path.stat()
    return _find_mend(str(path), status.st_size, status.st_mtime_ns, kind, frames)


@lru_cache(maxsize=256)
def _find_mend(path: str, size: int, _: int, kind: str, frames: int) -> Mend | None:
    if size == 0 or kind not in ("WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3", "AU"):
        return None
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if kind == "MP3":
            return _mend_mpeg(path, data, frames)
        if kind == "FLAC":
            if any(data.find(start, 4) >= 0 for start in _FLAC_STARTS):
                raise _joined(path)
            return None
        if kind == "AU":
            _check_au(path, data)
            return None
        if kind == "OGG":
            _check_ogg(path, data)
            return None
        return _mend_riff(path, data)


def _joined(path: str) -> AudioError:
    return AudioError(
        f"The audio file {path!r} is several that were joined, of which only the first would be read; split it, or "
        "convert it to one WAV."
    )


def _mend_riff(path: str, data: mmap.mmap) -> Mend | None:
    """Give a data chunk without a length the rest of the file; refuse a second file after it."""
    if data[:4] not in (b"RIFF", b"RF64"):
        return None
    place, wide, form = 12, 0, 0
    for _ in range(_MOST_CHUNKS):
        if place + 8 > len(data):
            return None
        name, size = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        if name == b"ds64":
            wide = place + 8
        if name == b"fmt ":
            form = place + 8
        if name == b"data":
            break
        place += 8 + size + size % 2
    else:
        return None
    start = place + 8
    if size == _UNKNOWN_SIZE and wide:
        size = int.from_bytes(data[wide + 8 : wide + 16], "little")
    after = start + size + size % 2
    if size and data[after : after + 4] in (b"RIFF", b"RF64") and data[after + 8 : after + 12] == b"WAVE":
        raise _joined(path)
    if size and form:
        _check_rest(path, data, start + size, int.from_bytes(data[form + 8 : form + 12], "little"))
    if size or start == len(data) or _ends_in_chunks(data, start):
        return None
    head, length = bytearray(data[:start]), len(data) - start
    if wide:
        head[wide : wide + 16] = (len(data) - 8).to_bytes(8, "little") + length.to_bytes(8, "little")
    else:
        head[4:8] = min(len(data) - 8, _UNKNOWN_SIZE).to_bytes(4, "little")
        head[place + 4 : start] = min(length, _UNKNOWN_SIZE).to_bytes(4, "little")
    return Mend(bytes(head), start)


def _check_rest(path: str, data: mmap.mmap, end: int, bytes_a_second: int) -> None:
    """Refuse a file with more after its sound than chunks, tags or zeros: recorders that crash leave old lengths."""
    beginning, seconds = data[end : end + 16], (len(data) - end) / (bytes_a_second or 1)
    named = any(_CHUNK.match(beginning, skip) for skip in (0, 1)) or beginning.startswith(_TAGS)
    if seconds > _MOST_REST and not named and data[end:].strip(b"\0"):
        raise AudioError(
            f"The audio file {path!r} has {len(data) - end:,} bytes ({seconds:.2f} s) after the sound that its header "
            "tells of, which was perhaps never brought up to date; convert it to WAV with a tool that ignores the "
            "length there (ffmpeg -ignore_length 1), or cut the file there."
        )


def _ends_in_chunks(data: mmap.mmap, place: int) -> bool:
    """Tell whether what follows is whole chunks up to the end: then there is no sound between."""
    while place + 8 <= len(data) and data[place : place + 4].isalnum():
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        place += 8 + size + size % 2
    return place in (len(data), len(data) + 1)


def _check_au(path: str, data: mmap.mmap) -> None:
    start, size = (int.from_bytes(data[place : place + 4], "big") for place in (4, 8))
    if data[:4] == b".snd" == data[start + size : start + size + 4]:
        raise _joined(path)


def _check_ogg(path: str, data: mmap.mmap) -> None:
    place, inside = 0, False
    while data[place : place + 4] == b"OggS" and place + 27 <= len(data):
        begins, segments = bool(data[place + 5] & _BEGINS_STREAM), data[place + 26]
        if begins and inside:
            raise _joined(path)
        inside = inside or not begins
        place += 27 + segments + sum(data[place + 27 : place + 27 + segments])


class _Frame(NamedTuple):
    """One MPEG frame: where it starts, its header, bytes, samples and samples a second."""

    place: int
    header: int
    size: int
    samples: int
    rate: int


def _mend_mpeg(path: str, data: mmap.mmap, frames: int) -> Mend | None:
    """Count the frames of a stream, and write their number before it where libsndfile expects another one."""
    first = _next_frame(data, _skip_tag(data, 0))
    if first is None:
        return None
    told = _told_frames(data, first)
    count, samples, frame = 0, 0, _next_frame(data, first.place + first.size) if told is not None else first
    start = frame.place if frame else first.place
    while frame is not None:
        if frame.rate != first.rate or _is_mono(frame) != _is_mono(first):
            raise _joined(path)
        count, samples = count + 1, samples + frame.samples
        frame = _next_frame(data, frame.place + frame.size)
    # A quarter of a second: encoders' delays are cut from what is expected.
    short = abs(samples - frames) > first.rate // 4
    # Fewer frames than are told: the file is cut, which whoever decodes it says.
    return Mend(_write_count(first, count), start) if short and (told is None or count > told) else None


def _skip_tag(data: mmap.mmap, place: int) -> int:
    if data[place : place + 3] != b"ID3" or place + 10 > len(data):
        return place
    size = 0
    for byte in data[place + 6 : place + 10]:
        size = size << 7 | byte & 127
    return place + 10 + size


def _next_frame(data: mmap.mmap, place: int) -> _Frame | None:
    """Return the frame at a place, or the next one after what is none (tags, rubbish)."""
    while 0 <= place <= len(data) - 4:
        header = int.from_bytes(data[place : place + 4], "big")
        version, bits, rate = header >> 19 & 3, header >> 12 & 15, header >> 10 & 3
        if header >> 21 == 0x7FF and version != 1 and header >> 17 & 3 == _LAYER_3 and 0 < bits < 15 and rate < 3:
            hertz = _RATES[version][rate]
            size = (144 if version == 3 else 72) * _KBITS[version == 3][bits] * 1000 // hertz + (header >> 9 & 1)
            return _Frame(place, header, size, 1152 if version == 3 else 576, hertz)
        tagged = _skip_tag(data, place)
        place = tagged if tagged != place else data.find(b"\xff", place + 1)
    return None


def _is_mono(frame: _Frame) -> bool:
    return frame.header >> 6 & 3 == _MONO


def _side_bytes(frame: _Frame) -> int:
    mono = _is_mono(frame)
    return (17 if mono else 32) if frame.samples == 1152 else (9 if mono else 17)


def _told_frames(data: mmap.mmap, frame: _Frame) -> int | None:
    """Return the number of frames that the first frame tells (Xing, Info); None where it tells none."""
    place = frame.place + 4 + _side_bytes(frame)
    if data[place : place + 4] not in (b"Xing", b"Info"):
        return None
    if not int.from_bytes(data[place + 4 : place + 8], "big") & _FRAMES_FLAG:
        return 0
    return int.from_bytes(data[place + 8 : place + 12], "big")


def _write_count(frame: _Frame, count: int) -> bytes:
    """Write a frame of silence that tells the number of frames after it, as encoders do ("Xing")."""
    tag = bytes(_side_bytes(frame)) + b"Xing" + _FRAMES_FLAG.to_bytes(4, "big") + count.to_bytes(4, "big")
    version = frame.header >> 19 & 3
    factor, kbits = (144, _KBITS[True]) if version == 3 else (72, _KBITS[False])
    sizes = [factor * one * 1000 // frame.rate for one in kbits]
    bits = next(place for place, size in enumerate(sizes) if size >= 4 + len(tag))
    header = frame.header & ~(15 << 12) & ~(1 << 9) | bits << 12 | 1 << 16
    return (header.to_bytes(4, "big") + tag).ljust(sizes[bits], b"\0")
