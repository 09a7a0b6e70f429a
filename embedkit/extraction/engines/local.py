"""This process encodes, one shard after the other."""

from __future__ import annotations

import torch

from embedkit.encoders.base import Encoder
from embedkit.extraction.encoding import run_shards
from embedkit.extraction.engines.base import Engine, LoadEncoder, Work
from embedkit.extraction.request import Tell
from embedkit.extraction.threads import computing_with


class LocalEngine(Engine):
    """Encodes in this process; files are read ahead across the borders of shards."""

    def __init__(self, tell: Tell = lambda sentence: None) -> None:
        self._tell = tell

    @property
    def threads(self) -> int:
        """As many as torch takes."""
        return torch.get_num_threads()

    def load_encoder(self, load: LoadEncoder, *, device: str, precision: str, threads: int | None) -> Encoder:
        """Load the encoder here."""
        return load(device=device, precision=precision)

    def run(self, work: Work) -> None:
        """Encode all shards in order."""
        with computing_with(work.settings.threads):
            run_shards(
                work.recipe,
                work.pending,
                workers=work.workers,
                failures=work.failures,
                batch_done=work.batch_done,
                shard_done=work.shard_done,
                tell=work.tell,
            )
