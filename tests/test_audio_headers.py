"""Files whose headers say less, or more, than they hold are read to their end, or refused; never cut silently."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

import embedkit
from embedkit.audio import digest_audio, digest_samples, find_audio, probe_audio, read_audio, read_blocks
from embedkit.errors import AudioError, CorpusError
from embedkit.installation import install_command
from tests.containers import hide_torchcodec

RATE = 16_000


def sound(seconds: float, seed: int = 0) -> NDArray[np.float32]:
    samples = np.random.default_rng(seed).normal(size=round(RATE * seconds)) * 0.1
    samples[: len(samples) // 4] *= 3
    return samples.clip(-1, 1).astype(np.float32)


def encode(samples: NDArray[np.float32], **options: object) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, RATE, **options)
    return stream.getvalue()


def mp3(samples: NDArray[np.float32], *, told: bool = True, constant: bool = False) -> bytes:
    """Encode; without `told` the frame that tells the number of frames is left out, as in streams."""
    mode = "CONSTANT" if constant else "VARIABLE"
    data = encode(samples, format="MP3", bitrate_mode=mode, compression_level=0.5)
    if told:
        return data
    second = next(place for place in range(24, len(data)) if data[place] == 0xFF and data[place + 1] & 0xE0 == 0xE0)
    assert b"Xing" in data[:second] or b"Info" in data[:second]
    return data[second:]


def unfinished_wav(samples: NDArray[np.float32]) -> bytes:
    data = bytearray(encode(samples, format="WAV", subtype="PCM_16"))
    place = data.index(b"data")
    data[4:8] = data[place + 4 : place + 8] = bytes(4)
    return bytes(data)


def unfinished_rf64(samples: NDArray[np.float32]) -> bytes:
    pcm = (samples * 32767).astype("<i2").tobytes()
    form = b"fmt " + (16).to_bytes(4, "little") + encode(samples, format="WAV", subtype="PCM_16")[20:36]
    wide = b"ds64" + (28).to_bytes(4, "little") + bytes(28)
    return b"RF64" + b"\xff" * 4 + b"WAVE" + wide + form + b"data" + b"\xff" * 4 + pcm


WHOLE: dict[str, Callable[[], bytes]] = {
    "a stream of changing bit rate.mp3": lambda: mp3(np.concatenate([sound(2), 0.001 * sound(6)]), told=False),
    "a stream of one bit rate.mp3": lambda: mp3(sound(8), told=False, constant=True),
    "a tag before it.mp3": lambda: (
        b"ID3\x04\x00\x00\x00\x00\x02\x00" + bytes(256) + mp3(np.concatenate([sound(2), 0.001 * sound(6)]), told=False)
    ),
    "two joined.mp3": lambda: mp3(sound(4)) + mp3(sound(4, 1)),
    "a crashed recorder.wav": lambda: unfinished_wav(sound(8)),
    "a crashed recorder of large files.wav": lambda: unfinished_rf64(sound(8)),
    "as it should be.mp3": lambda: mp3(sound(8)),
}


@pytest.mark.parametrize("name", WHOLE)
def test_it_is_read_to_its_end(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(WHOLE[name]())
    assert probe_audio(path).duration_seconds == pytest.approx(8, abs=0.25)
    samples = read_audio(path, sampling_rate=RATE)
    assert len(samples) == pytest.approx(8 * RATE, abs=RATE // 4)
    assert np.abs(samples[-RATE:]).max() > 0
    np.testing.assert_allclose(
        read_audio(path, sampling_rate=RATE, start=6, end=7), samples[6 * RATE : 7 * RATE], atol=1e-3
    )


JOINED: dict[str, Callable[[], bytes]] = {
    "two.wav": lambda: encode(sound(1), format="WAV") + encode(sound(1, 1), format="WAV"),
    "two.flac": lambda: encode(sound(1), format="FLAC") + encode(sound(1, 1), format="FLAC"),
    "two.au": lambda: encode(sound(1), format="AU") + encode(sound(1, 1), format="AU"),
    "one and two channels.mp3": lambda: mp3(sound(1)) + mp3(np.stack([sound(1, 1), sound(1, 2)], 1)),
    "two.ogg": lambda: encode(sound(1), format="OGG") + encode(sound(1, 1), format="OGG"),
}


@pytest.mark.parametrize("name", JOINED)
def test_joined_files_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(JOINED[name]())
    with pytest.raises(AudioError, match=r"several that were joined, of which only the first would be read; split it"):
        read_audio(tmp_path / name, sampling_rate=RATE)


@pytest.mark.parametrize("rest", [b"", bytes(40_000), b"TAG" + b"\1" * 20_000, b"LIST" + b"\xff" * 20_000, b"\1" * 100])
def test_what_may_follow_the_sound_of_a_wav(rest: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(encode(sound(1), format="WAV", subtype="PCM_16") + rest)
    assert len(read_audio(tmp_path / "a.wav", sampling_rate=RATE)) == RATE


def test_a_wav_that_holds_more_sound_than_it_tells_of_is_refused(tmp_path: Path) -> None:
    data = bytearray(encode(sound(4), format="WAV", subtype="PCM_16"))
    place = data.index(b"data")
    data[place + 4 : place + 8] = RATE.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(AudioError, match=r"112,000 bytes \(3\.50 s\) after the sound that its header tells of"):
        read_audio(tmp_path / "a.wav", sampling_rate=RATE)


@pytest.mark.parametrize(("name", "kind"), [("a.sph", "NIST"), ("a.wave", "WAV"), ("a.aifc", "AIFF")])
def test_rarer_names_are_found_in_folders_and_read(name: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(encode(sound(1), format=kind))
    assert [path.name for path in find_audio(tmp_path)] == [name]
    assert len(read_audio(tmp_path / name, sampling_rate=RATE)) == RATE


def test_a_wav_without_sound_is_not_taken_for_an_unfinished_one(tmp_path: Path) -> None:
    data = encode(sound(0.1), format="WAV", subtype="PCM_16")
    place = data.index(b"data")
    empty = bytearray(data[: place + 8]) + b"LIST" + (4).to_bytes(4, "little") + b"INFO"
    empty[place + 4 : place + 8] = bytes(4)
    empty[4:8] = (len(empty) - 8).to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(empty)
    with pytest.raises(AudioError, match="holds no samples"):
        read_audio(tmp_path / "a.wav", sampling_rate=RATE)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 3])
def test_blocks_together_are_the_whole_to_the_bit(rate: int, channels: int, tmp_path: Path) -> None:
    import soxr

    samples = np.random.default_rng(0).normal(size=(2_200_000 // channels, channels)).astype(np.float32) * 0.1
    soundfile.write(tmp_path / "a.wav", samples, rate, subtype="FLOAT")
    mono = samples[:, 0] if channels == 1 else samples.mean(axis=1, dtype=np.float64).astype(np.float32)
    whole = soxr.resample(mono, rate, RATE, quality="HQ")
    blocks = list(read_blocks(tmp_path / "a.wav", sampling_rate=RATE))
    assert len(blocks) > 1
    np.testing.assert_array_equal(np.concatenate(blocks), whole)
    assert digest_audio(tmp_path / "a.wav") == digest_samples(whole)


def test_what_lasts_too_long_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", sound(8), RATE)
    with pytest.raises(AudioError, match=r"lasts 0\.0 h, more than 0\.002 h.*--max-hours"):
        read_audio(tmp_path / "a.wav", sampling_rate=RATE, most_hours=0.002)
    assert len(read_audio(tmp_path / "a.wav", sampling_rate=RATE, start=1, end=2, most_hours=0.002)) == RATE
    (tmp_path / "mine.csv").write_text("path,label\na.wav,anger\n")
    with pytest.raises(embedkit.EmbedkitError, match="--max-hours"):
        embedkit.extract(tmp_path / "mine.csv", encoder="mfcc", max_hours=0.002, out=tmp_path / "s.h5")
    found = embedkit.check_corpus(tmp_path / "mine.csv", max_hours=0.002)
    assert found.findings[0].kind == "unreadable"


MEMORY = """
import json, resource, sys
import embedkit
from embedkit.audio import digest_audio
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
told = {}
for name, call in {
    "check": lambda: [one.kind for one in embedkit.check_corpus("mine.csv").findings],
    "digest": lambda: digest_audio("long.flac"),
    "extract": lambda: embedkit.extract("mine.csv", encoder="mfcc"),
}.items():
    try:
        told[name] = str(call())
    except embedkit.EmbedkitError as error:
        told[name] = str(error)
