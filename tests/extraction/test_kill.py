"""kill -9 anywhere, then the same command: the store equals the uninterrupted one to the byte."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from embedkit.extraction.run import run_extraction
from embedkit.store import find_damage, open_store
from tests.extraction.fakes import corpus_at, datasets, request_for, write_corpus
from tests.warm import WarmProcess

ROOT = Path(__file__).parents[2]
COUNT = 40


def run_killed(folder: Path, out: Path, where: str, number: int, *most: str) -> tuple[int, str]:
    """Run the extraction in a process of its own; return its exit code and what it said."""
    command = ["tests.extraction.killed", str(folder), str(COUNT), str(out), where, str(number), *most]
    said = folder.parent / "said"
    return WarmProcess(command, ROOT, os.environ, said).wait(120), said.read_text()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kill")
    run_extraction(request_for(write_corpus(folder / "audio", COUNT), folder / "whole.h5", threads=2))
    return folder / "whole.h5"


POINTS = [("shard", 1), ("assembly", 5), ("rename", 0), ("rename", 1)]
MORE_POINTS = [*(("shard", number) for number in range(2, 16)), ("assembly", 1), ("assembly", 100)]


def check_kill(uninterrupted: Path, tmp_path: Path, where: str, number: int) -> None:
    audio, out = uninterrupted.parent / "audio", tmp_path / "s.h5"
    code, said = run_killed(audio, out, where, number)
    assert code == -signal.SIGKILL, said
    assert out.exists() == ((where, number) == ("rename", 1))
    done = len(list((tmp_path / "s.h5.work").glob("*.shard")))
    assert where != "shard" or done == number

    encoded: list[int] = []
    request = request_for(corpus_at(audio, COUNT), out, threads=2)
    request.encoder.calls = encoded  # type: ignore[attr-defined]
    run_extraction(request)
    assert (sum(map(len, encoded)) == 0) == (where != "shard")
    assert datasets(out) == datasets(uninterrupted)
    assert out.read_bytes() == uninterrupted.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["s.h5"]


@pytest.mark.slow
@pytest.mark.parametrize(("where", "number"), POINTS)
def test_a_killed_extraction_continues(uninterrupted: Path, tmp_path: Path, where: str, number: int) -> None:
    check_kill(uninterrupted, tmp_path, where, number)


@pytest.mark.heavy
@pytest.mark.parametrize(("where", "number"), MORE_POINTS)
def test_it_continues_from_anywhere(uninterrupted: Path, tmp_path: Path, where: str, number: int) -> None:
    check_kill(uninterrupted, tmp_path, where, number)


MAX_FILE_GB = 2e-5


def contents(path: Path) -> dict[str, bytes]:
    """Return the bytes of a store's files."""
    files = [path, *(path.parent / f"{path.name}.shards").iterdir()]
    return {str(file.relative_to(path.parent)): file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def in_several_files(uninterrupted: Path) -> Path:
    path = uninterrupted.parent / "several" / "s.h5"
    request = request_for(corpus_at(uninterrupted.parent / "audio", COUNT), path, max_file_gb=MAX_FILE_GB, threads=2)
    run_extraction(request)
    assert len(contents(path)) > 5
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("where", "number"), [("file", 1), ("file", 4), ("rename", 0), ("rename", 1)])
def test_a_killed_assembly_of_several_files_continues(
    in_several_files: Path, tmp_path: Path, where: str, number: int
) -> None:
    audio, out = in_several_files.parents[1] / "audio", tmp_path / "s.h5"
    # What was there before is whole until the new store has its name, and is gone afterwards.
    run_extraction(request_for(corpus_at(audio, COUNT // 2 + 1), out, max_file_gb=MAX_FILE_GB, threads=2))
    before = contents(out)
    assert len(before.keys() - contents(in_several_files)) == 1
    code, said = run_killed(audio, out, where, number, str(MAX_FILE_GB))
    assert code == -signal.SIGKILL, said
    if (where, number) != ("rename", 1):
        assert before.items() <= contents(out).items()
        assert not find_damage(open_store(out))
    run_extraction(request_for(corpus_at(audio, COUNT), out, max_file_gb=MAX_FILE_GB, threads=2))
    with open_store(out) as store, open_store(in_several_files) as whole:
        np.testing.assert_array_equal(store.mean("all"), whole.mean("all"))
        np.testing.assert_array_equal(np.asarray(store.frame_values), np.asarray(whole.frame_values))
        assert set(contents(out)) == {"s.h5", *(f"s.h5.shards/{path.name}" for path in store.shards)}
        assert not find_damage(store)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.h5", "s.h5.shards"]


@pytest.mark.slow
def test_a_file_size_limit_is_one_sentence_and_the_same_command_continues(uninterrupted: Path, tmp_path: Path) -> None:
    audio, out = uninterrupted.parent / "audio", tmp_path / "s.h5"
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60000, resource.RLIM_INFINITY));"
        "from pathlib import Path; from embedkit.errors import StoreError;"
        "from embedkit.extraction.run import run_extraction;"
        "from tests.extraction.fakes import corpus_at, request_for\n"
        f"try: run_extraction(request_for(corpus_at(Path({str(audio)!r}), {COUNT}), Path({str(out)!r}), threads=2))\n"
        "except StoreError as error: print(error)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert "Too little room" in result.stdout, result.stderr
    assert "File too large" in result.stdout
    assert not out.exists()
    assert not list(tmp_path.glob("**/*.part"))
    encoded: list[list[int]] = []
    request = request_for(corpus_at(audio, COUNT), out, threads=2)
    request.encoder.calls = encoded  # type: ignore[attr-defined]
    run_extraction(request)
    assert encoded == []
    assert out.read_bytes() == uninterrupted.read_bytes()
