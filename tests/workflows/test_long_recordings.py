"""Windows of a recording, and speech in it, are predicted as files of their own, whatever interrupts it."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import embedkit
from embedkit.corpora.clips import Clip, find_clips
from embedkit.errors import AudioError, ConfigError
from embedkit.training.runs import RunRecord
from embedkit.workflows import cut_clips as cutting
from embedkit.workflows.cut_clips import cut_windows
from embedkit.workflows.predict_file import write_predictions
from tests.workflows.tones import RATE, fit_tones, write_tones


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    folder = tmp_path_factory.mktemp("run")
    return fit_tones(write_tones(folder / "corpus"), "mfcc", head=["linear"], seeds=1, epochs=1)


def write_recording(path: Path, seconds: float, rate: int = RATE, subtype: str = "PCM_16") -> Path:
    """Write tones of two pitches by turns, in noise."""
    time = np.arange(round(rate * seconds)) / rate
    pitch = np.where(time % 1 < 0.5, 150, 900)
    noise = 0.02 * np.random.default_rng(0).normal(size=len(time))
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * pitch * time) + noise, rate, subtype=subtype)
    return path


@pytest.mark.parametrize(
    ("begin", "end", "window", "hop"),
    [(0, 10, 4, 1), (0, 10.3, 4, 1), (0, 10.00001, 4, 4), (0, 0.7, 0.3, 0.1), (5.5, 9.1, 0.7, 0.3), (0, 1800.05, 4, 1)],
)
def test_windows_cover_what_is_cut(begin: float, end: float, window: float, hop: float) -> None:
    found = cut_windows(begin, end, window, hop)
    starts, ends = np.array(found).T
    assert (starts[0], ends[-1]) == (begin, pytest.approx(end, abs=1e-6))
    assert ends - starts == pytest.approx(np.full(len(found), window), abs=2e-6)
    assert (np.diff(starts) > 1e-6).all()
    assert (np.diff(starts) <= hop + 2e-6).all()
    assert starts[:-1] == pytest.approx(begin + hop * np.arange(len(found) - 1), abs=1e-6)


def test_what_is_no_longer_than_a_window_is_one() -> None:
    assert cut_windows(1.0, 5.0, 4.0, 1.0) == cut_windows(1.0, 5.0, 9.0, 1.0) == [(1.0, 5.0)]


@pytest.mark.parametrize("rate", [RATE, 44100])
def test_a_window_is_predicted_as_the_file_cut_out(record: RunRecord, tmp_path: Path, rate: int) -> None:
    path = write_recording(tmp_path / "long.wav", 3.3, rate)
    found = embedkit.predict(record, path, window=1, hop=0.4)
    assert [(one.start, one.end) for one in found] == cut_windows(0.0, 3.3, 1.0, 0.4)
    samples, _ = soundfile.read(path, dtype="int16")
    for number, one in enumerate(found):
        assert one.start is not None
        assert one.end is not None
        soundfile.write(tmp_path / f"{number}.wav", samples[round(one.start * rate) : round(one.end * rate)], rate)
    alone = embedkit.predict(record, [tmp_path / f"{number}.wav" for number in range(len(found))])
    for one, other in zip(found, alone, strict=True):
        assert one.path == str(path)
        assert one.probabilities == pytest.approx(dict(other.probabilities), abs=1e-5)
    assert len({one.probabilities["high"] for one in found}) > 3


def test_stretches_arrays_and_several_files_are_cut(record: RunRecord, tmp_path: Path) -> None:
    samples, _ = soundfile.read(write_recording(tmp_path / "a.wav", 1.2), dtype="float32")
    stretch = Clip(name="b", path=tmp_path / "a.wav", start=0.2, end=0.9)
    found = embedkit.predict(record, [samples, stretch, tmp_path / "a.wav"], rate=RATE, window=0.5)
    first = [(0.0, 0.5), (0.5, 1.0), (0.7, 1.2)]
    own = [(0.2, 0.7), (0.4, 0.9)]
    told = [(Path(one.path).name, one.start, one.end) for one in found]
    assert told == [
        (name, *times)
        for name, spans in zip(("array 1", "b", "a.wav"), (first, own, first), strict=True)
        for times in spans
    ]
    assert [one.probabilities for one in found[:3]] == [pytest.approx(dict(one.probabilities)) for one in found[5:]]


@pytest.mark.parametrize(("stop", "kept"), [(1, 0), (6, 4), (10, 10)])
def test_what_was_stopped_within_a_recording_goes_on(
    record: RunRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int, kept: int
) -> None:
    # A group of four is predicted together again.
    monkeypatch.setattr(cutting, "GROUP", 4)
    clips = find_clips([write_recording(tmp_path / "a.wav", 2.25), write_recording(tmp_path / "b.wav", 0.6)])
    done: list[tuple[int, int]] = []

    def report(number: int, count: int) -> None:
        done.append((number, count))
        if len(done) == stop:
            raise KeyboardInterrupt

    cut: dict[str, Any] = {"window": 0.5, "hop": 0.25}
    write_predictions(record.folder, clips, tmp_path / "whole", "csv", **cut)
    with pytest.raises(KeyboardInterrupt):
        write_predictions(record.folder, clips, tmp_path / "out", "csv", report=report, **cut)
    done = [(0, 0)] * stop
    write_predictions(record.folder, clips, tmp_path / "out", "csv", report=report, **cut)
    assert done[stop:] == [(number, 10) for number in range(kept + 1, 11)]
    assert (tmp_path / "out").read_bytes() == (tmp_path / "whole").read_bytes()
    assert not (tmp_path / "out.unfinished").exists()


def test_rows_have_their_times_in_every_table(record: RunRecord, tmp_path: Path) -> None:
    path = write_recording(tmp_path / "a.wav", 1.25)
    write_predictions(record.folder, find_clips([path]), tmp_path / "a.csv", "csv", window=0.5)
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "start", "end", "label", "high", "low"]
    assert [(row["start"], row["end"]) for row in rows] == [("0.0", "0.5"), ("0.5", "1.0"), ("0.75", "1.25")]
    audformat = pytest.importorskip("audformat")
    write_predictions(record.folder, find_clips([path]), tmp_path / "found", "audformat", window=0.5)
    index = audformat.Database.load(str(tmp_path / "found"))["predictions"].get().index
    assert [start.total_seconds() for start in index.get_level_values("start")] == [0, 0.5, 0.75]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"hop": 1}, "--hop is 1, but there are no windows; give their length with --window"),
        (
            {"window": 2, "hop": 4},
            "--hop is 4, longer than --window, 2, which leaves out what lies between; give at most 2",
        ),
        ({"window": 0}, "window is 0.0, expected a number of seconds, at least 0.01"),
        ({"window": -4}, "window is -4.0, expected a number of seconds"),
        ({"window": float("nan")}, "window is nan, expected a number of seconds"),
        ({"window": float("inf")}, "window is inf, expected a number of seconds"),
        ({"window": 4, "hop": 0}, "hop is 0.0, expected a number of seconds"),
        ({"window": "4"}, "window is '4', expected a number"),
        ({"vad": "webrtc"}, "vad is 'webrtc', expected one of silero"),
        ({"window": 0.02}, "--window is 0.02, but mfcc hears no less than"),
    ],
)
def test_what_cannot_be_cut_is_told(record: RunRecord, tmp_path: Path, given: Any, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        embedkit.predict(record, write_recording(tmp_path / "a.wav", 0.5), **given)
    assert sentence in str(caught.value)


def test_files_that_break_are_left_out_or_end_it(record: RunRecord, tmp_path: Path) -> None:
    samples, _ = soundfile.read(write_recording(tmp_path / "a.wav", 2.0), dtype="float32")
    samples[RATE] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, RATE, subtype="FLOAT")
    (tmp_path / "none.wav").write_bytes(b"no sound")
    clips = [tmp_path / "nan.wav", tmp_path / "none.wav", tmp_path / "a.wav"]
    told: list[str] = []
    found = embedkit.predict(record, clips, window=0.4, on_error="skip", tell=told.append)
    # The window with the bad sample alone is lost.
    assert [one.start for one in found if one.path == str(clips[0])] == [0.0, 0.4, 1.2, 1.6]
    assert [one.start for one in found if one.path == str(clips[2])] == [0.0, 0.4, 0.8, 1.2, 1.6]
    assert len(told) == 2
    with pytest.raises(AudioError, match="NaN"):
        embedkit.predict(record, clips, window=0.4)


Speech = Callable[..., list[tuple[float, float]]]


@pytest.fixture
def speech(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[tuple[float, float]]]:
    """Say where speech is, by the names of files."""
    found: dict[str, list[tuple[float, float]]] = {}
    monkeypatch.setattr(cutting, "find_speech", lambda path, **_: found[path.name])
    return found


def test_speech_is_predicted_alone(record: RunRecord, tmp_path: Path, speech: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(cutting, "LONGEST_SPEECH_SECONDS", 1.0)
    clips = [write_recording(tmp_path / name, 4.0) for name in ("a.wav", "b.wav")]
    speech |= {"a.wav": [(0.1, 0.6), (1.0, 2.5)], "b.wav": []}
    told: list[str] = []
    found = embedkit.predict(record, clips, vad="silero", tell=told.append)
    assert [(one.path, one.start, one.end) for one in found] == [
        (str(clips[0]), *times) for times in ((0.1, 0.6), (1.0, 1.75), (1.75, 2.5))
    ]
    assert told == [f"No speech in {str(clips[1])!r}: it has no rows."]
    inside = embedkit.predict(record, clips[0], vad="silero", window=1, hop=0.4)
    assert [(one.start, one.end) for one in inside] == [(0.1, 0.6), (1.0, 2.0), (1.4, 2.4), (1.5, 2.5)]
    stretch = Clip(name="a", path=clips[0], start=1.5, end=3.9)
    speech["a.wav"] = [(0.5, 1.0)]
    (one,) = embedkit.predict(record, stretch, vad="silero")
    assert (one.start, one.end) == (2.0, 2.5)
    with pytest.raises(AudioError, match=r"No speech was found in .*b\.wav'?; leave out --vad"):
        embedkit.predict(record, clips[1], vad="silero")