told["megabytes"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
print(json.dumps(told))
"""


def test_a_small_file_never_becomes_gigabytes(tmp_path: Path) -> None:
    hour = np.zeros(3600 * 8000, np.int16)
    with soundfile.SoundFile(tmp_path / "long.flac", "w", 8000, 1, "PCM_16") as file:
        for _ in range(3):
            file.write(hour)
    (tmp_path / "mine.csv").write_text("path,label\nlong.flac,anger\n")
    assert (tmp_path / "long.flac").stat().st_size < 4e6
    done = subprocess.run([sys.executable, "-c", MEMORY], cwd=tmp_path, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert "10800.00 s, more than the 3600 s that mfcc hears at once" in told["extract"]
    assert "silence" in told["check"]
    assert told["megabytes"] < 600


def test_files_that_are_not_decoded_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide_torchcodec(monkeypatch)
    soundfile.write(tmp_path / "a.wav", sound(1), RATE)
    for name in ("b.m4a", "c.MP4", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    told: list[str] = []
    assert [path.name for path in find_audio(tmp_path, told.append)] == ["a.wav"]
    assert len(told) == 1
    assert "2 files" in told[0]
    assert "b.m4a, c.MP4" in told[0]
    assert install_command("video") in told[0]
    (tmp_path / "a.wav").unlink()
    with pytest.raises(CorpusError, match=r"holds no audio.*2 files.*b\.m4a"):
        find_audio(tmp_path)
