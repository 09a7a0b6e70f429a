"""The contract of every engine: shards to do in, finished shard files out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from embedkit.encoders.base import Encoder
from embedkit.extraction.encoding import EncodingConfig
from embedkit.extraction.plan import Shard, Watch, WorkerTask


class LoadEncoder(Protocol):
    """Load the encoder; importable by name, so that other processes can call it as well."""

    def __call__(self, *, device: str, precision: str) -> Encoder:
        """Return the encoder on a device."""


class Engine(ABC):
    """Encodes shards. Equal plans, threads and precisions give equal files, whatever the engine."""

    @abstractmethod
    def load_encoder(self, load: LoadEncoder, *, device: str, precision: str, threads: int | None) -> Encoder:
        """Load the encoder where it will run; return it, or what describes it.

        Args:
            load: Loads it.
            device: "auto", "cpu", "cuda", "cuda:1" or "mps".
            precision: As `load` takes it.
            threads: Threads of the encoder on a CPU; None: as many as suit.
        """

    @property
    @abstractmethod
    def threads(self) -> int:
        """Threads of the encoder where the user names none."""

    @abstractmethod
    def measure_error(self, config: EncodingConfig, shard: Shard) -> float | None:
        """Return the error of the encoder's precision against fp32 on the first batch that can be read.

        None where no clip of the shard can be read, or the encoder is unavailable in fp32.
        """

    @abstractmethod
    def run(
        self, config: EncodingConfig, tasks: Sequence[WorkerTask], watch: Watch, shard_done: Callable[[Path], None]
    ) -> None:
        """Encode shards.

        Args:
            config: How clips become rows; the same for every worker.
            tasks: The shards.
            watch: Hears of finished batches.
            shard_done: Called with every finished shard file.

        Raises:
            ExtractionError: an utterance cannot be used and is not to be skipped, or the engine cannot go on.
        """

    def close(self) -> None:
        """Give back what the engine holds."""
        return
