"""Sound in files that libsndfile does not read (m4a, mp4, webm, ...), through TorchCodec: the extra `video`."""

from __future__ import annotations

import math
import re
from collections.abc import Generator
from functools import lru_cache
from importlib import import_module
from io import BufferedReader
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedkit.errors import AudioError
from embedkit.received import open_regular
from embedkit.registry import import_extra

TRUNCATED_SECONDS = 0.5
"""What may be missing of the length in a header: the end of a video's sound is not that of its pictures."""

_STARTS = re.compile(
    rb"....(?:ftyp|moov|mdat|wide|free|skip)|\x1aE\xdf\xa3|RIFF....AVI |0&\xb2u|#!AMR|MAC |wvpk|TTA1|"
    rb"FLV\x01|\xff[\xf0\xf1\xf8\xf9]",
    re.DOTALL,
)
"""How MP4 and QuickTime, Matroska and WebM, AVI, ASF, AMR, Monkey's Audio, WavPack, TTA, FLV and ADTS begin."""
_PLACE = re.compile(r"^.*\.cpp:\d+, ")


def is_container(path: Path) -> bool:
    """Tell by its first bytes whether FFmpeg is given a file: lists of other files and of addresses never are."""
    with path.open("rb") as file:
        return _STARTS.match(file.read(12)) is not None


class Stream:
    """The best audio stream of a file, decoded from its beginning, in the words of `soundfile.SoundFile`.

    Its length is that of what is decoded, whatever the header says. Nothing is sought in it: what a codec gives after
    a leap depends on where it leapt to.

    Raises:
        AudioError: TorchCodec or FFmpeg is missing; the file is damaged, truncated, without sound, or longer than
            `most_hours`.
    """

    subtype = extra_info = ""

    def __init__(self, path: Path, most_hours: float) -> None:
        status = path.stat()
        self.frames, self.samplerate, self.channels = _measure(
            str(path), status.st_size, status.st_mtime_ns, most_hours
        )
        self._pieces = _decode(str(path), most_hours)
        self._held = np.empty((0, self.channels), np.float32)

    def __enter__(self) -> Stream:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the file."""
        self._pieces.close()

    def seek(self, frames: int) -> None:
        """Pass over so many samples per channel."""
        while frames > 0 and (passed := len(self.read(min(frames, 1 << 16)))):
            frames -= passed

    def read(self, frames: int, **_: Any) -> NDArray[np.float32]:
        """Return the next samples, `[at most so many, channels]`, full scale 1."""
        held, missing = [self._held], frames - len(self._held)
        while missing > 0 and (piece := next(self._pieces, None)) is not None:
            held.append(piece.samples)
            missing -= len(piece.samples)
        joined = np.concatenate(held)
        self._held = joined[frames:]
        return joined[:frames]


class _Piece(NamedTuple):
    """Samples `[samples, channels]` and their rate, as a packet gives them."""

    samples: NDArray[np.float32]
    rate: int


@lru_cache(maxsize=1 << 12)
def _measure(name: str, size: int, modified: int, most_hours: float) -> tuple[int, int, int]:
    """Return samples per channel, Hertz and channels."""
    frames, kinds = 0, set()
    for piece in _decode(name, most_hours):
        frames += len(piece.samples)
        if frames > most_hours * 3600 * piece.rate:
            raise too_long(f"The audio file {name!r}", frames / piece.rate, most_hours)
        kinds.add((piece.rate, piece.samples.shape[1]))
    if len(kinds) != 1:
        what = "changes its sampling rate or channels; convert it to WAV" if kinds else "holds no sound; leave it out"
        raise AudioError(f"The audio file {name!r} {what}.")
    return frames, *kinds.pop()


def _decode(name: str, most_hours: float) -> Generator[_Piece, None, None]:
    library = _load(name)
    # FFmpeg gets the content alone: it would take some names for addresses.
    with open_regular(name) as file:
        try:
            demuxer = library.Demuxer(file, streams="audio")
        except ValueError as error:
            raise AudioError(f"The audio file {name!r} holds no sound ({_reason(error)}); leave it out.") from error
        except RuntimeError as error:
            raise _damaged(name, error) from error
        stream, converter, begin, end = demuxer.streams[0], library.AudioConverter(), math.inf, 0.0
        told = _told_seconds(stream, file)
        if told > most_hours * 3600:
            # Hours of silence take few bytes, and minutes to decode.
            raise too_long(f"The audio file {name!r}", told, most_hours)
        try:
            decoder = stream.make_decoder()
            for packet in chain(demuxer, [None]):
                for raw in decoder.drain() if packet is None else decoder.decode(packet):
                    begin, end = min(begin, raw.pts_seconds), raw.pts_seconds + raw.duration_seconds
                    yield _Piece(converter.convert(raw).data.numpy().T, raw.sample_rate)
        except RuntimeError as error:
            raise _damaged(name, error) from error
        if begin < end < begin + told - TRUNCATED_SECONDS:
            raise AudioError(
                f"The audio file {name!r} is truncated: {end - begin:.2f} s of {told:.2f} s are there; copy it again."
            )


def _told_seconds(stream: Any, file: BufferedReader) -> float:
    """Return the length in the header of an MP4; others than MP4 estimate it, which counts for nothing."""
    place = file.tell()
    file.seek(4)
    kind = file.read(4)
    file.seek(place)
    return (stream.metadata.duration_seconds_from_header or 0.0) if kind == b"ftyp" else 0.0


def too_long(what: str, seconds: float, most_hours: float) -> AudioError:
    """Say that audio is longer than what is decoded of one file."""
    return AudioError(
        f"{what} lasts {seconds / 3600:.1f} h, more than {most_hours:g} h; a damaged header may claim that: cut it, or "
        "raise --max-hours."
    )


def _load(name: str) -> Any:
    """Import TorchCodec's decoders, and refuse to go on where it does not find FFmpeg."""
    needed_by = f"The audio file {name!r}"
    library = import_extra(
        "torchcodec", extra="video", needed_by=needed_by, error=AudioError, otherwise="convert it to WAV"
    )
    if library.ffmpeg_major_version is None:
        raise AudioError(
            f"{needed_by} needs FFmpeg, whose libraries torchcodec does not find or cannot load; install FFmpeg, as by "
            "apt install ffmpeg or brew install ffmpeg, or convert it to WAV."
        )
    return import_module("torchcodec.decoders")


def _damaged(name: str, error: Exception) -> AudioError:
    return AudioError(
        f"Cannot decode the audio file {name!r} ({_reason(error)}); it is damaged or truncated, copy it again."
    )


def _reason(error: Exception) -> str:
    return _PLACE.sub("", str(error).strip().partition("\n")[0]).rstrip(".")
