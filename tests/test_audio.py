"""Audio is decoded as numpy says it should be, and whatever cannot be decoded gets one sentence."""

import hashlib
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st

from embedkit import audio
from embedkit.audio import AudioInfo, StretchReader, digest_audio, digest_file, probe_audio, read_audio
from embedkit.errors import AudioError


def write(path: Path, samples: np.ndarray, rate: int = 16000, subtype: str = "FLOAT") -> Path:
    soundfile.write(str(path), samples, rate, subtype=subtype)
    return path


def sine(hertz: float, rate: int, seconds: float) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


def message(path: Path, **options: float) -> str:
    """The sentence of the AudioError: one line that names the file."""
    with pytest.raises(AudioError) as caught:
        read_audio(path, sampling_rate=16000, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    assert path.name.split("\n")[0] in text
    return text


def test_probe_reads_the_header(tmp_path: Path) -> None:
    file = write(tmp_path / "a.wav", np.zeros((24000, 2)), 48000)
    assert probe_audio(file) == AudioInfo(frames=24000, sampling_rate=48000, channels=2, duration_seconds=0.5)


def test_samples_come_back_bit_exact_at_their_own_rate(tmp_path: Path) -> None:
    pcm = np.random.default_rng(0).integers(-32768, 32767, 5000, dtype=np.int16)
    for name in ("a.wav", "a.flac"):
        soundfile.write(str(tmp_path / name), pcm, 16000, subtype="PCM_16")
        audio = read_audio(tmp_path / name, sampling_rate=16000)
        assert audio.dtype == np.float32
        np.testing.assert_array_equal(audio, pcm.astype(np.float32) / 32768)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000, 384000, 768000])
def test_a_resampled_sine_is_that_sine(tmp_path: Path, rate: int) -> None:
    file = write(tmp_path / "sine.wav", sine(440, rate, 1.0), rate)
    audio = read_audio(file, sampling_rate=16000)
    assert abs(len(audio) - 16000) <= 1
    middle = slice(2000, 14000)
    assert np.abs(audio[middle] - sine(440, 16000, 1.0)[middle]).max() < 1e-4


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_resampling_is_torchaudios_where_both_let_sound_through(tmp_path: Path, rate: int) -> None:
    # Noise up to 3 kHz (as far as the lowest rate goes without coming near its end), which both must leave alone; how
    # steeply they cut above is a matter of taste. torchaudio's filter is set as long as that of soxr's high quality.
    generator = np.random.default_rng(0)
    spectrum = generator.normal(size=rate + 1) + 1j * generator.normal(size=rate + 1)
    spectrum[6000:] = 0
    noise = np.fft.irfft(spectrum)
    noise = (0.5 * noise / np.abs(noise).max()).astype(np.float32)
    ours = read_audio(write(tmp_path / "noise.wav", noise, rate), sampling_rate=16_000)
    theirs = torchaudio.functional.resample(
        torch.from_numpy(noise),
        rate,
        16_000,
        lowpass_filter_width=64,
        resampling_method="sinc_interp_kaiser",
        beta=14.77,
    ).numpy()
    assert abs(len(ours) - len(theirs)) <= 1
    # Beyond the ends, where one sees silence and the other the same.
    middle = slice(500, 31_500)
    error = np.linalg.norm(ours[middle] - theirs[middle]) / np.linalg.norm(theirs[middle])
    # 90 dB below the sound, about what 16 bits resolve.
    assert error < 3e-5


def test_a_tone_above_the_new_nyquist_is_removed(tmp_path: Path) -> None:
    file = write(tmp_path / "high.wav", sine(20000, 48000, 0.5), 48000)
    assert np.abs(read_audio(file, sampling_rate=16000)[800:-800]).max() < 1e-3


def test_eight_channels_are_averaged(tmp_path: Path) -> None:
    channels = np.random.default_rng(1).uniform(-1, 1, (3000, 8)).astype(np.float32)
    file = write(tmp_path / "eight.wav", channels)
    np.testing.assert_allclose(read_audio(file, sampling_rate=16000), channels.mean(axis=1), atol=1e-7)


