"""Trackers hear of everything, fail alone, and leave results as they are."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

import embedkit
from embedkit.errors import FitError, UnknownNameError
from embedkit.imports import take_word
from embedkit.trust import find_mentions
from tests.training.stores import write_synthetic_store

GUIDE = Path(__file__).parents[2] / "docs" / "tracking.md"
FAILING = """
class Failing:
    def __init__(self, runs): self.calls = 0
    def start(self, name, config): raise ValueError("no network")
    def close(self): raise AssertionError("called after it failed")

class Unbuilt:
    def __init__(self, runs): raise ValueError("no key")
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_synthetic_store(tmp_path / "store.h5")
    Path("my_tracker.py").write_text(GUIDE.read_text("utf-8").split("```python\n")[1].split("```")[0])
    Path("failing_tracker.py").write_text(FAILING)


def fit(**options: Any) -> Any:
    return embedkit.fit("store.h5", head="linear", seeds=1, epochs=2, lr=0.01, threads=1, **options)


def test_the_tracker_of_the_guide_hears_of_everything() -> None:
    runs = fit(loss=["ce", "focal"], track="my_tracker:Lines")
    lines = [json.loads(line) for line in Path("runs/track.jsonl").read_text().splitlines()]
    started = [line["start"] for line in lines if "start" in line]
    ends = [run.folder.name.rpartition("-")[2] for run in runs]
    assert [name.rpartition(", ")[2] for name in started] == [f"ce ({ends[0]})", f"focal ({ends[1]})"]
    for name, run in zip(started, runs, strict=True):
        own = [line for line in lines if line.get("name") == name]
        assert [line["step"] for line in own if "training loss" in line] == [1, 2]
        assert any("so far/development UA" in line for line in own)
        (last,) = [line for line in lines if line.get("finish") == name]
        assert last["ua"] == run.metrics["ua"]
    before = runs[0].predictions_path.read_bytes()
    assert fit(loss="ce", overwrite=True)[0].predictions_path.read_bytes() == before


def test_one_that_fails_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "embedkit"):
        assert len(fit(loss="ce", track="failing_tracker:Failing")) == 1
    assert [record.getMessage() for record in caplog.records] == [
        "Tracking by failing_tracker:Failing ends, training goes on: start failed (ValueError: no network)."
    ]


@pytest.mark.parametrize(
    ("name", "error", "told"),
    [
        ("failing_tracker:Unbuilt", FitError, "cannot be started .ValueError: no key"),
        ("tensorbord", UnknownNameError, "Did you mean 'tensorboard'"),
    ],
)
def test_one_that_cannot_be_used_ends_the_fit_before_it_begins(name: str, error: type[Exception], told: str) -> None:
    take_word(name)
    with pytest.raises(error, match=told):
        fit(loss="ce", track=[name])
    assert not list(Path("runs").rglob("metrics.json"))


def test_a_tracker_in_a_file_needs_a_word() -> None:
    assert [one.target for one in find_mentions({"track": ("foreign:Code",)}, Path("embedkit.toml"))] == [
        "foreign:Code"
    ]


def test_tensorboard_shows_each_run_apart_and_an_attempt_once() -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    told: list[str] = []
    runs = [fit(loss="ce", track="tensorboard", tell=told.append)[0]]
    assert not any("--track" in line for line in told)
    fit(loss="ce", track="tensorboard", tell=told.append)
    assert "--track follows what is trained now; 1 run fitted before it does not show." in told
    runs += [
        fit(loss="ce", track="tensorboard", batch_size=8)[0],
        fit(loss="ce", track="tensorboard", overwrite=True)[0],
    ]
    folders = {path.parent for path in Path("runs/tensorboard").rglob("events.out.tfevents.*")}
    assert len(folders) == 2
    for run in runs:
        (folder,) = [one for one in folders if one.name.endswith(f"-{run.folder.name.rpartition('-')[2]}-")]
        events = EventAccumulator(str(folder)).Reload()
        assert [event.step for event in events.Scalars("training loss")] == [1, 2]
        assert [event.value for event in events.Scalars("test/ua")] == [pytest.approx(run.metrics["ua"])]
