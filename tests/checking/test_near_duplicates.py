"""Copies that another codec, gain or cut has changed are found; other utterances are not."""

import io
from collections.abc import Callable

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from embedkit.checking.near_duplicates import find_near_duplicates, take_fingerprint

RATE = 16_000
Samples = NDArray[np.float32]


def speak(seed: int, seconds: float = 1.5) -> Samples:
    """Make a voice-like clip: syllables of a gliding pitch through changing formants."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    anchors = np.linspace(0, seconds, 9)
    pitch = np.interp(time, anchors, rng.uniform(100, 220, 9))
    formant = np.interp(time, anchors, rng.uniform(400, 2500, 9))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    voice = sum(np.exp(-(((pitch * k - formant) / 400) ** 2)) * np.sin(k * phase) for k in range(1, 20))
    loudness = np.interp(time, anchors, rng.uniform(0.1, 1, 9))
    clip = voice * loudness
    return (0.6 * clip / np.abs(clip).max() + 0.003 * rng.standard_normal(len(time))).astype(np.float32)


def as_mp3(samples: Samples) -> Samples:
    stream = io.BytesIO()
    soundfile.write(stream, samples, RATE, format="MP3", bitrate_mode="CONSTANT", compression_level=0.7)
    stream.seek(0)
    return np.asarray(soundfile.read(stream, dtype="float32")[0])


CHANGES: dict[str, Callable[[Samples], Samples]] = {
    "mp3": as_mp3,
    "louder": lambda samples: np.clip(2 * samples, -1, 1),
    "softer": lambda samples: samples / 2,
    "cut at the start": lambda samples: samples[800:],
    "cut at the end": lambda samples: samples[:-800],
    "all at once": lambda samples: as_mp3(samples[800:] / 2),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changed_copies_are_found_and_nothing_else(change: Callable[[Samples], Samples]) -> None:
    clips = [speak(seed) for seed in range(30)]
    found = find_near_duplicates([take_fingerprint(clip, RATE) for clip in [*clips, *map(change, clips)]])
    assert found == [(place, place + 30) for place in range(30)]


def test_another_rate_is_a_copy() -> None:
    clip = speak(1)
    assert find_near_duplicates([take_fingerprint(clip, RATE), take_fingerprint(clip[::2], RATE // 2)]) == [(0, 1)]


def test_silence_and_what_is_alone_have_no_copies() -> None:
    silent = take_fingerprint(np.zeros(RATE, np.float32), RATE)
    assert silent is None
    assert find_near_duplicates([silent, silent]) == []
    assert find_near_duplicates([]) == []
    assert find_near_duplicates([take_fingerprint(speak(0), RATE), None]) == []
