"""Finished heads of a run that is not finished: a fit that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from embedkit.received import MOST_TEXT, read_bytes, require_regular
from embedkit.training.processes import ALONE, Processes
from embedkit.training.stacks.checkpoint import Checkpoint, Resumable, write_whole
from embedkit.training.stacks.packing import unpack
from embedkit.training.stacks.stack import Group, GroupResult, State, TrainingConfig


class ResultCache:
    """A folder with one safetensors file for each finished training, named by a key, and the checkpoints of others.

    Args:
        folder: Made when the first training is finished.
        task: What the data are: digests of the stores, rows, labels, layer, normalisation.
        processes: The first one writes; all of them read.
    """

    def __init__(self, folder: Path, task: Mapping[str, Any], processes: Processes = ALONE) -> None:
        self.folder, self.processes = folder, processes
        self.task = json.dumps(task, sort_keys=True, default=str).encode()

    def stack_key(self, groups: Sequence[Group], config: TrainingConfig, *, keep_best: bool) -> str:
        """Name a stack by a digest of everything that determines its heads."""
        digest = hashlib.sha256(self.task)
        # What heads begin with is told of by the task.
        told = {**asdict(replace(config, initial=None)), "head": config.head.spec}
        del told["initial"]
        digest.update(json.dumps([told, keep_best, torch.__version__]).encode())
        for group in groups:
            members = [{**vars(member), "loss": member.loss.spec} for member in group.members]
            digest.update(json.dumps([group.seed, members]).encode())
            for side in (group.train, group.validate):
                digest.update(len(side).to_bytes(8, "little") + side.tobytes())
        return digest.hexdigest()[:32]

    def find(self, key: str, groups: Sequence[Group]) -> list[GroupResult] | None:
        """Return what became of these groups, None where they were not finished or the file cannot be read."""
        try:
            return unpack(read_bytes(self.path(key), MOST_TEXT), groups)
        except (OSError, SafetensorError, KeyError, ValueError):
            return None

    def read(self, key: str) -> State:
        """Return all arrays that were kept under a key."""
        state: State = load_file(require_regular(self.path(key)))
        return state

    def add(self, key: str, content: bytes | State) -> None:
        """Keep results that are packed, or arrays by name; a file is there whole or not at all.

        Raises:
            RunError: it cannot be written.
        """
        if self.processes.rank == 0:
            write_whole(
                self.path(key),
                lambda path: path.write_bytes(content) if isinstance(content, bytes) else save_file(content, path),
            )

    def drop(self, key: str) -> None:
        """Remove what was kept under a key."""
        if self.processes.rank == 0:
            self.path(key).unlink(missing_ok=True)

    def checkpoint(self, key: str, beside: Sequence[Resumable] = ()) -> Checkpoint:
        """Return where a training is kept after epochs."""
        return Checkpoint(self.path(key).with_suffix(".checkpoint"), key, beside, self.processes)

    def clear(self) -> None:
        """Remove the folder, and the one it lies in with the last of them: the runs are written."""
        if self.processes.rank == 0:
            shutil.rmtree(self.folder, ignore_errors=True)
            with suppress(OSError):
                self.folder.parent.rmdir()

    def path(self, key: str) -> Path:
        """Return the file of a key."""
        return self.folder / f"{key}.safetensors"