@given(first=st.integers(0, 15998), length=st.integers(1, 16000))
@settings(max_examples=40, deadline=None)
def test_a_segment_is_that_part_of_the_file(tmp_path_factory: pytest.TempPathFactory, first: int, length: int) -> None:
    file = tmp_path_factory.getbasetemp() / "segment.flac"
    pcm = np.random.default_rng(2).integers(-32768, 32767, 16000, dtype=np.int16)
    if not file.exists():
        soundfile.write(str(file), pcm, 16000, subtype="PCM_16")
    last = min(first + length, 16000)
    audio = read_audio(file, sampling_rate=16000, start=first / 16000, end=last / 16000)
    np.testing.assert_array_equal(audio, pcm[first:last].astype(np.float32) / 32768)


@pytest.mark.parametrize(
    ("format", "subtype", "rate", "channels"),
    [("WAV", "PCM_16", 16000, 1), ("WAV", "FLOAT", 44100, 2), ("FLAC", "PCM_16", 44100, 2), ("MP3", None, 44100, 1)],
)
def test_stretches_of_a_file_that_is_read_once_are_what_each_is_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, subtype: str | None, rate: int, channels: int
) -> None:
    noise = 0.1 * np.random.default_rng(0).normal(size=(rate * 3, channels))
    soundfile.write(tmp_path / "a", noise, rate, format=format, subtype=subtype)
    monkeypatch.setattr(audio, "_BLOCK_SAMPLES", 20_000)
    # Windows that overlap, one longer than a block, a leap, and the end.
    times = [(0.0, 0.4), (0.1, 0.5), (0.1, 1.9), (0.25, 0.3), (2.0, 2.1), (2.6, None)]
    wanted = [read_audio(tmp_path / "a", sampling_rate=16000, start=start, end=end) for start, end in times]
    back = read_audio(tmp_path / "a", sampling_rate=16000, start=0.0, end=0.4)
    opened: list[Path] = []
    first = audio._open
    monkeypatch.setattr(audio, "_open", lambda *given: opened.append(given[0]) or first(*given))
    with StretchReader(tmp_path / "a") as reader:
        for (start, end), samples in zip(times, wanted, strict=True):
            # What an MP3 decodes to depends on how much is decoded at once, in the last bits.
            np.testing.assert_allclose(reader.read(start, end, 16000), samples, rtol=0, atol=1e-6 * (format == "MP3"))
        assert len(opened) == 1
        with pytest.raises(AudioError, match="lies outside the file"):
            reader.read(7.0, 8.0, 16000)
        np.testing.assert_array_equal(reader.read(0.0, 0.4, 16000), back)


def test_stretches_beside_damage_are_read(tmp_path: Path) -> None:
    samples = 0.1 * np.random.default_rng(0).normal(size=32_000)
    samples[16_000] = np.nan
    path = write(tmp_path / "a.wav", samples)
    with StretchReader(path) as reader:
        for start, end in ((0.0, 0.4), (0.5, 0.9), (1.1, 1.5)):
            wanted = read_audio(path, sampling_rate=16000, start=start, end=end)
            np.testing.assert_array_equal(reader.read(start, end, 16000), wanted)
            with pytest.raises(AudioError, match="NaN"):
                reader.read(0.9, 1.1, 16000)


