"""Hostile and broken input, generated: audio files, names, ids, paths, segments and manifests."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile

RATE = 16_000
GOOD = "good.wav"
HEADER = ("id", "path", "label", "start", "end")

Outcome = Literal["stored", "refused", "either"]


@dataclass(frozen=True)
class Case:
    """One corpus of a good clip and something hostile.

    Attributes:
        name: What is hostile.
        outcome: Whether the hostile utterance must be stored, must be refused, or may be either.
        write: Writes it into a folder and returns its row of the manifest, or the whole manifest.
    """

    name: str
    outcome: Outcome
    write: Callable[[Path], dict[str, str] | bytes]

    def write_corpus(self, folder: Path) -> Path:
        """Write the corpus and return its manifest."""
        soundfile.write(folder / GOOD, noise(0.4, seed=1), RATE)
        found = self.write(folder)
        manifest = folder / "corpus.csv"
        if isinstance(found, bytes):
            manifest.write_bytes(found)
        else:
            good = {"id": "good", "path": GOOD, "label": "a"}
            manifest.write_bytes(manifest_of(good, {"id": "odd", "label": "a", **found}))
        return manifest


def noise(seconds: float, seed: int = 0, rate: int = RATE, channels: int = 1) -> Any:
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, (max(1, round(seconds * rate)), channels))
    return samples.astype("float32")


def manifest_of(*rows: dict[str, str]) -> bytes:
    """Write rows as CSV."""
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, HEADER, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode(errors="surrogateescape")


def all_cases() -> list[Case]:
    """Return every case; the same ones each time."""
    return [
        *truncated(),
        *mutated(),
        *empty(),
        *not_finite(),
        *rates_and_channels(),
        *names(),
        *ids_and_paths(),
        *segments(),
        *manifests(),
    ]


FORMATS = (("wav", "PCM_16"), ("wav", "FLOAT"), ("flac", "PCM_16"), ("ogg", "VORBIS"), ("aiff", "PCM_16"))


def encoded(suffix: str, subtype: str) -> bytes:
    """Return a good file's bytes."""
    stream = io.BytesIO()
    soundfile.write(stream, noise(0.5), RATE, format=suffix.upper(), subtype=subtype)
    return stream.getvalue()


def file_case(name: str, outcome: Outcome, file: str, data: bytes) -> Case:
    def write(folder: Path) -> dict[str, str]:
        (folder / file).write_bytes(data)
        return {"path": file}

    return Case(name, outcome, write)


def truncated() -> Iterator[Case]:
    generator = np.random.default_rng(1)
    for suffix, subtype in FORMATS:
        data = encoded(suffix, subtype)
        cuts = [0, 1, 4, 11, *generator.integers(12, 64, 5), *generator.integers(64, len(data), 4)]
        for cut in map(int, cuts):
            outcome: Outcome = "refused" if suffix in ("wav", "flac") and cut < len(data) - 2000 else "either"
            yield file_case(f"{suffix} {subtype} cut at {cut}", outcome, f"odd.{suffix}", data[:cut])


def mutated() -> Iterator[Case]:
    generator = np.random.default_rng(2)
    for suffix, subtype in FORMATS:
        data = encoded(suffix, subtype)
        many = 30 if suffix in ("wav", "flac") else 12
        for number in range(many):
            end = 80 if number % 3 else len(data)
            place, value = int(generator.integers(0, end)), generator.bytes(int(generator.integers(1, 9)))
            spoiled = data[:place] + value + data[place + len(value) :]
            yield file_case(f"{suffix} {subtype} {value.hex()} at {place}", "either", f"odd.{suffix}", spoiled)
    for field, offset in (("channels", 22), ("rate", 24), ("bytes a second", 28), ("block", 32), ("bits", 34)):
        for value in (0, 0x7FFF, 0xFFFF):
            data = encoded("wav", "PCM_16")
            spoiled = data[:offset] + value.to_bytes(2, "little") + data[offset + 2 :]
            yield file_case(f"wav says {value} {field}", "either", "odd.wav", spoiled)
    for value in (0, 1, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF):
        data = encoded("wav", "PCM_16")
        place = data.index(b"data") + 4
        spoiled = data[:place] + value.to_bytes(4, "little") + data[place + 4 :]
        yield file_case(f"wav says {value} bytes of data", "either", "odd.wav", spoiled)


