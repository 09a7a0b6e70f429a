"""Where a long training is, kept after epochs: one that was stopped goes on there."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch

from embedkit.received import open_regular
from embedkit.training.processes import ALONE, Processes
from embedkit.writing import new_file

WRITING_SHARE = 0.05
"""Of the time, at most, that goes into writing: an epoch after which it would be more is not written."""


class Resumable(Protocol):
    """What can be put back where it was."""

    def snapshot(self) -> dict[str, Any]:
        """Return all that it goes on from, as tensors and plain values."""

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `snapshot` gave."""


class Checkpoint:
    """One file with everything that a training goes on from.

    Args:
        path: The file.
        key: Names the training; the file of another one is left alone.
        beside: What is trained beside the heads.
        processes: The first one writes; all of them read.
    """

    def __init__(self, path: Path, key: str, beside: Sequence[Resumable] = (), processes: Processes = ALONE) -> None:
        self.path, self.key, self.beside, self.processes = path, key, list(beside), processes
        self._written, self._cost = -math.inf, 0.0

    def restore(self, stack: Resumable) -> int:
        """Go on where the file was written; return the epochs done, 0 where there is none."""
        try:
            with open_regular(self.path) as file:
                state: Any = torch.load(file, map_location="cpu", weights_only=True)
        # Damaged files raise a dozen types; without a checkpoint the training starts anew.
        except Exception:
            return 0
        if not isinstance(state, dict) or state.get("key") != self.key:
            return 0
        for part, kept in zip([stack, *self.beside], state["parts"], strict=True):
            part.restore(kept)
        return int(state["epoch"])

    def save(self, stack: Resumable, epoch: int) -> None:
        """Write the file, in one step, unless that would take too much of the time.

        Raises:
            RunError: it cannot be written.
        """
        start = time.monotonic()
        if self.processes.rank == 0 and WRITING_SHARE * (start - self._written) >= self._cost:
            parts = [part.snapshot() for part in [stack, *self.beside]]
            state = {"key": self.key, "epoch": epoch, "parts": parts}
            write_whole(self.path, partial(_save, state))
            self._written = time.monotonic()
            self._cost = self._written - start
        self.processes.wait()

    def clear(self) -> None:
        """Remove the file."""
        if self.processes.rank == 0:
            self.path.unlink(missing_ok=True)


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file so that it is there whole or not at all.

    Raises:
        RunError: it cannot be written.
    """
    with new_file(path, otherwise="choose another --runs") as part:
        write(part)


def _save(state: Mapping[str, Any], path: Path) -> None:
    # Of a file of its own, PyTorch does not tell why it could not be written.
    with path.open("wb") as file:
        torch.save(state, file)
