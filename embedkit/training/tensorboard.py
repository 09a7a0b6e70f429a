"""Learning curves and scores for TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedkit.errors import FitError
from embedkit.registry import import_extra

FOLDER = "tensorboard"
FLUSH_SECONDS = 5


class TensorBoard:
    """Writes event files below the folder of the runs: `tensorboard --logdir runs/tensorboard` shows them.

    Raises:
        FitError: TensorBoard is not installed.
    """

    def __init__(self, runs: Path) -> None:
        import_extra("tensorboard", extra="tensorboard", needed_by="--track tensorboard", error=FitError)
        self.folder = runs / FOLDER
        self.writers: dict[str, Any] = {}

    def start(self, name: str, config: Mapping[str, Any]) -> None:
        """Open a folder for the experiment."""
        from torch.utils.tensorboard import SummaryWriter

        place = "".join(letter if letter.isalnum() or letter in "-_+=" else "-" for letter in name)
        place = place.encode()[-200:].decode(errors="ignore")  # names of folders have an end
        # What an earlier attempt at the same run wrote is hidden; two minutes, the usual delay, are not live.
        self.writers[name] = SummaryWriter(str(self.folder / place), purge_step=0, flush_secs=FLUSH_SECONDS)
        self.writers[name].add_text("configuration", f"```json\n{json.dumps(config, indent=2, default=str)}\n```")

    def log(self, name: str, scores: Mapping[str, float], step: int) -> None:
        """Add a point to each curve."""
        for label, value in scores.items():
            self.writers[name].add_scalar(label, value, step)

    def finish(self, name: str, metrics: Mapping[str, Any]) -> None:
        """Add the scores of the test sets."""
        for label, value in metrics.items():
            if isinstance(value, float):
                self.writers[name].add_scalar(f"test/{label}", value)
        self.writers.pop(name).close()

    def close(self) -> None:
        """Close what is open."""
        for writer in self.writers.values():
            writer.close()
