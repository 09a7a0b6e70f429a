"""What systems do not have in common, simulated by taking it away: the same stores and the same runs."""

from __future__ import annotations

import ast
import errno
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import embedkit
from embedkit import system
from embedkit.corpora.base import Corpus
from embedkit.errors import ExtractionError
from embedkit.extraction.lock import locked
from embedkit.extraction.run import run_extraction
from embedkit.system import safe_name
from embedkit.workflows.extract import default_path
from tests.extraction.fakes import corpus_at, request_for, write_corpus
from tests.training.stores import write_synthetic_store

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "embedkit").rglob("*.py"))
ABSENT = ("pwrite", "posix_fallocate", "sched_getaffinity", "sysconf", "fork")

OTHER_OPENS = ("h5py.h5o", "os", "wave", "parts", "NoisyTest")
"""Whose `open` opens no text."""
METADATA = {"distribution", "ours"}
"""What reads files of an installed distribution, in UTF-8."""

_SYSTEM = re.compile(
    r"\bos\.(pwrite|pread|fsync|fdatasync|fork|sysconf|sched_\w+|cpu_count|posix_\w+|replace|statvfs|uname|name)\b"
    r"|\b(fcntl|msvcrt|winreg|resource|platform|psutil|ctypes)\b(?=\.|\s*$)|\bsys\.(platform|getwindowsversion)\b|/proc/"
    r"|\bhasattr\(os\b|\bSIG(HUP|KILL|QUIT)\b|\bdisk_usage\b"
)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return write_corpus(tmp_path / "audio", 6)


