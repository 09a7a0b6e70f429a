"""The loss of a stack whose heads learn under different ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedkit.heads import ResolvedHead
from embedkit.losses.base import Loss


class MixedLoss:
    """The loss of every head of a stack, computed once for all heads under the same one.

    Attributes:
        kinds: What each head ends in, `[groups][members]`.

    Args:
        losses: The loss of each head, `[groups][members]`.
        counts: Utterances of each class on each group's training set, `[groups, classes]`.
        device, dtype: Where and in what scores will be.
        choose: Chooses from what was gathered of the targets what a loss compares scores with.
    """

    def __init__(
        self,
        losses: Sequence[Sequence[Loss]],
        counts: NDArray[np.int64],
        device: torch.device,
        dtype: torch.dtype,
        choose: Callable[[Tensor, Loss], Tensor] = lambda gathered, _: gathered,
    ) -> None:
        self.choose = choose
        distinct = {loss.spec: loss for row in losses for loss in row}
        flat = np.array([loss.spec for row in losses for loss in row])
        members = len(losses[0])
        self.shape = (len(losses), members)
        self.kinds = tuple(tuple(loss.classifier for loss in row) for row in losses)
        self.parts = []
        for spec, loss in sorted(distinct.items()):
            heads = np.flatnonzero(flat == spec)
            owners = torch.from_numpy(heads // members).to(device)
            weights = loss.weigh_classes(torch.from_numpy(counts))
            weights = None if weights is None else weights.to(device, dtype)[owners]
            self.parts.append((loss, torch.from_numpy(heads).to(device), owners, weights))
        places = torch.cat([heads for _, heads, _, _ in self.parts])
        self.order = torch.argsort(places)

    def __call__(self, scores: Tensor, targets: Tensor, mask: Tensor, progress: float) -> Tensor:
        """Return the loss of each head, `[groups, members]`.

        Args:
            scores: `[groups, members, batch, classes]`.
            targets: What was gathered of the targets, such as class indices, `[groups, batch, ...]`.
            mask: True for rows that count, `[groups, batch]`.
            progress: Share of the training that is over.
        """
        # Classes before rows, as heads lay their scores out: what is selected of them is copied run by run.
        flat = scores.flatten(0, 1).transpose(1, 2)
        values = []
        for loss, heads, owners, weights in self.parts:
            own = (flat if len(self.parts) == 1 else flat.index_select(0, heads)).transpose(1, 2)
            wanted = self.choose(targets, loss)[owners]
            values.append(loss(own, wanted, mask=mask[owners], class_weights=weights, progress=progress))
        joined = values[0] if len(values) == 1 else torch.cat(values).index_select(0, self.order)
        return joined.view(self.shape)

    def probabilities(self, scores: Tensor) -> Tensor:
        """Turn the scores of every head on the CPU, `[groups, members, batch, classes]`, into probabilities."""
        if len(self.parts) == 1:
            return self.parts[0][0].probabilities(scores)
        flat = scores.flatten(0, 1)
        values = [loss.probabilities(flat.index_select(0, heads.cpu())) for loss, heads, _, _ in self.parts]
        return torch.cat(values).index_select(0, self.order.cpu()).view(*scores.shape[:-1], -1)


def kind_in_stack(head: ResolvedHead, loss: Loss) -> str:
    """Return a word that is equal for losses whose heads may share a stack: affine and cosine ones where they can."""
    return "mixed" if loss.classifier != "probe" and head.cls.mixes_kinds else loss.classifier
