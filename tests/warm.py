"""Commands in processes of their own that import nothing: they are forked from one that has imported everything.

For tests of what becomes of a process, or of several, where how it starts is not what is tested.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


class WarmProcess:
    """A process that runs `python -m COMMAND...` in a folder and a session of its own.

    What it says goes to a file, or to two: standard output and standard error.
    """

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str], *said: Path) -> None:
        if "forkserver" not in multiprocessing.get_all_start_methods():
            pytest.skip("processes cannot be forked on this system")
        from multiprocessing import forkserver

        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.imported"])
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = str(ROOT)
        try:
            forkserver.ensure_running()
        finally:
            os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)
        self._process = context.Process(target=_run, args=(list(command), folder, dict(environment), *said))
        self._process.start()
        self.pid = self._process.pid or 0

    def poll(self) -> int | None:
        """Return the exit code, minus a signal's number, if it has ended."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the exit code."""
        self._process.join(timeout)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired(str(self._process), timeout or 0)
        return code


def _run(command: list[str], folder: Path, environment: dict[str, str], *said: Path) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for stream, file in ((1, said[0]), (2, said[-1])):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), stream)
    sys.argv = command
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)
