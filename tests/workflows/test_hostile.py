"""Whatever a corpus holds: no traceback, no hang, no NaN stored, and the good utterances are kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from embedkit.cli import app
from embedkit.store import find_damage, open_store
from tests.cases import mark_cases
from tests.workflows.hostile import Case, all_cases

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 60
CASES = all_cases()
EVERYDAY = CASES[:: len(CASES) // 50]


def test_there_are_many_cases() -> None:
    assert len(CASES) >= 300
    assert len(EVERYDAY) >= 50


@contextmanager
def no_hang() -> Iterator[None]:
    """Fail when the block takes too long."""

    def give_up(number: int, frame: object) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(TIMEOUT_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def extract(manifest: Path, on_error: str) -> Result:
    """Run the command; anything but an exit is an error of ours."""
    out = manifest.with_name(f"{on_error}.h5")
    options = ["--encoder", "mfcc", "--on-error", on_error, "--out", str(out), "--threads", "1", "--workers", "1"]
    with no_hang():
        result = CliRunner().invoke(app, ["extract", str(manifest), *options])
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert "Traceback" not in result.output
    return result


def check_store(path: Path) -> tuple[set[str], dict[str, str]]:
    """Return ids and failures of a store that is sound and finite."""
    store = open_store(path)
    assert not find_damage(store)
    for values in (store.mean("all"), store.std("all"), np.asarray(store.frame_values)):
        assert np.isfinite(values).all()
    assert all("\n" not in reason for reason in store.failures.values())
    return set(store.ids.tolist()), dict(store.failures)


@pytest.mark.parametrize("case", mark_cases(CASES, EVERYDAY.__contains__), ids=lambda case: ascii(case.name).strip("'"))
def test_hostile_input(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    manifest = case.write_corpus(folder)
    skipped = extract(manifest, "skip")
    stored, failures = check_store(folder / "skip.h5") if skipped.exit_code == 0 else (set(), {})
    if case.outcome != "either":
        assert skipped.exit_code == 0, skipped.output
        assert "good" in stored
        assert (len(stored), len(failures)) == ((2, 0) if case.outcome == "stored" else (1, 1))
    else:
        assert skipped.exit_code in (0, 1), skipped.output
    failed = extract(manifest, "fail")
    assert (failed.exit_code == 0) == (skipped.exit_code == 0 and not failures), failed.output
    if failed.exit_code:
        assert failed.output.count("Error: ") == 1
        assert not (folder / "fail.h5").exists()
    if failures:
        assert "--on-error skip" in failed.output
    assert {path.name for path in tmp_path.iterdir()} == {"corpus"}
    assert not list(folder.glob("**/hacked"))


MANY_ROWS = """
import resource, sys
from pathlib import Path
import numpy, soundfile
from embedkit.workflows import extract
from tests.extraction.fakes import FakeEncoder
folder, count = Path(sys.argv[1]), int(sys.argv[2])
soundfile.write(folder / "long.wav", numpy.random.default_rng(0).uniform(-0.5, 0.5, 60_000), 1000)
with (folder / "m.csv").open("w") as file:
    file.write("id,path,label,speaker,start,end\\n")
    for index in range(count):
        start = index * 7919 % 59_000 / 1000
        end = start + 0.05 + index % 100 / 1000
        file.write(f"u{index:06},long.wav,{'ab'[index % 2]},s{index % 50},{start},{end}\\n")
extract.load_encoder = lambda *names, **options: FakeEncoder()
for _ in range(2):
    store = extract.extract_embeddings(folder / "m.csv", encoder="fake", out=folder / "s.h5", threads=1, workers=1)
print(len(store), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def run_many(folder: Path, count: int) -> int:
    """Extract so many segments of one file, twice; return the peak memory in bytes."""
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", MANY_ROWS, str(folder), str(count)]
    result = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False
    )
    assert result.returncode == 0, result.stderr
    rows, memory = map(int, result.stdout.split())
    assert rows == count
    return memory


@pytest.mark.heavy
def test_manifests_of_many_rows_take_little_memory_for_each(tmp_path: Path) -> None:
    many = 100_000
    growth = run_many(tmp_path / "many", many) - run_many(tmp_path / "few", 1_000)
    assert growth < 64e6 + 4_000 * many
