"""Layers of an encoder, and shares of its speakers, each as a study of its own, all trained together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from embedkit.training.cross_validation import FoldResult
from embedkit.training.data.features import StreamedFeatures, UtteranceFeatures
from embedkit.training.data.folds import FoldPlan, Indices, shift_fold


class LayerFeatures(UtteranceFeatures):
    """The layers of utterance means one after the other, as if each were utterances of its own.

    Row `place * utterances + u` is utterance u at the layer at that place, a single layer.
    """

    def __init__(self, whole: UtteranceFeatures) -> None:
        self.whole, self.device = whole, whole.device
        self.layers, self.dimensions, self.means = 1, whole.dimensions, whole.means

    def __len__(self) -> int:
        return len(self.whole) * self.whole.layers

    @property
    def at_once(self) -> bool:
        return self.whole.at_once

    def read(self, index: Indices) -> Tensor:
        """Return a copy of some rows, `[n, 1, dimensions]`."""
        places, rows = np.divmod(index, len(self.whole))
        if isinstance(self.whole, StreamedFeatures):
            return self.whole.read(rows)[torch.arange(len(rows)), self.tensor(places)].unsqueeze(1)
        flat = self.whole.values.view(-1, 1, self.dimensions)
        return flat.index_select(0, self.tensor(rows * self.whole.layers + places))


def join_plans(plans: Sequence[FoldPlan], places: Sequence[int], utterances: int) -> FoldPlan:
    """Lay plans end to end, each on the utterances of the layer at its place; folds are named after their plan."""
    folds = tuple(
        shift_fold(fold, place * utterances, f"{number}/{fold.name}")
        for number, (plan, place) in enumerate(zip(plans, places, strict=True))
        for fold in plan.folds
    )
    return replace(plans[0], folds=folds)


def split_results(results: Sequence[FoldResult], plans: Sequence[FoldPlan]) -> list[list[FoldResult]]:
    """Undo `join_plans`: the results of each plan, as if it had been trained alone."""
    own = iter(results)
    return [[replace(next(own), fold=fold) for fold in plan.folds] for plan in plans]
