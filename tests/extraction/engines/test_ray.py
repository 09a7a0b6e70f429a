"""Extraction by the workers of a Ray cluster: the local engine's bytes, whatever dies meanwhile."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from embedkit.errors import ExtractionError
from embedkit.extraction.engines import open_engine
from embedkit.extraction.engines.cluster import _reason, _short_folder
from embedkit.extraction.run import run_extraction
from embedkit.installation import install_command
from embedkit.store import find_damage, open_store
from tests.extraction.fakes import corpus_at, load_dying, load_fake, request_for, write_corpus

ROOT = Path(__file__).parents[3]
COUNT = 40
RAY_SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
"""A token of our own: Ray would keep one in the home folder."""


def test_a_missing_ray_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ExtractionError, match=re.escape(install_command("ray"))), open_engine("ray", print):
        pass


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A cluster of two processors on this machine, connected to as a user's own program would be."""
    patch = pytest.MonkeyPatch()
    # Ray reads them when it is imported.
    for name, value in RAY_SETTINGS.items():
        patch.setenv(name, value)
    patch.delenv("RAY_ADDRESS", raising=False)
    ray = pytest.importorskip("ray", reason="Ray is not installed (pip install '.[ray]')")
    folder = _short_folder()
    try:
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=80 << 20,
            log_to_driver=False,
            _temp_dir=folder,
        )
        yield ray
    finally:
        ray.shutdown()
        patch.undo()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the local engine writes."""
    folder = tmp_path_factory.mktemp("ray")
    run_extraction(request_for(write_corpus(folder / "audio", COUNT), folder / "whole.h5"))
    return folder / "whole.h5"


def run_on_ray(whole: Path, out: Path, load: Any = load_fake, *, threads: int = 1, **changes: Any) -> list[str]:
    """Extract on the cluster and return what was said."""
    told: list[str] = []
    with open_engine("ray", told.append) as engine:
        encoder = engine.load_encoder(load, device="auto", precision="fp32", threads=threads)
        corpus = corpus_at(whole.parent / "audio", COUNT)
        request = request_for(corpus, out, encoder, tell=told.append, threads=threads, **changes)
        run_extraction(request, engine)
    return told


@pytest.mark.slow
def test_the_store_equals_the_local_engines_to_the_byte(cluster: Any, whole: Path, tmp_path: Path) -> None:
    told = run_on_ray(whole, tmp_path / "s.h5")
    assert "Ray: workers on cpu: 2, threads of each: 1." in told
    assert (tmp_path / "s.h5").read_bytes() == whole.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["s.h5"]
    assert cluster.is_initialized(), "a cluster that was there before is left running"


@pytest.mark.heavy
def test_passes_side_by_side_in_a_worker_change_no_byte(cluster: Any, whole: Path, tmp_path: Path) -> None:
    run_on_ray(whole, tmp_path / "ray.h5", threads=2)
    run_extraction(request_for(corpus_at(whole.parent / "audio", COUNT), tmp_path / "local.h5", threads=2))
    assert open_store(tmp_path / "ray.h5").extraction["passes"] == 2
    assert (tmp_path / "ray.h5").read_bytes() == (tmp_path / "local.h5").read_bytes()


@pytest.mark.heavy
def test_a_killed_worker_costs_only_its_shard(cluster: Any, whole: Path, tmp_path: Path) -> None:
    (tmp_path / "markers").mkdir()
    (tmp_path / "markers" / "1").touch()
    told = run_on_ray(whole, tmp_path / "s.h5", partial(load_dying, markers=tmp_path / "markers", after=3))
    assert sum("A worker died" in sentence for sentence in told) == 1
    assert not list((tmp_path / "markers").iterdir())
    assert (tmp_path / "s.h5").read_bytes() == whole.read_bytes()


@pytest.mark.heavy
def test_workers_that_keep_dying_are_one_sentence_and_finished_shards_are_kept(
    cluster: Any, whole: Path, tmp_path: Path
) -> None:
    (tmp_path / "markers").mkdir()
    for number in range(60):
        (tmp_path / "markers" / str(number)).touch()
    with pytest.raises(ExtractionError, match=r"3 workers of the Ray cluster died .* same command again") as caught:
        run_on_ray(whole, tmp_path / "s.h5", partial(load_dying, markers=tmp_path / "markers", after=2))
    assert "\n" not in str(caught.value)
    finished = list((tmp_path / "s.h5.work").glob("*.shard"))
    assert finished
    run_extraction(request_for(corpus_at(whole.parent / "audio", COUNT), tmp_path / "s.h5"))
    assert (tmp_path / "s.h5").read_bytes() == whole.read_bytes()


@pytest.mark.heavy
def test_what_cannot_be_used_stops_or_is_listed_as_by_the_local_engine(cluster: Any, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "audio", COUNT)
    damaged = tmp_path / "audio" / "u007.wav"
    damaged.write_bytes(damaged.read_bytes()[:-40] + b"\xff" * 40)
    with pytest.raises(ExtractionError, match=r"'u007' cannot be used: .*--on-error skip"):
        run_on_ray(tmp_path / "whole.h5", tmp_path / "s.h5")
    run_on_ray(tmp_path / "whole.h5", tmp_path / "s.h5", on_error="skip")
    run_extraction(request_for(corpus, tmp_path / "whole.h5", on_error="skip"))
    assert list(open_store(tmp_path / "s.h5").failures) == ["u007"]
    assert (tmp_path / "s.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


@pytest.mark.heavy
def test_a_store_in_several_files_is_the_same_by_either_engine(cluster: Any, whole: Path, tmp_path: Path) -> None:
    run_on_ray(whole, tmp_path / "ray" / "s.h5", max_file_gb=1e-5)
    corpus = corpus_at(whole.parent / "audio", COUNT)
    run_extraction(request_for(corpus, tmp_path / "local" / "s.h5", max_file_gb=1e-5))
    ours, theirs = (sorted((tmp_path / name).rglob("*.h*5")) for name in ("ray", "local"))
    assert len(ours) > 3
    assert [path.read_bytes() for path in ours] == [path.read_bytes() for path in theirs]
    assert not find_damage(open_store(tmp_path / "ray" / "s.h5"))


@pytest.mark.slow
def test_more_threads_than_a_machine_has_are_one_sentence(cluster: Any) -> None:
    with (
        open_engine("ray", print) as engine,
        pytest.raises(ExtractionError, match="No machine of the Ray cluster has 3 CPUs"),
    ):
        engine.load_encoder(load_fake, device="cpu", precision="fp32", threads=3)


@pytest.mark.slow
@pytest.mark.parametrize("device", ["mps", "cuda:1"])
def test_no_single_gpu_is_named_where_ray_hands_them_out(cluster: Any, device: str) -> None:
    with (
        open_engine("ray", print) as engine,
        pytest.raises(ExtractionError, match=f"'{device}', expected auto, cpu or cuda with --engine ray"),
    ):
        engine.load_encoder(load_fake, device=device, precision="fp32", threads=1)


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (pip install '.[ray]')")
    with run_command(tmp_path, {"RAY_ADDRESS": "127.0.0.1:1"}) as process:
        said = process.communicate(timeout=60)[1]
    assert "Cannot use the Ray cluster at RAY_ADDRESS='127.0.0.1:1' ([Errno 111] Connection refused)" in said
    assert "--engine local" in said
    assert "Traceback" not in said


@pytest.fixture
def head(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A cluster that somebody else has started: its address and its first process."""
    pytest.importorskip("ray", reason="Ray is not installed (pip install '.[ray]')")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = _short_folder()
    options = ["--head", "--block", "--port", str(port), "--num-cpus", "2", "--temp-dir", folder]
    options += ["--include-dashboard", "false", "--object-store-memory", str(80 << 20)]
    process = subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", "start", *options],
        env={**os.environ, **RAY_SETTINGS, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_until_listening(port)
    yield f"127.0.0.1:{port}", process
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)


