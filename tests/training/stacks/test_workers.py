"""Work in processes side by side: everything is done once, and what goes wrong there is told here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from embedkit.errors import ConfigError, FitError
from embedkit.training.stacks.workers import can_fork, work_side_by_side

ROOT = Path(__file__).parents[3]
forks = pytest.mark.skipif(not can_fork(), reason="work is done in one process on this system")


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("places", [[], [7], list(range(20))])
def test_every_place_is_worked_on_once(places: list[int], workers: int) -> None:
    found = dict(work_side_by_side(lambda place: bytes([place + 1]), places, workers))
    assert found == {place: bytes([place + 1]) for place in places}


@forks
def test_work_is_done_in_other_processes() -> None:
    found = {int(pid) for _, pid in work_side_by_side(lambda _: str(os.getpid()).encode(), range(8), 2)}
    assert os.getpid() not in found


@pytest.mark.parametrize("workers", [1, 2])
def test_a_sentence_from_there_is_a_sentence_here(workers: int) -> None:
    def work(place: int) -> bytes:
        raise ConfigError(f"Place {place} cannot be: märz.")

    with pytest.raises(ConfigError, match=r"^Place \d cannot be: märz\.$"):
        list(work_side_by_side(work, range(3), workers))


@forks
def test_a_bug_there_is_told_with_its_lines() -> None:
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        list(work_side_by_side(lambda place: bytes(1 // 0), range(3), 2))


@forks
def test_a_killed_process_is_told_in_one_sentence() -> None:
    def work(place: int) -> bytes:
        if place == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return b""

    with pytest.raises(FitError, match=r"ended from outside \(exit code -9\).*--threads 1"):
        list(work_side_by_side(work, range(6), 2))


@forks
def test_whoever_stops_listening_leaves_no_process_behind() -> None:
    started = work_side_by_side(lambda _: str(os.getpid()).encode(), range(100), 2)
    pid = int(next(started)[1])
    started.close()
    assert not Path(f"/proc/{pid}").exists()


@forks
@pytest.mark.slow
def test_processes_end_with_the_one_they_work_for(tmp_path: Path) -> None:
    code = (
        "import os, time; from pathlib import Path; from embedkit.training.stacks.workers import work_side_by_side\n"
        "def work(place):\n"
        "    Path(str(os.getpid())).touch()\n"
        "    time.sleep(0.3)\n"
        "    return b''\n"
        "list(work_side_by_side(work, range(1000), 2))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    deadline = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    pids = [int(path.name) for path in tmp_path.iterdir()]
    assert len(pids) == 2
    process.kill()
    process.wait()
    while any(_runs(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_runs(pid) for pid in pids)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_gradients_can_be_taken_after_a_model_was_exported() -> None:
    code = (
        "import torch\n"
        "from embedkit.training.stacks.workers import work_side_by_side\n"
        "def work(place):\n"
        "    values = torch.ones(3, requires_grad=True)\n"
        "    (place * values).sum().backward()\n"
        "    return bytes([int(values.grad[0])])\n"
        "torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),))\n"
        "work(1)\n"
        "assert dict(work_side_by_side(work, range(4), 2)) == {place: bytes([place]) for place in range(4)}\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert result.returncode == 0, result.stderr
