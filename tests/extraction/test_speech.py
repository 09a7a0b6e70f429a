"""Speech is found as Silero VAD finds it, in memory that does not grow with the recording."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from embedkit.audio import read_audio
from embedkit.errors import ConfigError
from embedkit.extraction import speech
from embedkit.extraction.speech import FRAME, RATE, find_speech, find_stretches, listen, open_vad
from embedkit.installation import install_command

needs_vad = pytest.mark.skipif(
    find_spec("silero_vad") is None or find_spec("onnxruntime") is None,
    reason="silero-vad or onnxruntime is not installed (pip install '.[vad]')",
)


def stretches_of(probabilities: NDArray[np.float64], length: int) -> list[tuple[int, int]]:
    """Find speech over all frames at once, by masks: from 0.5 on until 0.35 was not reached for 100 ms."""
    inside = np.zeros(len(probabilities), bool)
    quiet: NDArray[np.bool_] = probabilities < 0.35
    loud = probabilities >= 0.5
    found = []
    place = 0
    while place < len(probabilities):
        if not loud[place]:
            place += 1
            continue
        end = place
        last: int | None = None
        for end in range(place, len(probabilities)):
            since = end - np.flatnonzero(loud[: end + 1])[-1] if loud[: end + 1].any() else 0
            silent = np.flatnonzero(quiet[end - since : end + 1])
            if quiet[end] and (since - silent[0]) * 512 >= 1600:
                last = end - since + int(silent[0])
                break
        inside[place:last] = True
        stop = length if last is None else last * 512
        if stop - place * 512 > 4000:
            found.append((max(0, place * 512 - 480), min(length, stop + 480)))
        place = len(probabilities) if last is None else end + 1
    return found


def test_stretches_are_those_of_the_rule() -> None:
    generator = np.random.default_rng(0)
    some = 0
    for _ in range(60):
        walk = np.clip(0.5 + np.cumsum(generator.normal(scale=0.12, size=150)), 0, 1)
        walk = np.abs((0.5 + np.cumsum(generator.normal(scale=0.2, size=150))) % 2 - 1) if walk.std() < 0.1 else walk
        length = 150 * FRAME - int(generator.integers(FRAME))
        halves = [(walk[:70], 70 * FRAME), (walk[70:], length - 70 * FRAME)]
        found = find_stretches(halves)
        assert found == stretches_of(walk, length)
        some += len(found)
    assert some > 60


def test_short_speech_and_short_silence_do_not_count() -> None:
    def find(*runs: tuple[float, int]) -> list[tuple[int, int]]:
        probabilities = np.concatenate([np.full(frames, one, np.float32) for one, frames in runs])
        return find_stretches([(probabilities, len(probabilities) * FRAME)])

    assert find((0.0, 10), (0.9, 7), (0.0, 10)) == []
    assert find((0.0, 10), (0.9, 8), (0.0, 10)) == [(10 * FRAME - 480, 18 * FRAME + 480)]
    assert len(find((0.9, 20), (0.1, 4), (0.9, 20))) == 1
    assert len(find((0.9, 20), (0.1, 5), (0.9, 20))) == 2
    assert len(find((0.9, 20), (0.4, 50), (0.9, 20))) == 1
    assert find((0.9, 20)) == [(0, 20 * FRAME)]


@needs_vad
def test_probabilities_are_those_of_the_packages_own_network_frame_by_frame() -> None:
    import onnxruntime

    generator = np.random.default_rng(0)
    samples = (0.1 * generator.normal(size=3 * RATE + 77) * np.sin(np.arange(3 * RATE + 77) / 900)).astype(np.float32)
    pieces = [samples[:100], samples[100:20_000], samples[20_000:20_001], samples[20_001:]]
    passes = list(listen(open_vad(), pieces))
    assert sum(count for _, count in passes) == len(samples)
    folder = Path(next(iter(find_spec("silero_vad").submodule_search_locations)), "data")  # type: ignore[union-attr, arg-type]
    session = onnxruntime.InferenceSession(str(folder / "silero_vad.onnx"), providers=["CPUExecutionProvider"])
    state, context, wanted = np.zeros((2, 1, 128), np.float32), np.zeros(64, np.float32), []
    for first in range(0, len(samples), 512):
        frame = samples[first : first + 512]
        given = np.concatenate([context, frame, np.zeros(512 - len(frame), np.float32)])
        (probability,), state = session.run(
            None, {"input": given[None], "state": state, "sr": np.array(16000, np.int64)}
        )
        context = given[-64:]
        wanted.append(probability[0])
    np.testing.assert_allclose(np.concatenate([one for one, _ in passes]), wanted, atol=1e-5)
    assert "silero_vad" not in sys.modules


@needs_vad
def test_speech_is_found_between_silences(tmp_path: Path) -> None:
    shared = os.environ.get("EMBEDKIT_SHARED")
    if not shared:
        pytest.skip("needs speech: EMBEDKIT_SHARED is not set")
    clip = read_audio(next(Path(shared, "data", "emodb", "audio").glob("03a01F*")), sampling_rate=RATE)
    silence = np.zeros(RATE, np.float32)
    soundfile.write(tmp_path / "a.wav", np.concatenate([silence, clip, silence, silence, clip, silence]), RATE)
    found = find_speech(tmp_path / "a.wav")
    length = len(clip) / RATE
    for begin, end in found:
        assert 0.9 <= begin < end <= 1.2 + length or 2.9 + length <= begin < end <= 3.2 + 2 * length
    assert sum(end - begin for begin, end in found) > length
    late = find_speech(tmp_path / "a.wav", start=2.0 + length)
    assert late[0][0] == pytest.approx(next(one for one, _ in found if one > 2 + length) - 2 - length, abs=0.1)
    soundfile.write(tmp_path / "b.wav", silence, RATE)
    assert find_speech(tmp_path / "b.wav") == []


@pytest.fixture
def afresh() -> Any:
    open_vad.cache_clear()
    yield
    open_vad.cache_clear()


@pytest.mark.parametrize("package", ["silero_vad", pytest.param("onnxruntime", marks=needs_vad)])
def test_without_the_extra_a_sentence_says_what_to_type(
    package: str, afresh: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError) as caught:
        open_vad()
    command = install_command("vad")
    assert str(caught.value) == f"--vad silero needs {package}, which is not installed; run {command}, or leave it out."


@needs_vad
def test_other_weights_are_told(afresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "WEIGHTS", "silero_vad_16k.safetensors")
    with pytest.raises(ConfigError, match=r"is no network of Silero VAD; install silero-vad anew"):
        open_vad()
