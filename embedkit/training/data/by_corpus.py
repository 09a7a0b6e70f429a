"""Embeddings of several corpora of which each is standardised by statistics of its own."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from embedkit.heads.base import HeadInputs, Pool
from embedkit.training.data.features import Features, Standardiser
from embedkit.training.data.folds import Indices, Names


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
