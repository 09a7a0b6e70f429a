"""What is finished of heads that train with their encoders."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from embedkit.received import MOST_TEXT, read_bytes, require_regular
from embedkit.training.data.folds import Fold
from embedkit.training.live.fine_tuner import FineTuner
from embedkit.training.processes import Processes
from embedkit.training.stacks.checkpoint import Checkpoint, write_whole
from embedkit.training.stacks.packing import pack, unpack
from embedkit.training.stacks.stack import Group, GroupResult, State


def name_head(loss: str, fold: Fold, seed: int, candidate: int) -> str:
    """Name a head by a digest: what folds are called comes from the corpus, and is no file name."""
    told = json.dumps([loss, fold.name, seed, candidate])
    return hashlib.sha256(told.encode()).hexdigest()[:24]


class Shelf:
    """A folder with the heads that are finished, the encoders that belong to them, and the checkpoint of one.

    Args:
        folder: Named by everything that determines the heads.
        processes: The first one writes; all of them read.
        keeps_encoders: Whether encoders are kept until they are asked for.
    """

    def __init__(self, folder: Path, processes: Processes, *, keeps_encoders: bool) -> None:
        self.folder, self.processes, self.keeps_encoders = folder, processes, keeps_encoders

    def find(self, key: str, group: Group) -> tuple[GroupResult, NDArray[np.float64]] | None:
        """Return a finished head and its outputs on the test set; None where it is not finished."""
        try:
            outputs = load_file(require_regular(self._outputs(key)))["outputs"].numpy()
            (result,) = unpack(read_bytes(self._head(key), MOST_TEXT), [group])
        except (OSError, SafetensorError, KeyError, ValueError):
            return None
        return result, outputs

    def add(self, key: str, result: GroupResult, outputs: NDArray[np.float64], encoder: State) -> None:
        """Keep a finished head, its outputs last: with them it is whole."""
        if self.processes.rank == 0:
            if self.keeps_encoders:
                write_whole(self._encoder(key), lambda path: save_file(encoder, path))
            write_whole(self._head(key), lambda path: path.write_bytes(pack([result])))
            write_whole(self._outputs(key), lambda path: save_file({"outputs": torch.from_numpy(outputs)}, path))
        self.processes.wait()

    def drop_encoder(self, key: str) -> None:
        """Remove the encoder of a head that was not the best."""
        if self.processes.rank == 0:
            self._encoder(key).unlink(missing_ok=True)

    def has_encoder(self, key: str) -> bool:
        """Tell whether the encoder of a finished head was kept."""
        return self._encoder(key).is_file()

    def read_encoder(self, key: str) -> State:
        """Return what was trained of a finished head's encoder."""
        state: State = load_file(require_regular(self._encoder(key)))
        return state

    def checkpoint(self, key: str, tuner: FineTuner) -> Checkpoint:
        """Return where the training of a head is kept after every epoch."""
        return Checkpoint(self.folder / "checkpoint.pt", key, [tuner], self.processes)

    def _head(self, key: str) -> Path:
        return self.folder / f"{key}.head.safetensors"

    def _outputs(self, key: str) -> Path:
        return self.folder / f"{key}.outputs.safetensors"

    def _encoder(self, key: str) -> Path:
        return self.folder / f"{key}.encoder.safetensors"
