"""m4a, mp4, webm and the like: decoded to their end where TorchCodec is, told in one sentence where it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from embedkit.audio import StretchReader, find_audio, probe_audio, read_audio, read_blocks
from embedkit.errors import AudioError
from embedkit.installation import install_command
from tests.containers import hide_torchcodec, load_encoders, stand_in, write_container


def message(path: Path) -> str:
    """The sentence of the AudioError: one line that names the file."""
    with pytest.raises(AudioError) as caught:
        read_audio(path, sampling_rate=16000)
    assert "\n" not in str(caught.value)
    assert repr(str(path)) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("channels", "rate"), [(1, 16000), (2, 44100)])
def test_length_and_samples_are_those_that_are_decoded(
    channels: int, rate: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch)
    monkeypatch.setattr("embedkit.audio._BLOCK_SAMPLES", 5000)
    lengths = [1024, 0, 7, 20_000, 1024, 1]
    samples = write_container(tmp_path / "a.m4a", lengths, channels=channels, rates=(rate,), told=0.1)
    mono = samples.mean(axis=1, dtype=np.float64).astype(np.float32)
    info = probe_audio(tmp_path / "a.m4a")
    assert (info.frames, info.sampling_rate, info.channels) == (sum(lengths), rate, channels)
    np.testing.assert_array_equal(read_audio(tmp_path / "a.m4a", sampling_rate=rate), mono)
    blocks = list(read_blocks(tmp_path / "a.m4a", sampling_rate=rate))
    assert max(map(len, blocks)) <= 5000
    for first, last in ((0, 10), (1000, 1040), (3000, 22_000), (22_055, 22_056)):
        part = read_audio(tmp_path / "a.m4a", sampling_rate=rate, start=first / rate, end=last / rate)
        np.testing.assert_array_equal(part, mono[first:last])


def test_windows_decode_a_container_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    samples = write_container(tmp_path / "a.m4a", [1000] * 40)[:, 0]
    monkeypatch.setattr("embedkit.audio._BLOCK_SAMPLES", 3000)
    monkeypatch.setattr("embedkit.audio_streams.Stream.seek", lambda *_: pytest.fail("it was decoded from its start"))
    with StretchReader(tmp_path / "a.m4a") as reader:
        for first in range(0, 38_000, 500):
            part = reader.read(first / 16000, (first + 2000) / 16000, 16000)
            np.testing.assert_array_equal(part, samples[first : first + 2000])


def test_the_content_says_what_a_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    samples = write_container(tmp_path / "phone.wav", [500])
    np.testing.assert_array_equal(read_audio(tmp_path / "phone.wav", sampling_rate=16000), samples[:, 0])
    (tmp_path / "list.m4a").write_text("#EXTM3U\nfile:///etc/passwd\n")
    assert "Format not recognised" in message(tmp_path / "list.m4a")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"breaks": True}, "(Failed to send packet to decoder (status -1094995529)); it is damaged or truncated"),
        ({"told": 3.0}, "is truncated: 0.03 s of 3.00 s are there"),
        ({"channels": 0}, "holds no sound (No valid audio stream found in input file); leave it out"),
        ({"lengths": []}, "holds no sound; leave it out"),
        ({"lengths": [500, 500], "rates": (16_000, 8_000)}, "changes its sampling rate"),
    ],
)
def test_what_cannot_be_decoded_is_one_sentence(
    more: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch)
    write_container(tmp_path / "a.mp4", **{"lengths": [500], **more})
    assert words in message(tmp_path / "a.mp4")


@pytest.mark.parametrize("told", [4 * 3600.0, 0.1, None])
def test_what_lasts_too_long_is_refused_before_it_is_decoded_to_its_end(
    told: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch)
    write_container(tmp_path / "a.m4a", [16_000] * 9, told=told, breaks=True)
    for read in (read_audio, lambda path, sampling_rate, most_hours: probe_audio(path, most_hours=most_hours)):
        with pytest.raises(AudioError, match=r"a\.m4a' lasts .* h, more than 0\.002 h.*--max-hours"):
            read(tmp_path / "a.m4a", sampling_rate=16_000, most_hours=0.002)


def test_a_damaged_beginning_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(300))
    assert "(Could not open input buffer: Invalid data); it is damaged or truncated, copy it again." in message(
        tmp_path / "a.m4a"
    )


def test_without_torchcodec_or_ffmpeg_the_sentence_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_container(tmp_path / "a.m4a", [500])
    hide_torchcodec(monkeypatch)
    assert f"run {install_command('video')}, or convert it to WAV" in message(tmp_path / "a.m4a")
    stand_in(monkeypatch, ffmpeg=None)
    assert "needs FFmpeg" in message(tmp_path / "a.m4a")


def test_folders_list_them_where_they_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    for name in ("b.m4a", "c.MP4", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    told: list[str] = []
    assert [path.name for path in find_audio(tmp_path, told.append)] == ["b.m4a", "c.MP4"]
    assert not told


@pytest.mark.parametrize("name", ["a.m4a", "a.mp4", "a.webm"])
def test_torchcodec_itself_reads_a_tone(name: str, tmp_path: Path) -> None:
    encoders = load_encoders()
    time = torch.arange(3 * 48_000) / 48_000
    tone = 0.3 * torch.sin(2 * torch.pi * 440 * time).expand(2, -1).contiguous()
    with encoders.Encoder() as encoder:
        sound = encoder.add_audio(sample_rate=48_000, num_channels=2)
        pictures = encoder.add_video(frame_rate=10, height=64, width=64) if name == "a.mp4" else None
        encoder.open_file(tmp_path / name)
        if pictures is not None:
            pictures.add_frames(torch.zeros(30, 3, 64, 64, dtype=torch.uint8))
        sound.add_samples(tone)
    audio = read_audio(tmp_path / name, sampling_rate=16_000)
    assert probe_audio(tmp_path / name).channels == 2
    assert abs(len(audio) - 48_000) < 1_600
    spectrum = np.abs(np.fft.rfft(audio[8_000:40_000]))
    assert spectrum.argmax() == 880
    assert np.abs(audio[8_000:40_000]).max() == pytest.approx(0.3, rel=0.05)


def test_torchcodec_itself_finds_no_sound_in_pictures(tmp_path: Path) -> None:
    encoders = load_encoders()
    encoders.VideoEncoder(torch.zeros(5, 3, 64, 64, dtype=torch.uint8), frame_rate=10).to_file(tmp_path / "a.mp4")
    assert "holds no sound" in message(tmp_path / "a.mp4")