def empty() -> Iterator[Case]:
    for suffix, subtype in FORMATS:
        stream = io.BytesIO()
        soundfile.write(stream, np.zeros(0, "float32"), RATE, format=suffix.upper(), subtype=subtype)
        yield file_case(f"{suffix} {subtype} of no samples", "refused", f"odd.{suffix}", stream.getvalue())
    yield file_case("no bytes", "refused", "odd.wav", b"")
    yield file_case("text", "refused", "odd.wav", b"not audio\n" * 50)
    yield file_case("a picture", "refused", "odd.wav", b"\x89PNG\r\n\x1a\n" + bytes(500))
    yield file_case("HDF5", "refused", "odd.wav", b"\x89HDF\r\n\x1a\n" + bytes(500))
    yield Case("no file", "refused", lambda folder: {"path": "none.wav"})

    def folder_case(folder: Path) -> dict[str, str]:
        (folder / "odd.wav").mkdir()
        return {"path": "odd.wav"}

    def pipe(folder: Path) -> dict[str, str]:
        os.mkfifo(folder / "odd.wav")
        return {"path": "odd.wav"}

    def loop(folder: Path) -> dict[str, str]:
        (folder / "odd.wav").symlink_to("odd.wav")
        return {"path": "odd.wav"}

    def device(folder: Path) -> dict[str, str]:
        (folder / "odd.wav").symlink_to("/dev/zero")
        return {"path": "odd.wav"}

    for name, write in (("a folder", folder_case), ("a pipe", pipe), ("a loop", loop), ("a device", device)):
        yield Case(name, "refused", write)


def samples_case(name: str, outcome: Outcome, samples: Any, *, rate: int = RATE, **options: Any) -> Case:
    def write(folder: Path) -> dict[str, str]:
        soundfile.write(folder / "odd.wav", samples, rate, **options)
        return {"path": "odd.wav"}

    return Case(name, outcome, write)


def not_finite() -> Iterator[Case]:
    for value in (np.nan, np.inf, -np.inf):
        for place in (0, 4000, -1, slice(None)):
            samples = noise(0.5)
            samples[place] = value
            yield samples_case(f"samples of {value} at {place}", "refused", samples, subtype="FLOAT")
    both = noise(0.5, channels=2)
    both[10] = (np.inf, -np.inf)
    yield samples_case("infinite samples that cancel", "refused", both, subtype="FLOAT")
    for value in (1e300, -1e300):
        samples = noise(0.5).astype("float64")
        samples[100] = value
        yield samples_case(f"a 64-bit sample of {value}", "refused", samples, subtype="DOUBLE")
    for value in (3e38, 1e30, 1e19, 1e10, 1e-40, 1e-30):
        yield samples_case(f"samples of {value}", "either", np.full(8000, value, "float32"), subtype="FLOAT")
    yield samples_case("silence", "stored", np.zeros(8000))
    yield samples_case("a constant", "stored", np.full(8000, 0.5))
    yield samples_case("one click", "stored", np.eye(1, 8000, 4000)[0])


def rates_and_channels() -> Iterator[Case]:
    for rate in (1, 2, 7, 100, 999, 768_001, 2_147_483_647):
        yield samples_case(f"{rate} Hz", "refused", noise(0.5), rate=rate)
    for rate in (1000, 4000, 8000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000, 384_000, 768_000):
        yield samples_case(f"{rate} Hz", "stored", noise(0.1, rate=rate), rate=rate)
    for channels in (2, 3, 6, 8, 32, 128):
        yield samples_case(f"{channels} channels", "stored", noise(0.2, channels=channels))
    for seconds in (0.001, 0.005, 0.01, 0.02, 0.0250625, 0.031, 0.032):
        yield samples_case(f"a clip of {seconds} s", "stored", noise(seconds))
        yield samples_case(f"8 channels of {seconds} s at 48 kHz", "stored", noise(seconds, 0, 48_000, 8), rate=48_000)
    yield samples_case("one sample", "stored", np.array([0.5]))
    yield samples_case("one sample at 768 kHz", "either", np.array([0.5]), rate=768_000)
    for subtype in ("PCM_U8", "PCM_24", "PCM_32", "DOUBLE", "ULAW", "ALAW", "IMA_ADPCM"):
        yield samples_case(f"wav {subtype}", "stored", noise(0.3), subtype=subtype)


NAMES = (
    "a b.wav",
    "trailing .wav",
    "new\nline.wav",
    "tab\there.wav",
    "return\rhere.wav",
    "[bold]red[blink].wav",
    "[red]x[].wav",
    "größe-ñ.wav",
    "语音.wav",
    "e\u0301.wav",
    "\u202eright-to-left.wav",
    "😀.wav",
    "-dash.wav",
    "--overwrite.wav",
    "%2F%00.wav",
    "quote's \".wav",
    "back\\slash.wav",
    "$(touch hacked).wav",
    "`touch hacked`.wav",
    ";touch hacked;.wav",
    "*?.wav",
    "=cmd().wav",
    "a,b.wav",
    "\x1b[31mred.wav",
    "\x07bell.wav",
    "nan",
    ".hidden.wav",
    "x" * 240 + ".wav",
    "no-suffix",
    "wrong.flac",
    "{0}{name}%s%n.wav",
)


