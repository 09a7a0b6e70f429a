"""Audio that a call of the library is given as it is: NumPy arrays with a rate, and open files."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias, cast

import numpy as np
import soundfile

from embedkit.corpora import Corpus, Utterance
from embedkit.corpora.demo import OTHER_CACHE, cache_folder
from embedkit.errors import AudioError, ConfigError, CorpusError
from embedkit.writing import new_folder

Array: TypeAlias = np.ndarray[Any, Any]
Sounds: TypeAlias = Sequence[str | os.PathLike[str] | Array | io.IOBase] | Array | io.IOBase

UNKNOWN = "unknown"
"""The label of what is given without one."""

_SUBTYPES = {"int16": "PCM_16", "int32": "PCM_32", "float32": "FLOAT", "float64": "DOUBLE"}


@dataclass(frozen=True)
class Sound:
    """Audio in memory.

    Attributes:
        name: What it is called: an open file's name, or "array 1".
        content: The samples of an array with its rate, or a file's bytes.
    """

    name: str
    content: tuple[Array, int] | bytes

    @classmethod
    def take(cls, given: Array | io.IOBase, rate: int | None, number: int) -> Sound:
        """Take samples of one channel, `[samples]`, floats up to 1 or integers of 16 or 32 bits; or read a file.

        Args:
            given: An array, or a file of any format that is decoded, open for reading bytes.
            rate: Samples a second of an array.
            number: Which one of those that are given it is, from 1.

        Raises:
            ConfigError: an array without a rate.
            AudioError: an array of another shape or type, or a file that gives no bytes.
        """
        if isinstance(given, np.ndarray):
            name = f"array {number}"
            if rate is None or rate < 1:
                raise ConfigError(f"rate is {rate}, but {name} has no rate of its own; give it, as in rate=16000.")
            if given.ndim == 1 and not given.size:
                raise AudioError(f"{name} holds no samples; give one with sound.")
            if given.dtype.kind == "f" and not np.isfinite(given).all():
                raise AudioError(f"{name} holds values that are no numbers (NaN or infinite); give numbers alone.")
            if given.ndim != 1 or given.dtype.name not in _SUBTYPES:
                raise AudioError(
                    f"{name} is {list(given.shape)} of {given.dtype.name}, expected the samples of one channel, "
                    f"[samples], as {', '.join(_SUBTYPES)}, floats from -1 to 1."
                )
            return cls(name, (given, rate))
        name = _name(given) or f"file {number}"
        is_read = not given.closed and given.readable() and not isinstance(given, io.TextIOBase)
        data = cast(IO[bytes], given).read() if is_read else None
        if not isinstance(data, bytes):
            raise AudioError(f"{name!r} gives no bytes; open it for reading in binary mode, as by open(path, 'rb').")
        if not data:
            raise AudioError(
                f"{name!r} gives no bytes; it is empty, or was read before: go back to its begin with seek(0)."
            )
        return cls(name, data)

    def write(self, path: Path) -> None:
        """Write it to a file, an array as WAV; the content, not the name, tells what a file is."""
        if isinstance(self.content, bytes):
            path.write_bytes(self.content)
        else:
            samples, rate = self.content
            soundfile.write(path, samples, rate, format="WAV", subtype=_SUBTYPES[samples.dtype.name])

    def digest(self) -> bytes:
        """Return a digest of what is heard."""
        if isinstance(self.content, bytes):
            return hashlib.blake2b(self.content).digest()
        samples, rate = self.content
        told = f"{samples.dtype.str} {rate} ".encode()
        return hashlib.blake2b(told + np.ascontiguousarray(samples).tobytes()).digest()


def _name(file: io.IOBase) -> str:
    """Return the path that a file was opened by; empty where there is none."""
    with suppress(AttributeError):
        # An open descriptor is called by its number.
        return name if isinstance(name := cast(IO[bytes], file).name, str) else ""
    return ""


class Names(dict[str, str]):
    """What audio in memory is called, by the file that it was written to."""

    def put(self, text: str) -> str:
        """Call it so in a sentence about its file."""
        for path, name in self.items():
            text = text.replace(path, name)
        return text

    @contextmanager
    def in_errors(self) -> Iterator[None]:
        """Call it so in errors."""
        try:
            yield
        except AudioError as error:
            raise AudioError(self.put(str(error))) from error


def check_rate(given: Sequence[Any], rate: int | None) -> None:
    """Refuse a rate where nothing is given that lacks one.

    Raises:
        ConfigError: there is no array.
    """
    if rate is not None and not any(isinstance(one, np.ndarray) for one in given):
        raise ConfigError(f"rate is {rate}, but no array is given, and files have rates of their own; leave it out.")


def open_sounds(
    sounds: Sounds, rate: int | None, labels: Sequence[str] | None, speakers: Sequence[str] | None
) -> Corpus:
    """Make a corpus of audio in its order; arrays and open files are written once, to the cache folder.

    Args:
        sounds: Arrays, open files, and paths; or one array `[samples]`, or one open file.
        rate: Samples a second of the arrays.
        labels, speakers: One for each; None for unknown ones.

    Raises:
        CorpusError: none, an empty label, or labels or speakers of another number.
        ConfigError, AudioError: as for `check_rate` and `Sound.take`.
    """
    single = isinstance(sounds, io.IOBase) or (isinstance(sounds, np.ndarray) and sounds.ndim < 2)
    given: list[Any] = [sounds] if single else list(sounds)
    if not given:
        raise CorpusError("The list of audio is empty; give arrays, open files or paths.")
    check_rate(given, rate)
    for name, values in (("labels", labels), ("speakers", speakers)):
        if values is not None and len(values) != len(given):
            raise CorpusError(f"{len(given)} clips are given, but {len(values)} {name}; give one for each.")
    empty = [number for number, label in enumerate(() if labels is None else labels, start=1) if not label.strip()]
    if empty:
        raise CorpusError(f"Clip {empty[0]} has an empty label; give one to each, or no labels at all.")
    taken = {
        f"{number:06d}": Sound.take(one, rate, number)
        for number, one in enumerate(given, start=1)
        if isinstance(one, np.ndarray | io.IOBase)
    }
    own = {
        f"{number:06d}": os.path.abspath(one)
        for number, one in enumerate(given, start=1)
        if isinstance(one, str | os.PathLike)
    }
    told = b"".join(sound.digest() for sound in taken.values()) + repr(own).encode()
    root = cache_folder() / f"sounds-{hashlib.blake2b(told, digest_size=8).hexdigest()}"
    if not root.is_dir():
        with new_folder(root, error=CorpusError, otherwise=OTHER_CACHE, is_whole=Path.is_dir) as part:
            for name, sound in taken.items():
                sound.write(part / f"{name}.wav")
    utterances = (
        Utterance(
            id=name,
            path=own.get(name, f"{name}.wav"),
            label=UNKNOWN if labels is None else str(labels[place]),
            speaker="" if speakers is None else str(speakers[place]),
        )
        for place, name in enumerate(sorted({**taken, **own}))
    )
    return Corpus(name=root.name, kind="sounds", root=root, utterances=tuple(utterances))
