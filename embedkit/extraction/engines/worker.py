"""What a worker of a cluster does: load the encoder once, then encode the shards it is given."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from embedkit import errors
from embedkit.encoders.base import Encoder
from embedkit.errors import EmbedkitError, ExtractionError
from embedkit.extraction.encoding import EncodingConfig, run_shards
from embedkit.extraction.engines.base import LoadEncoder, Work
from embedkit.extraction.engines.described import describe_encoder
from embedkit.extraction.plan import PlanSettings, Shard
from embedkit.extraction.precision import relative_error
from embedkit.extraction.request import PLAN_NAME, determining
from embedkit.extraction.segments import Failures, OnError
from embedkit.extraction.threads import computing_with

PATIENCE_SECONDS = 60.0
"""How long a file may take to be seen by another machine that shares its folder."""


@dataclass(frozen=True, kw_only=True)
class WorkerTask:
    """What all workers of one extraction have in common.

    Attributes:
        recipe: The recipe's values beside the encoder.
        settings: What is computed with.
        workers: Threads that read audio.
        on_error: Whether an utterance that cannot be used ends the extraction.
        identity: What the encoder must say of itself.
    """

    recipe: dict[str, Any]
    settings: PlanSettings
    workers: int
    on_error: OnError
    identity: dict[str, Any]

    @classmethod
    def of(cls, work: Work) -> WorkerTask:
        """Take what workers need from the work at hand."""
        recipe = work.recipe
        return cls(
            recipe={item.name: getattr(recipe, item.name) for item in fields(recipe) if item.name != "encoder"},
            settings=work.settings,
            workers=work.workers,
            on_error=work.failures.on_error,
            identity=recipe.encoder.identity(),
        )


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

    def describe(self) -> WorkerResult:
        """Load the encoder and describe it."""
        return _reply(lambda: describe_encoder(self._loaded()))

    def run(self, orders: WorkerTask, path: str, shard: Shard) -> WorkerResult:
        """Encode one shard into its file; the value is what there is to tell."""
        return _reply(lambda: self._run(orders, Path(path), shard))

    def measure(self, orders: WorkerTask, shard: Shard) -> WorkerResult:
        """Load the encoder once more, in fp32, and measure its precision's error on the first batch."""
        return _reply(lambda: self._measure(orders, shard))

    def _measure(self, orders: WorkerTask, shard: Shard) -> float | None:
        with computing_with(orders.settings.threads):
            recipe = EncodingConfig(encoder=self._loaded(), **orders.recipe)
            return relative_error(recipe, self._load(device=self._device, precision="fp32"), shard)

    def _loaded(self) -> Encoder:
        if self._encoder is None:
            with computing_with(self._threads):
                self._encoder = self._load(device=self._device, precision=self._precision)
        return self._encoder

    def _run(self, orders: WorkerTask, path: Path, shard: Shard) -> list[str]:
        told: list[str] = []
        encoder = self._loaded()
        if not self._checked:
            _check_place(path.parent, orders.recipe["root"])
            _check_encoder(encoder.identity(), orders.identity)
            self._checked = True
        run_shards(
            EncodingConfig(encoder=encoder, **orders.recipe),
            [(path, shard)],
            settings=orders.settings,
            workers=orders.workers,
            failures=Failures(orders.on_error),
            batch_done=lambda batch: None,
            shard_done=lambda done: None,
            tell=told.append,
        )
        return told


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
