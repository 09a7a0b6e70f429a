"""Predictions in a file: what was stopped goes on, what has changed is predicted anew, no link is followed."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file

from embedkit.corpora.clips import Clip, find_clips
from embedkit.errors import ConfigError, EmbedkitError, RunError
from embedkit.training.runs import RunRecord
from embedkit.workflows.predict_file import write_predictions
from tests.workflows.tones import RATE, fit_tones, write_tones

CLIPS = 6


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    folder = tmp_path_factory.mktemp("run")
    return fit_tones(write_tones(folder / "corpus"), "mfcc", head=["linear"])


@pytest.fixture
def clips(record: RunRecord, tmp_path: Path) -> list[Clip]:
    shutil.copytree(record.folder.parents[3].parent / "corpus", tmp_path / "corpus")
    return find_clips([tmp_path / "corpus"], lambda _: None)[:CLIPS]


@pytest.fixture
def predict(record: RunRecord, tmp_path: Path) -> Callable[..., list[int]]:
    """Return a function that predicts into `out.csv` and returns the number of each clip that was predicted."""

    def write(clips: list[Clip], stop: int | None = None, out: str = "out.csv", **options: Any) -> list[int]:
        done: list[int] = []

        def report(number: int, count: int) -> None:
            assert count == len(clips)
            done.append(number)
            if number == stop:
                raise KeyboardInterrupt

        try:
            write_predictions(record.folder, clips, tmp_path / out, "csv", report=report, **options)
        except KeyboardInterrupt:
            assert stop is not None
        return done

    return write


@pytest.mark.parametrize("stop", [1, 3, CLIPS])
def test_what_was_stopped_goes_on(predict: Any, clips: list[Clip], tmp_path: Path, stop: int) -> None:
    predict(clips, out="whole.csv")
    (tmp_path / "out.csv").write_text("old")
    assert predict(clips, stop) == list(range(1, stop + 1))
    assert (tmp_path / "out.csv").read_text() == "old"
    told: list[str] = []
    assert predict(clips, tell=told.append) == list(range(stop + 1, CLIPS + 1))
    assert told[0] == f"Continuing: {stop} of {CLIPS} clips are predicted."
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "out.csv", "whole.csv"]


def test_what_is_kept_may_be_cut_off_anywhere(predict: Any, clips: list[Clip], tmp_path: Path) -> None:
    predict(clips, out="whole.csv")
    predict(clips, 2)
    kept = (tmp_path / "out.csv.unfinished").read_bytes()
    for length in (0, 1, kept.index(b"\n"), kept.index(b"\n") + 1, len(kept) // 2, len(kept) - 1):
        (tmp_path / "out.csv.unfinished").write_bytes(kept[:length])
        predict(clips)
        assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_what_has_changed_is_predicted_anew(predict: Any, clips: list[Clip], tmp_path: Path) -> None:
    predict(clips, 3)
    soundfile.write(clips[1].path, soundfile.read(clips[2].path)[0], RATE)
    assert predict(clips) == [3, 4, 5, 6]
    with (tmp_path / "out.csv").open(newline="") as file:
        first, second, third, *_ = [row[1:] for row in csv.reader(file)][1:]
    assert second == third != first
    predict(clips, 3)
    assert predict(clips, seed=0) == list(range(1, CLIPS + 1))


def test_clips_that_break_end_it_or_are_left_out(predict: Any, clips: list[Clip], tmp_path: Path) -> None:
    clips[3].path.write_bytes(b"no sound")
    with pytest.raises(EmbedkitError, match=r"03\.wav"):
        predict(clips)
    assert not (tmp_path / "out.csv").exists()
    told: list[str] = []
    predict(clips, on_error="skip", tell=told.append)
    assert told[0] == f"Continuing: 3 of {CLIPS} clips are predicted."
    assert any("03.wav" in sentence for sentence in told)
    assert len((tmp_path / "out.csv").read_text().splitlines()) == CLIPS


def test_no_link_is_followed(predict: Any, clips: list[Clip], tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    (tmp_path / "out.csv").symlink_to("mine")
    predict(clips)
    assert not (tmp_path / "out.csv").is_symlink()
    (tmp_path / "out.csv.unfinished").symlink_to("mine")
    with pytest.raises(ConfigError, match=r"out\.csv' cannot be written \(.*symbolic links\); name another file"):
        predict(clips)
    assert (tmp_path / "mine").read_text() == "kept"


@pytest.mark.parametrize("value", [float("nan"), 3e38])
def test_heads_that_say_no_number_are_told(record: RunRecord, clips: list[Clip], tmp_path: Path, value: float) -> None:
    shutil.copytree(record.folder, tmp_path / "run")
    heads = load_file(tmp_path / "run" / "heads.safetensors")
    spoilt = {name: torch.full_like(tensor, value) if tensor.ndim > 1 else tensor for name, tensor in heads.items()}
    save_file(spoilt, tmp_path / "run" / "heads.safetensors")
    ways: tuple[Any, ...] = ("fail", "skip")
    for on_error in ways:
        with pytest.raises(RunError, match="is no number: their weights are damaged"):
            write_predictions(tmp_path / "run", clips, tmp_path / "out.csv", "csv", on_error=on_error)
        assert not (tmp_path / "out.csv").exists()


def test_a_file_of_the_name_that_is_not_ours_is_left_alone(predict: Any, clips: list[Clip], tmp_path: Path) -> None:
    (tmp_path / "out.csv.unfinished").write_text("my notes\n")
    with pytest.raises(ConfigError, match=r"out\.csv\.unfinished' is needed .* and holds something else; move it"):
        predict(clips)
    assert (tmp_path / "out.csv.unfinished").read_text() == "my notes\n"


def test_a_database_goes_on_as_files_do(record: RunRecord, clips: list[Clip], tmp_path: Path) -> None:
    audformat = pytest.importorskip("audformat")

    def stop(number: int, _: int) -> None:
        if number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_predictions(record.folder, clips, tmp_path / "found", "audformat", report=stop)
    assert not (tmp_path / "found").exists()
    told: list[str] = []
    write_predictions(record.folder, clips, tmp_path / "found", "audformat", tell=told.append)
    assert told == [f"Continuing: 2 of {CLIPS} clips are predicted."]
    table = audformat.Database.load(str(tmp_path / "found"))["predictions"].get()
    assert table.index.tolist() == [clip.name for clip in clips]
    assert not (tmp_path / "found.unfinished").exists()
