"""Processes that write to one store at the same time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from embedkit.errors import ExtractionError
from embedkit.extraction.run import run_extraction
from embedkit.store import find_damage, open_store
from tests.extraction.fakes import FakeEncoder, corpus_at, request_for, write_corpus

ROOT = Path(__file__).parents[2]
COUNT = 12

EXTRACT = """
import sys, time
from pathlib import Path
from embedkit.errors import ExtractionError
from embedkit.extraction.run import run_extraction
from tests.extraction.fakes import FakeEncoder, corpus_at, request_for

audio, out, start, go_on = map(Path, sys.argv[1:])

class Waiting(FakeEncoder):
    def encode(self, waveforms, sink):
        start.with_name("encoding").touch()
        while not go_on.exists():
            time.sleep(0.01)
        super().encode(waveforms, sink)

request = request_for(corpus_at(audio, 12), out, Waiting(), tell=print)
start.with_name(f"ready-{len(list(start.parent.glob('ready-*')))}-{time.monotonic_ns()}").touch()
while not start.exists():
    time.sleep(0.001)
try:
    run_extraction(request)
except ExtractionError as error:
    print(error)
    sys.exit(1)
"""


def start_process(folder: Path) -> subprocess.Popen[str]:
    """Start an extraction that begins when `start` exists, and encodes only when `go_on` does."""
    names = ("audio", "s.h5", "signs/start", "signs/go_on")
    return subprocess.Popen(
        [sys.executable, "-c", EXTRACT, *(str(folder / name) for name in names)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_for(condition: object) -> None:
    until = time.monotonic() + 60
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_corpus(tmp_path / "audio", COUNT)
    (tmp_path / "signs").mkdir()
    return tmp_path


@pytest.mark.slow
def test_while_one_process_encodes_another_is_refused_in_one_sentence(folder: Path) -> None:
    with start_process(folder) as first:
        (folder / "signs" / "start").touch()
        wait_for((folder / "signs" / "encoding").exists)
        encoder = FakeEncoder()
        with pytest.raises(ExtractionError, match=rf"Another extraction .* \(process {first.pid} holds .*--out"):
            run_extraction(request_for(corpus_at(folder / "audio", COUNT), folder / "s.h5", encoder))
        assert not encoder.calls
        (folder / "signs" / "go_on").touch()
        assert "Wrote" in first.communicate(timeout=60)[0]
    assert not find_damage(open_store(folder / "s.h5"))


@pytest.mark.heavy
def test_of_processes_that_start_at_once_one_works_and_the_others_leave_it_alone(folder: Path) -> None:
    processes = [start_process(folder) for _ in range(4)]
    wait_for(lambda: len(list((folder / "signs").glob("ready-*"))) == 4)
    (folder / "signs" / "start").touch()
    wait_for((folder / "signs" / "encoding").exists)
    time.sleep(0.5)
    (folder / "signs" / "go_on").touch()
    said = [process.communicate(timeout=60)[0] for process in processes]
    assert sum("Wrote" in text for text in said) == 1
    assert all("Wrote" in text or "Another extraction" in text or "up to date" in text for text in said)
    assert not find_damage(open_store(folder / "s.h5"))
    assert not (folder / "s.h5.work").exists()


@pytest.mark.slow
def test_the_lock_of_a_killed_process_does_not_block(folder: Path) -> None:
    with start_process(folder) as killed:
        (folder / "signs" / "start").touch()
        wait_for((folder / "signs" / "encoding").exists)
        killed.send_signal(signal.SIGKILL)
    assert (folder / "s.h5.work" / "holder").read_text().split()[0] == str(killed.pid)
    run_extraction(request_for(corpus_at(folder / "audio", COUNT), folder / "s.h5"))
    assert sorted(path.name for path in folder.iterdir()) == ["audio", "s.h5", "signs"]