def test_windows_of_a_long_file_take_no_more_memory_than_those_of_a_short_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audio, "_BLOCK_SAMPLES", 16_000)
    noise = 0.1 * np.random.default_rng(0).normal(size=16_000 * 10).astype(np.float32)
    peaks = []
    for seconds in (10, 100):
        path = write(tmp_path / f"{seconds}.wav", np.tile(noise, seconds // 10))
        with StretchReader(path) as reader:
            reader.probe()
            tracemalloc.start()
            for start in range(seconds - 4):
                reader.read(float(start), start + 4.0, 16_000)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    # Four seconds of float32 are 256 kB.
    assert peaks[1] < peaks[0] + 50_000 < 2_000_000


def test_an_open_segment_reaches_from_the_start_or_to_the_end(tmp_path: Path) -> None:
    noise = np.random.default_rng(3).uniform(-1, 1, 16000).astype(np.float32)
    file = write(tmp_path / "a.wav", noise)
    np.testing.assert_array_equal(read_audio(file, sampling_rate=16000, start=0.25), noise[4000:])
    np.testing.assert_array_equal(read_audio(file, sampling_rate=16000, end=0.25), noise[:4000])


def test_an_end_just_beyond_the_file_is_clipped(tmp_path: Path) -> None:
    file = write(tmp_path / "a.wav", np.full(16000, 0.1))
    assert len(read_audio(file, sampling_rate=16000, start=0.5, end=1.049)) == 8000
    assert "lasts 1.000 s" in message(file, start=0.5, end=1.051)


@pytest.mark.parametrize(
    "segment",
    [
        {"start": 0.5, "end": 0.5},
        {"start": 0.6, "end": 0.5},
        {"start": -0.1, "end": 0.5},
        {"start": 1.0},
        {"start": 1.02, "end": 1.04},
        {"start": 7.0},
        {"start": float("nan")},
        {"end": float("inf")},
        {"start": 0.5, "end": 0.500001},
    ],
)
def test_a_segment_outside_the_file_is_told(tmp_path: Path, segment: dict[str, float]) -> None:
    file = write(tmp_path / "a.wav", np.full(16000, 0.1))
    assert "segment" in message(file, **segment)


def test_resampling_is_deterministic(tmp_path: Path) -> None:
    file = write(tmp_path / "a.wav", np.random.default_rng(4).uniform(-1, 1, 44100), 44100)
    first, second = (read_audio(file, sampling_rate=16000).tobytes() for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    "name",
    ["two words.wav", "new\nline.wav", "[red]b[bold].wav", "größe-声.wav", "per%cent.wav", "-dash.wav", "a'b.wav"],
)
def test_names_of_any_kind(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    soundfile.write(file.open("wb"), np.full(160, 0.1), 16000, format="WAV")
    assert len(read_audio(file, sampling_rate=16000)) == 160
    file.write_bytes(b"not audio")
    message(file)


@pytest.mark.skipif(os.name != "posix", reason="file names are text on this system")
def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    file = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
    soundfile.write(file.open("wb"), np.full(160, 0.1), 16000, format="WAV")
    assert len(read_audio(file, sampling_rate=16000)) == 160
    file.write_bytes(b"")
    with pytest.raises(AudioError) as caught:
        probe_audio(file)
    str(caught.value).encode()


def test_what_is_no_audio_file(tmp_path: Path) -> None:
    assert "no audio file" in message(tmp_path / "missing.wav")
    assert "not a file" in message(tmp_path)
    empty = tmp_path / "empty.wav"
    empty.touch()
    assert "0 bytes" in message(empty)
    text = tmp_path / "text.wav"
    text.write_text("hello")
    assert "Cannot decode" in message(text)
    raw = tmp_path / "headerless.raw"
    raw.write_bytes(bytes(1000))
    assert "Cannot decode" in message(raw)
    assert "no samples" in message(write(tmp_path / "none.wav", np.zeros(0)))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    assert "not a file" in message(tmp_path / "pipe.wav")


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.aiff"])
def test_truncated_files_are_told(tmp_path: Path, name: str) -> None:
    whole = tmp_path / name
    soundfile.write(str(whole), np.random.default_rng(5).uniform(-1, 1, 32000), 16000, subtype="PCM_16")
    content = whole.read_bytes()
    for share in (0.1, 0.5, 0.9):
        whole.write_bytes(content[: round(len(content) * share)])
        assert "truncated" in message(whole)
        if name != "a.flac":
            with pytest.raises(AudioError, match="truncated"):
                probe_audio(whole)


def test_a_wav_file_written_through_a_pipe_is_whole(tmp_path: Path) -> None:
    file = write(tmp_path / "a.wav", np.full(1600, 0.1), subtype="PCM_16")
    content = bytearray(file.read_bytes())
    where = content.index(b"data") + 4
    content[where : where + 4] = b"\xff\xff\xff\xff"
    file.write_bytes(bytes(content))
    assert len(read_audio(file, sampling_rate=16000)) == 1600


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_samples_that_are_not_finite_are_told(tmp_path: Path, bad: float, rate: int) -> None:
    samples = np.zeros((4000, 2), np.float32)
    samples[1234, 1] = bad
    assert "NaN or infinite" in message(write(tmp_path / "a.wav", samples, rate))
    samples[1234, 0] = -bad
    assert "NaN or infinite" in message(write(tmp_path / "a.wav", samples, rate))


@pytest.mark.parametrize("peak", [17.0, 9830.0, 3e38])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_floats_in_the_scale_of_integers_are_told(tmp_path: Path, peak: float, subtype: str) -> None:
    samples = np.zeros(3_000_000, np.float32)
    samples[-1] = -peak
    soundfile.write(tmp_path / "a.wav", samples, 44100, subtype=subtype)
    assert "expected [-1, 1]: the scale of integers" in message(tmp_path / "a.wav")
    assert ("--rescale" in message(tmp_path / "a.wav")) == (peak < 32_768)
    samples[-1] = 15.0
    soundfile.write(tmp_path / "a.wav", samples, 44100, subtype=subtype)
    assert len(read_audio(tmp_path / "a.wav", sampling_rate=16_000))


@pytest.mark.parametrize(("scale", "divided"), [(1, 1), (8, 1), (32_768, 32_768), (2**31, None)])
def test_floats_in_the_scale_of_16_bits_are_divided_where_asked(
    scale: float, divided: float | None, tmp_path: Path
) -> None:
    tone = np.float32(sine(300, 16_000, 0.5))
    tone[:4_000] *= 1e-5
    file = write(tmp_path / "a.wav", tone * np.float32(scale))
    write(tmp_path / "right.wav", tone * np.float32(scale / (divided or 1)))
    if divided is None:
        for end in (0.25, None):
            with pytest.raises(AudioError, match="integers, it seems; divide"):
                read_audio(file, sampling_rate=16_000, end=end, rescale=True)
        return
    # Also what is silent is in the scale of its file.
    quiet = read_audio(file, sampling_rate=16_000, end=0.25, rescale=True)
    np.testing.assert_array_equal(quiet, tone[:4_000] * np.float32(scale / divided))
    for rate in (16_000, 8_000):
        expected = read_audio(tmp_path / "right.wav", sampling_rate=rate)
        np.testing.assert_array_equal(read_audio(file, sampling_rate=rate, rescale=True), expected)
    assert digest_audio(file) == digest_audio(tmp_path / "right.wav")


@pytest.mark.parametrize("rate", [1, 999, 768001, 2_000_000])
def test_absurd_sampling_rates_are_told(tmp_path: Path, rate: int) -> None:
    file = write(tmp_path / "a.wav", np.full(160, 0.1), 16000)
    content = bytearray(file.read_bytes())
    where = content.index(b"fmt ") + 12
    content[where : where + 8] = struct.pack("<II", rate, rate * 4)
    file.write_bytes(bytes(content))
    assert f"{rate} Hz" in message(file)


def test_a_clip_too_short_for_one_sample_is_told(tmp_path: Path) -> None:
    assert "leaves none" in message(write(tmp_path / "a.wav", np.full(2, 0.1), 384000))
    assert len(read_audio(write(tmp_path / "b.wav", np.full(1, 0.5)), sampling_rate=16000)) == 1


@given(
    damage=st.lists(st.tuples(st.integers(0, 119), st.integers(0, 255)), min_size=1, max_size=8),
    cut=st.integers(0, 2000),
)
@settings(max_examples=150, deadline=None)
def test_damaged_headers_never_crash(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[int, int]], cut: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    for name in ("damaged.wav", "damaged.flac"):
        file = folder / name
        soundfile.write(str(file), sine(300, 16000, 0.1), 16000, subtype="PCM_16")
        content = bytearray(file.read_bytes())
        for where, byte in damage:
            content[where] = byte
        file.write_bytes(bytes(content[: len(content) - cut]))
        error = ""
        try:
            audio = read_audio(file, sampling_rate=16000)
        except AudioError as caught:
            error = str(caught)
        assert "\n" not in error
        assert error or (audio.size and np.isfinite(audio).all())


def test_the_digest_follows_the_bytes(tmp_path: Path) -> None:
    file = tmp_path / "a.wav"
    file.write_bytes(b"abc")
    assert digest_file(file) == hashlib.blake2b(b"abc", digest_size=16).hexdigest()
    with pytest.raises(AudioError, match=r"missing\.wav"):
        digest_file(tmp_path / "missing.wav")
    with pytest.raises(AudioError):
        digest_file(tmp_path)
