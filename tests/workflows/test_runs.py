"""What there is of runs, how they differ, and what may go: nothing else is ever removed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from embedkit.cli import app
from embedkit.training.runs import find_runs
from embedkit.writing import _name_machine, working_in

GOLDEN = Path(__file__).parents[1] / "training" / "golden"


@pytest.fixture(autouse=True)
def _golden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(GOLDEN / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)


def runs(*words: str, answer: str = "", code: int = 0) -> Any:
    result = CliRunner().invoke(app, ["runs", *words], input=answer)
    assert result.exit_code == code, result.output
    return result


def folders() -> list[str]:
    return [str(record.folder) for record in find_runs("runs")]


def test_all_runs_are_listed_with_scores_and_sizes() -> None:
    lines = runs("list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == folders()
    assert all("kB" in line and "it cannot be made again" in line for line in lines)


def test_damaged_runs_are_listed_with_the_reason_and_can_be_removed() -> None:
    before = folders()
    (Path(before[0]) / "metrics.json").write_text("{")
    found = runs("list")
    assert [line.split()[0] for line in found.stdout.splitlines()] == before
    assert found.stdout.splitlines()[0].split()[1] == "damaged"
    assert f"The run {before[0]} is damaged" in found.stderr
    runs("rm", before[0], "--yes")
    assert folders() == before[1:]
    other = Path("other")
    other.mkdir()
    (other / "config.json").write_text("{")
    runs("rm", "other", "--yes", code=1)
    assert other.exists()


def test_runs_that_do_not_differ_say_so_and_long_values_are_cut() -> None:
    first = Path(folders()[0])
    shutil.copytree(first, first.with_name("ce-copy"))
    assert "They differ in nothing." in runs("compare", str(first), str(first.with_name("ce-copy"))).stderr
    path = first / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"drop": "x" * 1000}))
    (line,) = [one for one in runs("show", str(first)).stdout.splitlines() if one.startswith("drop: ")]
    assert len(line) < 500
    assert line.endswith("(1,000 characters)")


def test_what_differs_is_compared_and_nothing_else() -> None:
    one, other = folders()[:2]
    told = dict(line.split(": ", 1) for line in runs("compare", one, other).stdout.splitlines()[2:])
    assert told["loss"] == "[1] aam  [2] ccc"
    assert "corpus" not in told
    assert "give at least two" in runs("compare", one, code=1).stderr


def test_a_run_is_shown() -> None:
    told = runs("show", folders()[0]).stdout
    assert "loss: aam" in told
    assert "can be made again: no" in told


@pytest.mark.parametrize(("answer", "words", "left"), [("n\n", [], 0), ("", [], 0), ("y\n", [], 1), ("", ["--yes"], 1)])
def test_a_run_is_removed_after_a_yes(answer: str, words: list[str], left: int) -> None:
    before = folders()
    runs("rm", before[0], *words, answer=answer, code=0 if left else 1)
    assert folders() == before[left:]


@pytest.mark.parametrize("place", ["runs", ".", "runs/synthetic"])
def test_what_is_no_run_is_not_removed(place: str) -> None:
    assert "No run at" in runs("rm", folders()[0], place, "--yes", code=1).stderr
    assert Path(folders()[0]).exists()


def find_gone() -> int:
    """Return the number of a process that is gone."""
    told = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    return int(told.stdout)


def test_cleaning_takes_what_stopped_fits_left() -> None:
    before = folders()
    assert "nothing to remove" in runs("clean").stderr
    name = f"{_name_machine()}-{find_gone()}-{'0' * 16}.part"
    work, part = Path("runs/.unfinished/1234"), Path(before[0]).with_name(f".ce.{name}")
    for folder in (work, part):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"12345")
    told = runs("clean", answer="y\n").stderr
    assert f"{work}: work of a fit that was stopped, 5 bytes" in told
    assert "Removed, 10 bytes are free." in told
    assert not work.parent.exists()
    assert not part.exists()
    assert folders() == before


def test_work_of_a_fit_that_runs_stays() -> None:
    work = Path("runs/.unfinished/1234")
    work.parent.mkdir()
    (work.parent / f".work.{_name_machine()}-{find_gone()}-{'0' * 16}.part").touch()
    with working_in(work.parent):
        assert len(list(work.parent.iterdir())) == 1
        work.mkdir()
        (work / "file").write_bytes(b"12345")
        assert "nothing to remove" in runs("clean", "--yes").stderr
        assert work.exists()
    runs("clean", "--yes")
    assert not work.parent.exists()


def test_a_run_that_is_named_twice_goes_once() -> None:
    assert "Removed" in runs("rm", folders()[0], f"{folders()[0]}/", "--yes").stderr


def test_a_folder_that_is_not_there_is_no_clean_one() -> None:
    assert "is not there; name a folder of runs" in runs("clean", "typo", code=1).stderr


def test_a_link_goes_and_not_what_it_leads_to(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    Path("runs/.unfinished").mkdir()
    Path("runs/.unfinished/link").symlink_to(kept)
    runs("clean", "--yes")
    assert kept.exists()
    assert not Path("runs/.unfinished").exists()


def test_encoders_go_where_the_run_can_be_made_again() -> None:
    for folder in map(Path, folders()[:2]):
        (folder / "encoders" / "fold-0-seed-0").mkdir(parents=True)
        (folder / "encoders" / "fold-0-seed-0" / "model.safetensors").write_bytes(b"1234")
        # An encoder that was trained heard a corpus, which is named as if a store lay in it.
        for name in ("config.json", "metrics.json"):
            told = json.loads((folder / name).read_text())
            told["mode"] = "finetune"
            if name == "config.json":
                told["store"]["path"] = str(
                    Path("corpus" if folder == Path(folders()[0]) else "gone", "x.h5").absolute()
                )
            (folder / name).write_text(json.dumps(told))
    Path("corpus").mkdir()
    runs("clean", "--encoders", "--yes")
    assert [(Path(folder) / "encoders").exists() for folder in folders()[:2]] == [False, True]
    assert "cannot be made again" in runs("list").stdout
