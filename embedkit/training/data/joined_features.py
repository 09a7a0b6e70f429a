"""Embeddings of several stores or corpora, indexed as one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedkit.heads.base import HeadInputs, Pool
from embedkit.training.data.features import Features, FrameFeatures, Standardiser, StreamedFeatures, UtteranceFeatures
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


def join_features(parts: Sequence[Features]) -> Features:
    """Lay embeddings of one shape and level end to end; what is read from disk stays there."""
    framed = [part for part in parts if isinstance(part, FrameFeatures)]
    if framed:
        return PooledFrames(framed)
    means = [part for part in parts if isinstance(part, UtteranceFeatures)]
    if any(isinstance(part, StreamedFeatures) for part in means):
        return PooledMeans(means)
    values = np.concatenate([part.values.cpu().numpy() for part in means])
    return UtteranceFeatures(values, means[0].device, means[0].means)


class PooledMeans(StreamedFeatures):
    """Utterance means of several stores, at least one of which stays on disk."""

    def __init__(self, parts: Sequence[UtteranceFeatures]) -> None:
        first = parts[0]
        self.parts, self.ends = parts, np.cumsum([len(part) for part in parts])
        self.device, self.layers, self.dimensions, self.means = (
            first.device,
            first.layers,
            first.dimensions,
            first.means,
        )

    def __len__(self) -> int:
        return int(self.ends[-1])

    def normalise_by(self, owners: Names) -> None:
        for part, own in zip(self.parts, np.split(owners, self.ends[:-1]), strict=True):
            part.normalise_by(own)

    def read(self, index: Indices) -> Tensor:
        places = np.searchsorted(self.ends, index, side="right")
        values = torch.empty((len(index), self.layers, self.dimensions), device=self.device)
        for place in np.unique(places):
            own, part = places == place, self.parts[place]
            values[self.tensor(np.flatnonzero(own))] = part.read(index[own] - (self.ends[place] - len(part)))
        return values


class PooledFrames(FrameFeatures):
    """Frames of several stores, each in memory or on disk."""

    def __init__(self, parts: Sequence[FrameFeatures]) -> None:
        self.parts, self.ends = parts, np.cumsum([len(part) for part in parts])
        starts, lengths, means, deviations = (
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("starts", "lengths", "means", "deviations")
        )
        super().__init__(None, starts, lengths, means, deviations, parts[0].device)
        self.run = parts[0].run
        self._pooled: dict[int, PooledFrames] = {}

    def averaged(self, run: int) -> FrameFeatures:
        if run == self.run:
            return self
        if run not in self._pooled:
            self._pooled[run] = PooledFrames([part.averaged(run) for part in self.parts])
            self._pooled[run].shifts, self._pooled[run].factors = self.shifts, self.factors
        return self._pooled[run]

    def read(self, utterance: int) -> NDArray[Any]:
        place = int(np.searchsorted(self.ends, utterance, side="right"))
        return self.parts[place].read(utterance - int(self.ends[place]) + len(self.parts[place]))


class ByCorpus(Features):
    """Other embeddings, whose standardisers hold a mean and a scale for each corpus: `[corpora, layers, dimensions]`.

    Args:
        whole: The embeddings.
        owners: The corpus of each utterance, `[utterances]`.
        untrained: Corpora that are tested where nothing of them is trained on: these are standardised by all of their
            utterances. Any other corpus of which a training set has nothing is standardised as all of that set.
    """

    def __init__(self, whole: Features, owners: Names, untrained: Collection[str]) -> None:
        self.whole, self.owners, self.untrained = whole, owners, untrained
        self.names, numbers = np.unique(owners, return_inverse=True)
        self.numbers = numbers.astype(np.int64)
        self.level, self.layers, self.dimensions, self.device = (
            whole.level,
            whole.layers,
            whole.dimensions,
            whole.device,
        )

    def __len__(self) -> int:
        return len(self.whole)

    @property
    def durations(self) -> NDArray[np.int64] | None:
        return self.whole.durations

    def averaged(self, run: int) -> ByCorpus:
        return ByCorpus(self.whole.averaged(run), self.owners, self.untrained)

    def pooled(self, pool: Pool) -> ByCorpus:
        return ByCorpus(self.whole.pooled(pool), self.owners, self.untrained)

    def normalise_by(self, owners: Names) -> None:
        self.whole.normalise_by(owners)

    @cached_property
    def alone(self) -> dict[int, Standardiser]:
        """The standardisers of corpora that are tested alone, by their numbers."""
        own = [number for number, name in enumerate(self.names) if name in self.untrained]
        return {number: self.whole.moments(np.flatnonzero(self.numbers == number)) for number in own}

    def moments(self, index: Indices) -> Standardiser:
        members = [index[self.numbers[index] == number] for number in range(len(self.names))]
        others = None if all(map(len, members)) else self.whole.moments(index)
        found = [
            self.whole.moments(own) if len(own) else self.alone.get(number, others)
            for number, own in enumerate(members)
        ]
        return Standardiser.stack([one for one in found if one is not None], torch.device("cpu"))

    def gather(self, index: Indices, standardiser: Standardiser) -> HeadInputs:
        first = standardiser.mean[:, 0]
        neutral = Standardiser(mean=torch.zeros_like(first), scale=torch.ones_like(first))
        plain = self.whole.gather(index, neutral)
        groups = torch.arange(len(index), device=first.device)[:, None]
        numbers = torch.from_numpy(self.numbers[index]).to(first.device)
        mean, scale = (part[groups, numbers] for part in (standardiser.mean, standardiser.scale))
        if plain.lengths is None:
            return replace(plain, values=plain.values.sub_(mean).mul_(scale))
        values = plain.values.sub_(mean.unsqueeze(2)).mul_(scale.unsqueeze(2))
        padding = torch.arange(values.shape[2], device=values.device) >= plain.lengths[..., None]
        return replace(plain, values=values.masked_fill_(padding[..., None, None], 0.0))
