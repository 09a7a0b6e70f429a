"""The contract of every engine, shards to do in, finished shard files out; and that of this process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import torch

from embedkit.encoders.base import Encoder
from embedkit.extraction.encoding import EncodingConfig, encode_shards
from embedkit.extraction.plan import Shard, Watch, WorkerTask
from embedkit.extraction.precision import relative_error
from embedkit.extraction.threads import computing_with
from embedkit.progress import Tell


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


class LocalEngine(Engine):
    """Encodes in this process; files are read, and batches encoded, ahead across the borders of shards."""

    def __init__(self, tell: Tell = lambda sentence: None) -> None:
        self._tell = tell
        self._load: LoadEncoder | None = None
        self._device = "cpu"

    @property
    def threads(self) -> int:
        """As many as torch takes."""
        return torch.get_num_threads()

    def load_encoder(self, load: LoadEncoder, *, device: str, precision: str, threads: int | None) -> Encoder:
        """Load the encoder here."""
        self._load, self._device = load, device
        return load(device=device, precision=precision)

    def measure_error(self, config: EncodingConfig, shard: Shard) -> float | None:
        """Load the encoder once more, in fp32, and compare."""
        if self._load is None:
            return None
        with computing_with(config.threads):
            return relative_error(config, self._load(device=self._device, precision="fp32"), shard)

    def run(
        self, config: EncodingConfig, tasks: Sequence[WorkerTask], watch: Watch, shard_done: Callable[[Path], None]
    ) -> None:
        """Encode all shards in order."""
        encode_shards(
            config, tasks, batch_done=lambda batch: watch((batch,), None), shard_done=shard_done, tell=self._tell
        )
