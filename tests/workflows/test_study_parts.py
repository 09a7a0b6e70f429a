"""A study in parts: each does its own, all at once or one after another, and together they are the whole."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import embedkit
from embedkit.errors import ConfigError, RunError
from embedkit.extraction.lock import locked
from embedkit.study.parts import Part, Unit, agree, deal
from tests.workflows.tones import write_tones

QUICK: dict[str, Any] = {"seeds": 1, "epochs": 1, "lr": (1e-2,), "batch_size": 8, "threads": 1, "progress": False}
STUDY: dict[str, Any] = {
    **QUICK,
    "head": ["linear", "attentive"],
    "loss": ["ce", "focal"],
    "foresee": False,
}


def test_parts_of_a_study_are_together_the_whole_to_the_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tones(tmp_path / "tones")
    monkeypatch.chdir(tmp_path)
    whole = embedkit.run_study("tones/corpus.csv", "mfcc", runs="whole", **STUDY)
    told: list[str] = []
    made: list[str] = []
    for number in (1, 2, 3, 2):
        part = embedkit.run_study(
            "tones/corpus.csv",
            "mfcc",
            runs="parts",
            stores="others",
            part=f"{number}/3",
            tell=told.append,
            **STUDY,
        )
        made += [str(record.folder.relative_to("parts")) for record in part.records]
    again = made[-len(part.records) :]
    first = made[: -len(part.records)]
    assert len(first) == len(set(first)) == len(whole.records) == 4
    assert set(again) < set(first)
    assert sum("fitted before" in line for line in told) == len(again)

    told.clear()
    joined = embedkit.run_study("tones/corpus.csv", "mfcc", runs="parts", stores="others", tell=told.append, **STUDY)
    assert sum("fitted before" in line for line in told) == len(first)
    assert str(joined.table) == str(whole.table)
    for one, other in zip(whole.records, joined.records, strict=True):
        files = {path.name: path for path in one.folder.iterdir()}
        assert {path.name for path in other.folder.iterdir()} == set(files)
        for name, path in files.items():
            if name != "config.json":
                assert path.read_bytes() == (other.folder / name).read_bytes()
        configs = [json.loads((folder / "config.json").read_text()) for folder in (one.folder, other.folder)]
        assert all(config["store"].pop("path") for config in configs)
        assert configs[0] == configs[1]
    assert not (Path("parts") / ".unfinished").exists()


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 100)), min_size=1, max_size=30), st.integers(1, 12))
def test_units_are_dealt_once_and_no_part_is_long_for_nothing(drawn: list[tuple[str, int]], count: int) -> None:
    before = {"a": 0.0, "b": 50.0, "c": 10.0, "d": 500.0}
    units = [Unit(f"{number}", store, float(time), before[store]) for number, (store, time) in enumerate(drawn)]
    dealt = list(deal(units, count))
    assert sorted(unit.name for unit, _, _ in dealt) == sorted(unit.name for unit in units)
    loads = [sum(seconds for _, part, seconds in dealt if part == number) for number in range(1, count + 1)]
    # Graham's bound: the last unit of the longest part would have made none of the others longer.
    longest = max(loads)
    last = [unit for unit, part, _ in dealt if loads[part - 1] == longest][-1]
    assert longest <= min(loads) + last.seconds + before[last.store]


def test_the_first_part_deals_for_all(tmp_path: Path) -> None:
    units = [Unit(name, "store", seconds) for name, seconds in (("one", 5.0), ("two", 1.0), ("three", 2.0))]
    names = [unit.name for unit in units]
    assert agree(tmp_path / "place", Part(1, 2), names, lambda: units) == (["one"], 5.0)

    def measured_again() -> list[Unit]:
        raise AssertionError

    assert agree(tmp_path / "place", Part(2, 2), names, measured_again) == (["two", "three"], 3.0)
    (tmp_path / "place-2" / "parts.json").write_text("[]")
    with pytest.raises(RunError, match="remove it, and start all parts again"):
        agree(tmp_path / "place", Part(2, 2), names, measured_again)


@pytest.mark.parametrize("text", ["", "3", "0/3", "4/3", "1/0", "-1/3", "1/3/5", "one/3", "1 / 3", "1.0/3", "²/3"])
def test_a_part_that_is_none_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match="expected a number and a count such as 3/8"):
        Part.read(text)


def _hold(folder: Path, started: Any, end: Any) -> None:
    with locked(folder):
        started.set()
        end.wait(60)


def test_a_store_that_another_part_makes_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tones(tmp_path / "tones")
    monkeypatch.chdir(tmp_path)
    context = multiprocessing.get_context("fork")
    started, end = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path / "embeddings/corpus/mfcc.h5.work", started, end))
    other.start()
    assert started.wait(60)
    told: list[str] = []

    def tell(sentence: str) -> None:
        told.append(sentence)
        if sentence.startswith("Waiting for another part."):
            end.set()

    found = embedkit.run_study(
        "tones/corpus.csv", "mfcc", part="1/1", foresee=False, tell=tell, head="linear", loss="ce", **QUICK
    )
    other.join(60)
    assert len(found.records) == 1
    assert sum(line.startswith("Waiting for another part.") for line in told) == 1


def test_more_parts_than_steps_leave_one_without_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tones(tmp_path / "tones")
    monkeypatch.chdir(tmp_path)
    told: list[str] = []
    found = embedkit.run_study(
        "tones/corpus.csv", "mfcc", part="2/2", tell=told.append, head="linear", loss="ce", **QUICK
    )
    assert not found.records
    assert str(found.table) == ""
    assert any("nothing to do" in line for line in told)
    (agreed,) = Path("runs/.unfinished").glob("study-*-2/parts.json")
    ((name, (part, seconds)),) = json.loads(agreed.read_text()).items()
    assert (name, part) == ("corpus with mfcc, linear", 1)
    assert seconds > 0
    assert not Path("embeddings").exists()
