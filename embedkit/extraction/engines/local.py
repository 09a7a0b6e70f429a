"""This process encodes, one shard after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from embedkit.encoders.base import Encoder
from embedkit.extraction.encoding import EncodingConfig, encode_shards
from embedkit.extraction.engines.base import Engine, LoadEncoder
from embedkit.extraction.plan import Shard, Watch, WorkerTask
from embedkit.extraction.precision import relative_error
from embedkit.extraction.threads import computing_with
from embedkit.progress import Tell


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
