"""The workers of a Ray cluster encode, each one shard at a time; files in a shared folder are all that comes back."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from embedkit.encoders.base import Encoder
from embedkit.errors import ExtractionError
from embedkit.extraction.encoding import EncodingConfig
from embedkit.extraction.engines.base import Engine, LoadEncoder
from embedkit.extraction.engines.cluster import RayCluster, WorkerDiedError
from embedkit.extraction.engines.described import DescribedEncoder
from embedkit.extraction.engines.worker import Worker, wait_for
from embedkit.extraction.plan import Shard, Watch, WorkerTask
from embedkit.progress import Tell

MOST_DEATHS = 3
"""Workers that may die over one shard, or before any shard is finished."""


class RayEngine(Engine):
    """Hands shards to workers; one that dies is replaced, and only its shard is done again."""

    def __init__(self, tell: Tell = lambda sentence: None) -> None:
        self._tell = tell
        self._cluster = RayCluster(tell)
        self._first: Any = None
        self._load: LoadEncoder | None = None
        self._device, self._precision, self._threads = "cpu", "fp32", 1

    @property
    def threads(self) -> int:
        """As many as torch takes here, but not more than every machine has."""
        cores = [int(machine.get("CPU", 0)) for machine in self._cluster.machines()]
        return max(1, min([torch.get_num_threads(), *filter(None, cores)]))

    def load_encoder(self, load: LoadEncoder, *, device: str, precision: str, threads: int | None) -> Encoder:
        """Load the encoder in a first worker and return its description."""
        if device not in ("auto", "cpu", "cuda"):
            raise ExtractionError(
                f"The device is {device!r}, expected auto, cpu or cuda with --engine ray: Ray gives every worker a GPU "
                "of its own."
            )
        self._load = load
        self._device = ("cuda" if self._cluster.room(1, 1) else "cpu") if device == "auto" else device
        self._precision = precision
        self._threads = threads or self.threads
        self._room()
        encoder = self._describe()
        # All workers take what the first one chose; one that needs no GPU must not keep others from it.
        self._precision = encoder.identity().get("precision", precision)
        if device == "auto" and encoder.device.type == "cpu" and self._device == "cuda":
            self._device = "cpu"
            self._end_workers()
        return encoder

    def measure_error(self, config: EncodingConfig, shard: Shard) -> float | None:
        """Let the first worker load the encoder once more, in fp32, and compare."""
        self._first = self._take_worker()
        call = self._first.measure.remote(self._cluster.share(config), shard)
        self._cluster.first_answered([call])
        try:
            error: float | None = self._cluster.answer(call).unwrap()
        except WorkerDiedError:
            self._cluster.end(self._first)
            self._first, error = None, None
        return error

    def run(
        self, config: EncodingConfig, tasks: Sequence[WorkerTask], watch: Watch, shard_done: Callable[[Path], None]
    ) -> None:
        """Encode all shards, as many at a time as the cluster has room for."""
        if not tasks:
            return
        if self._threads != config.threads:
            self._threads = config.threads
            self._end_workers()
        count = min(self._room(), len(tasks))

        def accept(task: WorkerTask) -> None:
            _require_written(task.path)
            shard_done(task.path)
            watch(task.shard, count)

        self._tell(f"Ray: workers on {self._device}: {count}, threads of each: {self._threads}.")
        try:
            self._run(config, tasks, count, accept)
        finally:
            self._end_workers()

    def close(self) -> None:
        """End the workers, and the cluster if it was started here."""
        self._cluster.close()

    def _run(
        self, config: EncodingConfig, tasks: Sequence[WorkerTask], count: int, accept: Callable[[WorkerTask], None]
    ) -> None:
        queue, deaths = deque(tasks), Counter[Path]()
        shared = self._cluster.share(config)
        running: dict[Any, tuple[Any, WorkerTask]] = {}

        def give(worker: Any) -> None:
            if queue:
                task = queue.popleft()
                # Other processes have another current folder.
                running[worker.run.remote(shared, task._replace(path=task.path.absolute()))] = (worker, task)

        for _ in range(count):
            give(self._take_worker())
        finished = 0
        said: set[str] = set()
        while running:
            call = self._cluster.first_answered(list(running))
            worker, task = running.pop(call)
            try:
                told = self._cluster.answer(call).unwrap()
            except WorkerDiedError as error:
                deaths[task.path] += 1
                if deaths[task.path] == MOST_DEATHS or (not finished and deaths.total() >= MOST_DEATHS):
                    first, last = task.shard[0][0].id, task.shard[-1][-1].id
                    raise _given_up(f"over the utterances {first!r} to {last!r}", error) from error
                self._tell(f"A worker died ({error}); another one does its shard again.")
                queue.appendleft(task)
                self._cluster.end(worker)
                worker = self._take_worker()
            else:
                finished += 1
                # What concerns a machine, each of its workers says.
                for sentence in told:
                    if sentence not in said:
                        self._tell(sentence)
                said.update(told)
                accept(task)
            give(worker)

    def _describe(self) -> DescribedEncoder:
        for _ in range(MOST_DEATHS):
            worker = self._start_worker()
            call = worker.describe.remote()
            self._cluster.first_answered([call])
            try:
                encoder = DescribedEncoder(self._cluster.answer(call).unwrap())
            except WorkerDiedError as error:
                self._cluster.end(worker)
                reason = error
            else:
                self._first = worker
                return encoder
        raise _given_up("while they loaded the encoder", reason) from reason

    def _needs(self) -> dict[str, int]:
        return {"cpus": 1, "gpus": 1} if self._device == "cuda" else {"cpus": self._threads, "gpus": 0}

    def _room(self) -> int:
        """Return how many workers the cluster has room for.

        Raises:
            ExtractionError: for none.
        """
        needs = self._needs()
        room = self._cluster.room(**needs)
        if not room:
            listed = f"{needs['cpus']} CPUs" + (f" and {needs['gpus']} GPU" if needs["gpus"] else "")
            raise ExtractionError(
                f"No machine of the Ray cluster has {listed} for a worker; give fewer --threads, or another --device."
            )
        return room

    def _start_worker(self) -> Any:
        arguments = (self._load, self._device, self._precision, self._threads)
        return self._cluster.start(Worker, *arguments, **self._needs())

    def _take_worker(self) -> Any:
        """Return the worker that has loaded the encoder already, or else a new one."""
        worker, self._first = self._first, None
        return worker or self._start_worker()

    def _end_workers(self) -> None:
        self._first = None
        self._cluster.end_all()


def _require_written(path: Path) -> None:
    if not wait_for(path):
        raise ExtractionError(
            f"A worker finished the shard {path.name!r}, but it is not in {str(path.parent)!r}; choose an --out that "
            "all machines of the cluster share under the same path."
        )


def _given_up(when: str, error: Exception) -> ExtractionError:
    return ExtractionError(
        f"{MOST_DEATHS} workers of the Ray cluster died {when} ({error}); check that embedkit is installed on all "
        "machines and that their memory suffices, then run the same command again to continue."
    )
