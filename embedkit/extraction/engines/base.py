"""The contract of every engine: shards to do in, finished shard files out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from embedkit.encoders.base import Encoder
from embedkit.extraction.encoding import EncodingConfig
from embedkit.extraction.plan import Batch, PlanSettings, Shard
from embedkit.extraction.request import Tell
from embedkit.extraction.segments import Failures


class LoadEncoder(Protocol):
    """Load the encoder; importable by name, so that other processes can call it as well."""

    def __call__(self, *, device: str, precision: str) -> Encoder:
        """Return the encoder on a device."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """Shards to encode.

    Attributes:
        recipe: How clips become rows.
        pending: Where each shard goes, and its batches.
        settings: What is computed with; the same for every worker.
        workers: Threads that read audio, in each process.
        failures: Receives utterances that cannot be used.
        batch_done: Called after every batch, by engines that see them.
        watch_shard: Called with a finished shard's batches and the number of workers, by engines that do not.
        shard_done: Called with every finished shard file.
        tell: How the user hears of it.
    """

    recipe: EncodingConfig
    pending: Sequence[tuple[Path, Shard]]
    settings: PlanSettings
    workers: int
    failures: Failures
    batch_done: Callable[[Batch], None]
    watch_shard: Callable[[Shard, int], None]
    shard_done: Callable[[Path], None]
    tell: Tell


class Engine(ABC):
    """Encodes shards. Equal plans, threads and precisions give equal files, whatever the engine."""

    @abstractmethod
    def load_encoder(self, load: LoadEncoder, *, device: str, precision: str, threads: int | None) -> Encoder:
        """Load the encoder where it will run; return it, or what describes it.

        Args:
            load: Loads it.
            device: "auto", "cpu" or "cuda".
            precision: As `load` takes it.
            threads: Threads of the encoder on a CPU; None: as many as suit.
        """

    @property
    @abstractmethod
    def threads(self) -> int:
        """Threads of the encoder where the user names none."""

    @abstractmethod
    def measure_error(self, work: Work) -> float | None:
        """Return the error of the encoder's precision against fp32 on the first batch that can be read.

        None where no clip of the first shard can be read, or the encoder cannot be had in fp32.
        """

    @abstractmethod
    def run(self, work: Work) -> None:
        """Encode all shards.

        Raises:
            ExtractionError: an utterance cannot be used and is not to be skipped, or the engine cannot go on.
        """

    def close(self) -> None:
        """Give back what the engine holds."""
        return
