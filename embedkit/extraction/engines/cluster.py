"""A Ray cluster: the one that is there, or one on this machine; what it has, and workers on it."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embedkit.errors import ExtractionError
from embedkit.progress import Tell
from embedkit.registry import import_extra

_logger = logging.getLogger("embedkit")

_PATIENCE_SECONDS = 30.0
_CONNECT_SECONDS = 20.0
_OBJECT_STORE_BYTES = 100 << 20
"""Nothing large passes through Ray; its own default is a third of the memory."""
_LONGEST_FOLDER = 40
"""Characters: Ray puts sockets into its folder, and their paths may have 107."""


class WorkerDiedError(Exception):
    """The process behind a worker ended, or its machine did."""


class RayCluster:
    """The cluster that `RAY_ADDRESS` names or this process is connected to; else one of this machine's own.

    Raises:
        ExtractionError: Ray is not installed, or the cluster cannot be reached.
    """

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._ray = import_extra(
            "ray", extra="ray", needed_by="--engine ray", error=ExtractionError, otherwise="take --engine local"
        )
        self._owned = not self._ray.is_initialized()
        self._folder: str | None = None
        self._workers: list[Any] = []
        if self._owned:
            self._connect()

    def machines(self) -> list[dict[str, float]]:
        """Return what each machine has: "CPU", "GPU", ..."""
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def room(self, cpus: int, gpus: int) -> int:
        """Return how many workers of this size the machines hold."""
        wanted = {name: number for name, number in (("CPU", cpus), ("GPU", gpus)) if number}
        return sum(
            min(int(machine.get(name, 0) // number) for name, number in wanted.items()) for machine in self.machines()
        )

    def start(self, kind: type, *arguments: Any, cpus: int, gpus: int) -> Any:
        """Start a worker: an object in a process of its own, on a machine that has room."""
        actor = self._ray.remote(kind).options(num_cpus=cpus, num_gpus=gpus, max_restarts=0, max_task_retries=0)
        worker = actor.remote(*arguments)
        self._workers.append(worker)
        return worker

    def share(self, value: Any) -> Any:
        """Put a small value where all workers find it."""
        return self._ray.put(value)

    def first_answered(self, calls: Sequence[Any]) -> Any:
        """Wait for one of the calls; say so when there is no room on the cluster for their workers."""
        told = False
        while True:
            done, _ = self._ray.wait(list(calls), num_returns=1, timeout=_PATIENCE_SECONDS)
            if done:
                return done[0]
            if not told and self._ray.available_resources().get("CPU", 0) < 1:
                self._tell("Waiting for the Ray cluster, which is busy.")
                told = True

    def answer(self, call: Any) -> Any:
        """Return what a worker answered.

        Raises:
            WorkerDiedError: it can answer no more.
        """
        exceptions = self._ray.exceptions
        try:
            return self._ray.get(call)
        except exceptions.RayTaskError:
            raise
        except exceptions.RayError as error:
            raise WorkerDiedError(_reason(error)) from error

    def end(self, worker: Any) -> None:
        """End a worker."""
        self._workers.remove(worker)
        self._ray.kill(worker)

    def end_all(self) -> None:
        """End all workers."""
        while self._workers and self._ray.is_initialized():
            self.end(self._workers[-1])

    def close(self) -> None:
        """End all workers, and the cluster if it was started here."""
        try:
            self.end_all()
        finally:
            if self._owned:
                self._ray.shutdown()
            if self._folder is not None:
                _keep_reports(Path(self._folder))
                shutil.rmtree(self._folder, ignore_errors=True)

    def _connect(self) -> None:
        # Ray puts the current folder first on every worker's path of modules, whatever lies in it; at the root of the
        # file system lies nothing that could be taken for one.
        with contextlib.chdir(Path(sys.prefix).anchor):
            self._initialise()

    def _initialise(self) -> None:
        address = os.environ.get("RAY_ADDRESS")
        quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
        try:
            if address:
                _check_reachable(address)
                self._ray.init(address=address, **quiet)
            else:
                os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
                self._folder = _short_folder()
                self._ray.init(
                    address="local",
                    include_dashboard=False,
                    object_store_memory=_OBJECT_STORE_BYTES,
                    _temp_dir=self._folder,
                    **quiet,
                )
        except (OSError, RuntimeError, ValueError) as error:
            self.close()
            where = f"the Ray cluster at RAY_ADDRESS={address!r}" if address else "a Ray cluster on this machine"
            reason = " ".join(str(error).split()).rstrip(".")
            raise ExtractionError(
                f"Cannot use {where} ({reason}); check it with `ray status`, or take --engine local."
            ) from error
        except BaseException:
            self.close()
            raise


def _check_reachable(address: str) -> None:
    """Connect to `host:port`; Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()


def _reason(error: Exception) -> str:
    """Return the line of Ray's report that says why: the exception's, where there was one, else the first."""
    lines = [line.strip() for line in re.sub(r"\x1b\[\d*m", "", str(error)).splitlines() if line.strip()]
    raised = [line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)]
    return [type(error).__name__, *lines[:1], *raised][-1].rstrip(".:")


def _keep_reports(folder: Path) -> None:
    """Enter what libraries printed in the workers into the log; lines of Ray's own begin with a colon."""
    for path in sorted(folder.glob("session_latest/logs/worker-*")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.strip() and not line.startswith(":"):
                _logger.info("Ray: %s: %s", path.name, line)


def _short_folder() -> str:
    place = tempfile.gettempdir()
    return tempfile.mkdtemp(prefix="ray-", dir="/tmp" if len(place) > _LONGEST_FOLDER else place)