@pytest.fixture
def poor(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that has none of what only some have, and does not open folders."""
    real = os.open

    def open_files(path: Any, *options: Any, **named: Any) -> int:
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, *options, **named)

    for name in ABSENT:
        monkeypatch.delattr(os, name)
    monkeypatch.setattr(os, "open", open_files)


def test_a_store_is_the_same_bytes_where_the_system_has_less(
    tmp_path: Path, corpus: Corpus, request: pytest.FixtureRequest
) -> None:
    for name in ("usual", "poor"):
        if name == "poor":
            request.getfixturevalue("poor")
        run_extraction(request_for(corpus, tmp_path / name / "s.h5", levels=("utterance", "frame")))
        run_extraction(request_for(corpus, tmp_path / name / "split.h5", max_file_gb=2e-6))
    found = [sorted(path for path in (tmp_path / name).rglob("*") if path.is_file()) for name in ("usual", "poor")]
    assert len(found[0]) > 3
    assert [path.relative_to(tmp_path / "usual") for path in found[0]] == [
        path.relative_to(tmp_path / "poor") for path in found[1]
    ]
    assert [path.read_bytes() for path in found[0]] == [path.read_bytes() for path in found[1]]


@pytest.mark.parametrize("head", ["mlp", "lstm"])
def test_a_run_is_the_same_where_nothing_can_be_forked(
    tmp_path: Path, head: str, request: pytest.FixtureRequest
) -> None:
    store = write_synthetic_store(tmp_path / "s.h5", framed=True)
    found = []
    for name in ("usual", "poor"):
        if name == "poor":
            request.getfixturevalue("poor")
        (record,) = embedkit.fit(store, head=[head], seeds=2, epochs=2, threads=2, runs=tmp_path / name, device="cpu")
        found.append([(record.folder / file).read_bytes() for file in ("heads.safetensors", "predictions.csv")])
    assert found[0] == found[1]


@pytest.mark.parametrize("lacks", ["fork", "linux"])
def test_work_is_done_in_one_process_where_none_can_be_copied(lacks: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from embedkit.training.stacks.workers import work_side_by_side

    if lacks == "fork":
        monkeypatch.delattr(os, "fork")
    else:
        monkeypatch.setattr(sys, "platform", "darwin")
    found = dict(work_side_by_side(lambda place: f"{place} {os.getpid()}".encode(), range(3), 2))
    assert found == {place: f"{place} {os.getpid()}".encode() for place in range(3)}


def test_without_fcntl_a_store_still_has_one_writer(tmp_path: Path) -> None:
    code = f"""
import sys, warnings
sys.modules["fcntl"] = None
warnings.simplefilter("ignore")
from pathlib import Path
from embedkit.errors import ExtractionError
from embedkit.extraction.lock import locked
from embedkit.extraction.run import run_extraction
from tests.extraction.fakes import request_for, write_corpus

folder = Path({str(tmp_path)!r})
corpus = write_corpus(folder / "audio", 6)
with locked(folder / "s.h5.work"):
    try:
        run_extraction(request_for(corpus, folder / "s.h5"))
    except ExtractionError as error:
        print(error)
run_extraction(request_for(corpus, folder / "s.h5"))
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert re.match(r"Another extraction writes to the same store \(process \d+ holds", result.stdout)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audio", "s.h5"]
    run_extraction(request_for(corpus_at(tmp_path / "audio", 6), tmp_path / "t.h5"))
    assert (tmp_path / "s.h5").read_bytes() == (tmp_path / "t.h5").read_bytes()


@pytest.mark.parametrize(
    ("held", "named"),
    [
        ("{own} {here}", "process {own} holds"),
        ("{own} elsewhere", "process {own} on elsewhere holds"),
        ("{dead} {here}", "another process holds"),
        ("rubbish", "another process holds"),
        (None, "another process holds"),
    ],
)
def test_the_holder_of_a_lock_is_named_where_it_can_be_believed(tmp_path: Path, held: str | None, named: str) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    words = {"own": os.getpid(), "dead": process.pid, "here": system.name_machine()}
    with locked(tmp_path / "work"):
        holder = tmp_path / "work" / "holder"
        if held is None:
            holder.unlink()
        else:
            holder.write_text(held.format(**words), encoding="utf-8")
        with pytest.raises(ExtractionError, match=re.escape(named.format(**words))), locked(tmp_path / "work"):
            pass
    assert not (tmp_path / "work").exists()


def test_a_lock_on_a_file_that_was_removed_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one before removes the file when it ends: who had opened it by then holds what nobody else sees."""
    from embedkit.extraction import lock as module

    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "lock").touch()
    taken: list[Any] = []

    class Late(module.FileLock):  # type: ignore[misc]
        def acquire(self, *args: Any, **options: Any) -> Any:
            found = super().acquire(*args, **options)
            taken.append(self)
            if len(taken) == 1:
                (tmp_path / "work" / "lock").unlink()
            return found

    monkeypatch.setattr(module, "FileLock", Late)
    with locked(tmp_path / "work"):
        assert len(taken) == 2
        with pytest.raises(ExtractionError, match="Another extraction"), locked(tmp_path / "work"):
            pass


def test_a_name_is_waited_for_on_windows_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "new").write_text("new")
    (tmp_path / "old").write_text("old")
    real, calls = os.replace, []

    def busy(*paths: Any) -> None:
        calls.append(paths)
        if len(calls) < 3:
            raise PermissionError(errno.EACCES, "used by another process")
        real(*paths)

    monkeypatch.setattr(os, "replace", busy)
    monkeypatch.setattr(system, "_PAUSE_SECONDS", 0.0)
    with pytest.raises(PermissionError):
        system.replace(tmp_path / "new", tmp_path / "old")
    with monkeypatch.context() as patch:
        # pathlib asks os.name as well: paths are made before.
        paths = tmp_path / "new", tmp_path / "old"
        patch.setattr(system.os, "name", "nt")
        system.replace(*paths)
    assert (tmp_path / "old").read_text() == "new"


def test_a_full_disk_is_no_missing_feature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        system.sync_folder(tmp_path)


def test_memory_and_cores_are_those_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    found = system.read_memory()
    assert 0 < found.available <= found.total == psutil.virtual_memory().total
    assert system.count_cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    assert system.count_cores() == os.cpu_count()


def test_flags_of_the_cpu_are_unknown_where_linux_does_not_list_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: Path, **_: Any) -> str:
        if missing:
            raise FileNotFoundError
        return "processor\t: 0\nFeatures\t: fp asimd bf16\n"

    monkeypatch.setattr(Path, "read_text", read)
    missing = False
    assert system.read_cpu_flags() == {"fp", "asimd", "bf16"}
    missing = True
    assert system.read_cpu_flags() == frozenset()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("facebook--hubert-base-ls960", "facebook--hubert-base-ls960"),
        ("my corpus: 2/3", "my-corpus-2-3"),
        ("ends in dots...", "ends-in-dots"),
        ("a..b", "a.b"),
        ("con", "con_"),
        ("NUL.h5", "NUL_.h5"),
        ("com1", "com1_"),
        ("console", "console"),
        ("icon.h5", "icon.h5"),
        ("größe", "größe"),
        ("<>|?*", "file"),
    ],
)
def test_names_of_files_are_legal_everywhere(text: str, name: str) -> None:
    assert safe_name(text, default="file") == name


def test_runs_and_stores_lie_in_folders_that_are_legal_everywhere(tmp_path: Path) -> None:
    store = write_synthetic_store(tmp_path / "con.h5", corpus="aux")
    (record,) = embedkit.fit(store, seeds=1, epochs=1, runs=tmp_path / "runs", device="cpu")
    assert record.folder.relative_to(tmp_path / "runs").parts[:2] == ("aux_", "con_")
    assert default_path("aux: 1", "nul") == Path("embeddings", "aux-1", "nul_.h5")


def test_one_module_knows_the_system() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in MODULES
        if path.name != "system.py"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if _SYSTEM.search(line)
    ]
    assert not found


def test_text_files_are_utf8_with_the_same_ends_of_lines_everywhere() -> None:
    wrong = [f"{path.relative_to(ROOT)}:{call.lineno}" for path in MODULES for call in _careless(path)]
    assert not wrong


def _careless(path: Path) -> Iterator[ast.Call]:
    """Yield calls that open text in the system's encoding, or write it with the system's ends of lines."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name, _, owner = ast.unparse(node.func)[::-1].partition(".")
        name, owner = name[::-1], owner[::-1]
        texts = [one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        named = {one.arg for one in node.keywords}
        opens = name == "open" and owner not in OTHER_OPENS
        if owner in METADATA:
            continue
        is_text = (name in ("read_text", "write_text") and owner) or (opens and not any("b" in mode for mode in texts))
        writes = name == "write_text" or (opens and any(mode in ("w", "a", "x") for mode in texts))
        if is_text and ("encoding" not in named or (writes and "newline" not in named)):
            yield node
