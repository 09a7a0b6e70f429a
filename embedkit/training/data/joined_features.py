"""Embeddings of several stores, indexed as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from embedkit.heads.base import HeadInputs, Pool
from embedkit.training.data.features import Features, Standardiser
from embedkit.training.data.folds import Indices, Names


class JoinedFeatures(Features):
    """The embeddings of stores of one shape, laid end to end; what one group of a stack reads lies in one of them."""

    def __init__(self, parts: Sequence[Features]) -> None:
        first = parts[0]
        self.parts, self.ends = list(parts), np.cumsum([len(part) for part in parts])
        self.level, self.layers, self.dimensions, self.device = (
            first.level,
            first.layers,
            first.dimensions,
            first.device,
        )

    def __len__(self) -> int:
        return int(self.ends[-1])

    @property
    def durations(self) -> NDArray[np.int64] | None:
        known = [durations for part in self.parts if (durations := part.durations) is not None]
        return np.concatenate(known) if known else None

    def averaged(self, run: int) -> JoinedFeatures:
        return JoinedFeatures([part.averaged(run) for part in self.parts])

    def pooled(self, pool: Pool) -> JoinedFeatures:
        return JoinedFeatures([part.pooled(pool) for part in self.parts])

    def moments(self, index: Indices) -> Standardiser:
        part, own = self._locate(index)
        return part.moments(own)

    def normalise_by(self, owners: Names) -> None:
        for part, own in zip(self.parts, np.split(owners, self.ends[:-1]), strict=True):
            part.normalise_by(own)

    def gather(self, index: Indices, standardiser: Standardiser) -> HeadInputs:
        found = []
        for group, own in enumerate(index):
            part, rows = self._locate(own)
            found.append(part.gather(rows[None], standardiser.take(np.array([group]))))
        # Groups that read frames stay alone in their stacks.
        return found[0] if len(found) == 1 else HeadInputs(values=torch.cat([one.values for one in found]))

    def _locate(self, index: Indices) -> tuple[Features, Indices]:
        place = int(np.searchsorted(self.ends, index[0], side="right"))
        start = int(self.ends[place]) - len(self.parts[place])
        assert bool(((start <= index) & (index < self.ends[place])).all()), "a group lies in one store"
        return self.parts[place], index - start
