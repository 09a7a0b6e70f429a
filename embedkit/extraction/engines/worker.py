"""What a worker of a cluster does: load the encoder once, then encode the shards it is given."""

from __future__ import annotations

import errno
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from embedkit import errors
from embedkit.encoders.base import Encoder, determining
from embedkit.errors import EmbedkitError, ExtractionError
from embedkit.extraction.encoding import EncodingConfig, encode_shards
from embedkit.extraction.engines.base import LoadEncoder
from embedkit.extraction.engines.described import describe_encoder
from embedkit.extraction.plan import PLAN_NAME, Shard, WorkerTask
from embedkit.extraction.precision import relative_error
from embedkit.extraction.threads import computing_with

PATIENCE_SECONDS = 60.0
"""How long a file may take to be seen by another machine that shares its folder."""


class WorkerResult(NamedTuple):
    """What a worker answers: a value, or a problem in words (its class, its arguments), never an embedding."""

    value: Any = None
    problem: tuple[str, tuple[Any, ...]] | None = None

    def unwrap(self) -> Any:
        """Return the value.

        Raises:
            EmbedkitError, OSError: the problem, as it was raised in the worker.
        """
        if self.problem is None:
            return self.value
        name, arguments = self.problem
        raise OSError(*arguments) if name == "OSError" else getattr(errors, name)(*arguments)


class Worker:
    """One process of a cluster; it holds the encoder and encodes one shard at a time."""

    def __init__(self, load: LoadEncoder, device: str, precision: str, threads: int) -> None:
        self._load, self._device, self._precision, self._threads = load, device, precision, threads
        self._encoder: Encoder | None = None
        self._checked = False
        self._warnings = _Warnings()
        logging.getLogger("embedkit").addHandler(self._warnings)

    def describe(self) -> WorkerResult:
        """Load the encoder and describe it."""
        return _reply(lambda: describe_encoder(self._loaded()))

    def run(self, config: EncodingConfig, task: WorkerTask) -> WorkerResult:
        """Encode one shard into its file; the value is what there is to tell."""
        return _reply(lambda: self._run(config, task))

    def measure(self, config: EncodingConfig, shard: Shard) -> WorkerResult:
        """Load the encoder once more, in fp32, and measure its precision's error on the first batch."""
        return _reply(lambda: self._measure(config, shard))

    def _measure(self, config: EncodingConfig, shard: Shard) -> float | None:
        with computing_with(config.threads):
            own = replace(config, encoder=self._loaded())
            return relative_error(own, self._load(device=self._device, precision="fp32"), shard)

    def _loaded(self) -> Encoder:
        if self._encoder is None:
            with computing_with(self._threads):
                self._encoder = self._load(device=self._device, precision=self._precision)
        return self._encoder

    def _run(self, config: EncodingConfig, task: WorkerTask) -> list[str]:
        encoder = self._loaded()
        told = self._warnings.take()
        if not self._checked:
            _check_place(task.path.parent, config.root)
            _check_encoder(encoder.identity(), config.encoder.identity())
            self._checked = True
        encode_shards(replace(config, encoder=encoder), [task], tell=told.append)
        return told


class _Warnings(logging.Handler):
    """What embedkit warns of in a worker, for whoever gave it its work."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._found.append(record.getMessage())

    def take(self) -> list[str]:
        """Return what has come since the last time."""
        found, self._found = self._found, []
        return found


def wait_for(path: Path) -> bool:
    """Wait for a file that another machine has written into a shared folder."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not path.exists():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def _reply(do: Callable[[], Any]) -> WorkerResult:
    try:
        return WorkerResult(do())
    except EmbedkitError as error:
        return WorkerResult(problem=(_public_class(error), (str(error),)))
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        name = None if error.filename is None else str(error.filename)
        return WorkerResult(problem=("OSError", (error.errno or errno.EIO, reason, name)))


def _public_class(error: EmbedkitError) -> str:
    names = [kind.__name__ for kind in type(error).__mro__ if getattr(errors, kind.__name__, None) is kind]
    return str(names[0])


def _check_place(work: Path, root: Path) -> None:
    if not wait_for(work / PLAN_NAME):
        raise ExtractionError(
            f"The worker on {socket.gethostname()!r} does not see the folder {str(work)!r}; choose an --out that all "
            "machines of the cluster share under the same path."
        )
    if not root.is_dir():
        raise ExtractionError(
            f"The worker on {socket.gethostname()!r} does not see the corpus in {str(root)!r}; put it where all "
            "machines of the cluster see it under the same path."
        )


def _check_encoder(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for name, ours, theirs in (
        ("weights or options", determining(found), determining(expected)),
        ("versions of libraries", found.get("versions"), expected.get("versions")),
    ):
        if ours != theirs:
            raise ExtractionError(
                f"The worker on {socket.gethostname()!r} has other {name} ({_first_difference(ours, theirs)}); install "
                "the same encoder and libraries on all machines of the cluster."
            )


def _first_difference(ours: Any, theirs: Any) -> str:
    ours, theirs = ours or {}, theirs or {}
    name = next(key for key in sorted({*ours, *theirs}) if ours.get(key) != theirs.get(key))
    return f"{name}: {ours.get(name)}, expected {theirs.get(name)}"
