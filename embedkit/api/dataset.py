"""A PyTorch Dataset over a store."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from embedkit.errors import ConfigError, FitError, StoreError
from embedkit.store.reader import Store
from embedkit.training.data.store_source import StoreSource, as_store
from embedkit.training.data.task import TaskData, define_task, require_frames

Layer = int | Literal["average", "all"]


class EmbeddingDataset(Dataset[tuple[Tensor, int]]):
    """The labelled utterances of a store: item i is (values, class index), values float32.

    Values are read when they are first asked for, in each worker of a DataLoader anew; forked and spawned workers
    get the path of the store only. Nothing is standardised: statistics belong to the training set of a fold.

    Args:
        store: A store, or its path.
        level: "utterance": means; "frame": all frames of the utterance (see `collate`).
        layer: A layer's number, "average" (the mean over the layers kept), or "all".
        classes: Labels that take part, after merging; None for the corpus's standard task.
        merge: Labels that count as another; None for the standard task's.
        where: `COLUMN=VALUE` filters, all of which must hold.

    Attributes:
        task: What takes part: ids, labels, speakers, sessions, rows in the store, one entry for each item.
        classes: The classes; class indices are places in it.
        targets: Class indices, int64 `[utterances]`.

    Shape:
        Utterance values: `[dimensions]`, or `[layers, dimensions]` with all layers;
        frame values: `[frames, dimensions]`, or `[frames, layers, dimensions]`.

    Raises:
        FitError: frames that are not kept, an unknown label, fewer than two classes.
        StoreError: a store that cannot be read, or a layer that it does not keep.
        ConfigError, CorpusError, UnknownNameError: a level or a filter that cannot be used.
    """

    def __init__(
        self,
        store: Store | str | os.PathLike[str],
        level: Literal["utterance", "frame"] = "utterance",
        *,
        layer: Layer = "average",
        classes: Sequence[str] | None = None,
        merge: Mapping[str, str] | None = None,
        where: Sequence[str] = (),
    ) -> None:
        self.store = as_store(store)
        source = StoreSource(self.store)
        if level not in ("utterance", "frame"):
            raise ConfigError(f"The level is {level!r}, expected 'utterance' or 'frame'.")
        if level == "frame":
            require_frames(source, "the level 'frame'")
        if layer not in ("average", "all", *self.store.layers):
            kept = ", ".join(map(str, self.store.layers))
            raise StoreError(
                f"The store {self.store.path} has no layer {layer!r}; expected one of {kept}, average, all."
            )
        self.level, self.layer = level, layer
        self.task: TaskData = define_task(source, classes=classes, merge=merge, where=where)
        self.classes, self.targets = self.task.classes, self.task.targets
        self._digest = self.store.digest
        self._means: NDArray[np.float32] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_means": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.store.digest != self._digest:
            raise StoreError(f"The store {self.store.path} was replaced since the dataset was made; make it again.")

    def __repr__(self) -> str:
        return f"<EmbeddingDataset of {self.store.path}: {len(self):,} utterances, {len(self.classes)} classes>"

    def __len__(self) -> int:
        return len(self.task)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        place = range(len(self))[index]
        values = self._read_frames(place) if self.level == "frame" else self._read_mean(place)
        return torch.from_numpy(values), int(self.targets[place])

    @staticmethod
    def collate(items: Sequence[tuple[Tensor, int]]) -> tuple[Tensor, Tensor, Tensor]:
        """Join utterances of unequal length, for `DataLoader(dataset, collate_fn=dataset.collate)`.

        Returns:
            Values `[batch, frames, ...]` padded with zeros at their ends, lengths int64 `[batch]`, and class indices
            int64 `[batch]`.

        Raises:
            FitError: there is nothing to join.
        """
        if not items:
            raise FitError("A batch holds no utterance, expected at least one.")
        values, targets = zip(*items, strict=True)
        lengths = torch.tensor([len(frames) for frames in values])
        return pad_sequence(list(values), batch_first=True), lengths, torch.tensor(targets)

    def _read_mean(self, place: int) -> NDArray[np.float32]:
        if self._means is None:
            self._means = self.store.mean(layer=self.layer)[self.task.rows]
        return np.array(self._means[place])

    def _read_frames(self, place: int) -> NDArray[np.float32]:
        frames = np.array(self.store.frames(int(self.task.rows[place])), dtype=np.float32)
        if self.layer == "all":
            return frames
        if self.layer == "average":
            average: NDArray[np.float32] = frames.mean(axis=1)
            return average
        return np.ascontiguousarray(frames[:, self.store.layers.index(int(self.layer))])
