"""What is finished of heads that train with their encoders, and a checkpoint of the one in training."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from embedkit.errors import RunError
from embedkit.training.folds import Fold
from embedkit.training.packing import pack, unpack
from embedkit.training.processes import Processes
from embedkit.training.stack import Group, GroupResult, Stack
from embedkit.training.tuning import State, Tuner


def name_head(loss: str, fold: Fold, seed: int, candidate: int) -> str:
    """Name a head by a digest: what folds are called comes from the corpus, and is no file name."""
    told = json.dumps([loss, fold.name, seed, candidate])
    return hashlib.sha256(told.encode()).hexdigest()[:24]


class Shelf:
    """A folder with the heads that are finished, the encoders that belong to them, and one checkpoint.

    Args:
        folder: Named by everything that determines the heads.
        processes: The first one writes; all of them read.
        keeps_encoders: Whether encoders are kept until they are asked for.
    """

    def __init__(self, folder: Path, processes: Processes, *, keeps_encoders: bool) -> None:
        self.folder, self.processes, self.keeps_encoders = folder, processes, keeps_encoders
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"Checkpoints cannot be kept in {folder} ({error}); choose another --runs.") from error

    def find(self, key: str, group: Group) -> tuple[GroupResult, NDArray[np.float64]] | None:
        """Return a finished head and its outputs on the test side; None where it is not finished."""
        if self.keeps_encoders and not self._encoder(key).is_file():
            return None
        try:
            outputs = load_file(self._outputs(key))["outputs"].numpy()
            (result,) = unpack(self._head(key).read_bytes(), [group])
        except (OSError, SafetensorError, KeyError, ValueError):
            return None
        return result, outputs

    def add(self, key: str, result: GroupResult, outputs: NDArray[np.float64], encoder: State) -> None:
        """Keep a finished head, its outputs last: with them it is whole."""
        if self.processes.rank == 0:
            if self.keeps_encoders:
                self._write(self._encoder(key), lambda path: save_file(encoder, path))
            self._write(self._head(key), lambda path: path.write_bytes(pack([result])))
            self._write(self._outputs(key), lambda path: save_file({"outputs": torch.from_numpy(outputs)}, path))
            self._checkpoint.unlink(missing_ok=True)
        self.processes.wait()

    def read_encoder(self, key: str) -> State:
        """Return what was trained of a finished head's encoder."""
        state: State = load_file(self._encoder(key))
        return state

    def checkpoint(self, key: str, stack: Stack, tuner: Tuner, epoch: int) -> None:
        """Keep a training as it is after so many epochs."""
        state = {"key": key, "epoch": epoch, "stack": stack.snapshot(), "tuner": tuner.snapshot()}
        if self.processes.rank == 0:
            self._write(self._checkpoint, lambda path: torch.save(state, path))
        self.processes.wait()

    def restore(self, key: str, stack: Stack, tuner: Tuner) -> int:
        """Go on with a training where its checkpoint was written; return the epochs done."""
        try:
            state: Any = torch.load(self._checkpoint, map_location="cpu", weights_only=True)
        # Damaged files raise a dozen types; without a checkpoint the training starts anew.
        except Exception:
            return 0
        if state.get("key") != key:
            return 0
        stack.restore(state["stack"])
        tuner.restore(state["tuner"])
        return int(state["epoch"])

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def _head(self, key: str) -> Path:
        return self.folder / f"{key}.head.safetensors"

    def _outputs(self, key: str) -> Path:
        return self.folder / f"{key}.outputs.safetensors"

    def _encoder(self, key: str) -> Path:
        return self.folder / f"{key}.encoder.safetensors"

    def _write(self, path: Path, write: Any) -> None:
        partial = path.with_name(f".{path.name}.partial")
        try:
            write(partial)
            os.replace(partial, path)
        except (OSError, SafetensorError, RuntimeError) as error:
            partial.unlink(missing_ok=True)
            raise RunError(
                f"The checkpoint {path} cannot be written ({error}); make room or choose another --runs, and the same "
                "command continues."
            ) from error
