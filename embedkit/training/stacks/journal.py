"""Finished stacks of a run that is not finished: a fit that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from embedkit.errors import RunError
from embedkit.received import MOST_TEXT, read_bytes
from embedkit.training.processes import ALONE, Processes
from embedkit.training.stacks.checkpoint import Checkpoint, write_whole
from embedkit.training.stacks.packing import unpack
from embedkit.training.stacks.stack import Group, GroupResult, TrainingConfig


class Journal:
    """A folder with one safetensors file for each finished stack, named by everything that determines its heads.

    Args:
        folder: Made when the first stack is finished.
        task: What the data are: digests of the stores, rows, labels, layer, normalisation.
        processes: The first one writes; all of them read.
    """

    def __init__(self, folder: Path, task: Mapping[str, Any], processes: Processes = ALONE) -> None:
        self.folder, self.processes = folder, processes
        self.task = json.dumps(task, sort_keys=True, default=str).encode()

    def find(self, groups: Sequence[Group], recipe: TrainingConfig, *, keep_best: bool) -> list[GroupResult] | None:
        """Return what became of these groups, None where they were not finished or the file cannot be read."""
        try:
            return unpack(read_bytes(self._path(groups, recipe, keep_best=keep_best), MOST_TEXT), groups)
        except (OSError, SafetensorError, KeyError, ValueError):
            return None

    def add(self, groups: Sequence[Group], recipe: TrainingConfig, packed: bytes, *, keep_best: bool) -> None:
        """Keep what became of these groups, packed; a file is there whole or not at all."""
        if self.processes.rank != 0:
            return
        # The journal only saves time: a full disk is told where the run itself is written.
        with suppress(RunError):
            write_whole(self._path(groups, recipe, keep_best=keep_best), lambda path: path.write_bytes(packed))

    def checkpoint(self, groups: Sequence[Group], recipe: TrainingConfig, *, keep_best: bool) -> Checkpoint:
        """Return where the training of these groups is kept after every epoch."""
        path = self._path(groups, recipe, keep_best=keep_best)
        return Checkpoint(path.with_suffix(".checkpoint"), path.stem, processes=self.processes)

    def clear(self) -> None:
        """Remove the folder, and the one it lies in with the last of them: the runs are written."""
        if self.processes.rank != 0:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            self.folder.parent.rmdir()

    def _path(self, groups: Sequence[Group], recipe: TrainingConfig, *, keep_best: bool) -> Path:
        digest = hashlib.sha256(self.task)
        digest.update(json.dumps([asdict(recipe), keep_best, torch.__version__]).encode())
        for group in groups:
            members = [{**vars(member), "loss": member.loss.spec} for member in group.members]
            digest.update(json.dumps([group.seed, members]).encode())
            for side in (group.train, group.validate):
                digest.update(len(side).to_bytes(8, "little") + side.tobytes())
        return self.folder / f"{digest.hexdigest()[:32]}.safetensors"