def wait_until_listening(port: int) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < until
            time.sleep(0.2)
        else:
            return


@pytest.mark.heavy
def test_an_existing_cluster_is_used_and_left_running(
    head: tuple[str, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    address, first = head
    with run_command(tmp_path, {"RAY_ADDRESS": address}) as process:
        found, said = process.communicate(timeout=120)
    assert found.strip() == "s.h5", said
    assert "Ray: workers on cpu: " in said
    assert len(open_store(tmp_path / "s.h5")) == COUNT
    assert first.poll() is None


def test_the_reason_of_a_death_is_one_line() -> None:
    died = "The actor died unexpectedly before finishing this task.\n\tclass_name: Worker\n\tpid: 1"
    assert _reason(RuntimeError(died)) == "The actor died unexpectedly before finishing this task"
    failed = "The actor died because of an error.\n\x1b[36mray::x\x1b[39m (pid=1)\nModuleNotFoundError: No module 'e'"
    assert _reason(RuntimeError(failed)) == "ModuleNotFoundError: No module 'e'"
    assert _reason(RuntimeError("")) == "RuntimeError"


def heed_interrupts() -> None:
    """Undo what background jobs of a shell start with: SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run_command(
    folder: Path, environment: dict[str, str], count: int = COUNT, encoder: str = "mfcc"
) -> subprocess.Popen[str]:
    """Start `embedkit extract` on the corpus in a folder, in a process group of its own."""
    command = [sys.executable, "-m", "embedkit", "extract", "noise.csv", "--encoder", encoder, "--engine", "ray"]
    command += ["--threads", "1", "--out", "s.h5"]
    kept = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    rows = [f"audio/u{index:03}.wav,x" for index in range(count)]
    write_corpus(folder / "audio", count)
    (folder / "noise.csv").write_text("\n".join(["path,label", *rows]))
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**kept, **RAY_SETTINGS, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )


OWN = """
from embedkit.encoders.acoustic import MfccEncoder


class Own(MfccEncoder):
    def __init__(self):
        super().__init__(name="mfcc")
"""


@pytest.mark.heavy
def test_workers_find_what_was_typed_in_the_drivers_folder_and_nothing_else_there(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (pip install '.[ray]')")
    (tmp_path / "zz_mine.py").write_text(OWN)
    for name in ("winreg", "lz4", "coverage"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    process = run_command(tmp_path, {}, encoder="zz_mine:Own")
    found, said = process.communicate(timeout=120)
    assert found.strip() == "s.h5", said
    assert not (tmp_path / "ran").exists()


def processes_with(mark: str) -> list[str]:
    """Return the commands of all processes that inherited a mark in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@pytest.mark.heavy
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes by /proc")
def test_ctrl_c_ends_cleanly_leaves_no_process_and_the_same_command_continues(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (pip install '.[ray]')")
    count = 1500
    mark = uuid.uuid4().hex
    process = run_command(tmp_path, {"EMBEDKIT_TEST_MARK": mark}, count)
    plan = tmp_path / "s.h5.work" / "plan.json"
    until = time.monotonic() + 120
    while not plan.exists() and time.monotonic() < until and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert "Traceback" not in said
    assert "run the same command again to continue" in said
    assert process.returncode == 130
    assert wait_until_gone(mark) == []
    again = run_command(tmp_path, {"EMBEDKIT_TEST_MARK": mark}, count)
    assert again.communicate(timeout=120)[0].strip() == "s.h5"
    assert len(open_store(tmp_path / "s.h5")) == count
    assert wait_until_gone(mark) == []


def wait_until_gone(mark: str) -> list[str]:
    until = time.monotonic() + 20
    while (left := processes_with(mark)) and time.monotonic() < until:
        time.sleep(0.2)
    return left
