"""This process encodes, one shard after the other."""

from __future__ import annotations

import torch

from embedkit.encoders.base import Encoder
from embedkit.extraction.encoding import run_shards
from embedkit.extraction.engines.base import Engine, LoadEncoder, Work
from embedkit.extraction.precision import relative_error
from embedkit.extraction.request import Tell
from embedkit.extraction.threads import computing_with


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

    def measure_error(self, work: Work) -> float | None:
        """Load the encoder once more, in fp32, and compare."""
        if self._load is None or not work.pending:
            return None
        with computing_with(work.settings.threads):
            reference = self._load(device=self._device, precision="fp32")
            return relative_error(work.recipe, reference, work.pending[0][1])

    def run(self, work: Work) -> None:
        """Encode all shards in order."""
        run_shards(
            work.recipe,
            work.pending,
            settings=work.settings,
            workers=work.workers,
            failures=work.failures,
            batch_done=work.batch_done,
            shard_done=work.shard_done,
            tell=work.tell,
        )