def names() -> Iterator[Case]:
    for name in NAMES:
        yield Case(f"the name {name[:30]!r}", "stored", lambda folder, name=name: named(folder, name))
        yield Case(f"the id {name[:30]!r}", "stored", lambda folder, name=name: {**named(folder, "x.wav"), "id": name})
    yield Case("a name of 300 letters", "refused", lambda folder: {"path": "x" * 300 + ".wav"})
    yield Case("a path of 5000 letters", "refused", lambda folder: {"path": "x/" * 2500 + "a.wav"})
    yield Case("a name that is no UTF-8", "either", lambda folder: named(folder, os.fsdecode(b"\xff\xfe.wav")))


def named(folder: Path, name: str) -> dict[str, str]:
    soundfile.write(os.fsencode(folder / name), noise(0.3), RATE, format="WAV")
    return {"path": name}


def ids_and_paths() -> Iterator[Case]:
    for name in ("../../evil", "/etc/passwd", "..", ".", "/", "a/../../b", "C:\\x", "x" * 10_000, "a\n" * 100):
        yield Case(f"the id {name[:20]!r}", "stored", lambda folder, name=name: {**named(folder, "x.wav"), "id": name})
    for path in ("../up.wav", "../../../../../../../../etc/passwd", "/etc/passwd", "/dev/zero", "/proc/self/mem"):
        yield Case(f"the path {path!r}", "either", lambda folder, path=path: {"path": path})
    for path in ("./odd.wav", "sub/../odd.wav", ".//odd.wav"):

        def write(folder: Path, path: str = path) -> dict[str, str]:
            (folder / "sub").mkdir()
            named(folder, "odd.wav")
            return {"path": path}

        yield Case(f"the path {path!r}", "stored", write)
    good = {"id": "good", "path": GOOD, "label": "a"}
    yield Case("an id twice", "either", lambda folder: manifest_of(good, good))
    yield Case("an id for two files", "either", lambda folder: manifest_of(good, {**good, **named(folder, "b.wav")}))
    yield Case("a file under two ids", "stored", lambda folder: {"path": GOOD})
    yield Case("an empty id", "either", lambda folder: manifest_of(good, {**named(folder, "b.wav"), "id": ""}))


def segments() -> Iterator[Case]:
    yield Case("a leading space", "either", lambda folder: named(folder, " leading.wav"))
    stored = (("0", "0.4"), ("0.1", "0.2"), ("", "0.3"), ("0.3", ""), ("0.1", "0.11"), ("0", "0.42"), ("1e-9", "0.4"))
    refused = (("5", "6"), ("0", "9"), ("0.39999999", "0.4"), ("0.3", "0.1"), ("0.2", "0.2"), ("-1", "0.3"), ("", "0"))
    odd = [("nan", "0.3"), ("0", "inf"), ("-inf", "inf")]
    odd += [("1e400", ""), ("0,1", "0,3"), ("zero", "one"), ("0x1", "1")]
    for outcome, pairs in (("stored", stored), ("refused", refused), ("either", odd)):
        for start, end in pairs:
            row = {"path": GOOD, "start": start, "end": end}
            yield Case(f"a segment from {start!r} to {end!r}", outcome, lambda folder, row=row: dict(row))  # type: ignore[arg-type]


def manifests() -> Iterator[Case]:
    good = manifest_of({"id": "good", "path": GOOD, "label": "a"})
    text = good.decode()
    contents = {
        "nothing": b"",
        "a header alone": text.splitlines()[0].encode(),
        "one newline": b"\n",
        "a byte order mark": b"\xef\xbb\xbf" + good,
        "UTF-16": text.encode("utf-16"),
        "Latin-1": text.replace(",a,", ",Ärger,").encode("latin-1"),
        "NUL in it": good.replace(b",a,", b",a\0b,"),
        "no path column": good.replace(b"path", b"file"),
        "a column twice": good.replace(b"label", b"path"),
        "a nameless column": good.replace(b"label", b""),
        "an open quote": good.replace(b",a,", b',"a,'),
        "a short row": good + b"more\n",
        "a long row": good + b"b,good.wav,a,,,1,2,3,4\n",
        "blank rows": good + b"\n\n,,,,\n\n",
        "a field of a megabyte": good.replace(b",a,", b"," + b"x" * 1_000_000 + b","),
        "semicolons": good.replace(b",", b";"),
        "Mac newlines": good.replace(b"\r\n", b"\r"),
        "binary": bytes(range(256)) * 20,
        "an HDF5 file": b"\x89HDF\r\n\x1a\n" + bytes(1000),
        "ten thousand columns": b"path," + b",".join(b"c%d" % i for i in range(10_000)) + b"\n" + GOOD.encode() + b"\n",
    }
    for name, content in contents.items():
        yield Case(f"a manifest of {name}", "either", lambda folder, content=content: content)
