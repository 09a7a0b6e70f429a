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
        heads = [np.flatnonzero(flat == spec) for spec in sorted(distinct)]
        # Heads under one loss side by side, and where each of them then stands.
        self.heads = torch.from_numpy(np.concatenate(heads)).to(device)
        self.order = torch.argsort(self.heads)
        self.owners, self.sizes = self.heads // members, [len(own) for own in heads]
        self.parts = []
        for spec, own in zip(sorted(distinct), heads, strict=True):
            weights = distinct[spec].weigh_classes(torch.from_numpy(counts[own // members]))
            self.parts.append((distinct[spec], None if weights is None else weights.to(device, dtype)))

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
        own = flat if len(self.parts) == 1 else flat.index_select(0, self.heads)
        divided = zip(*(torch.split(part, self.sizes) for part in (own, mask[self.owners], self.owners)), strict=True)
        values = [
            loss(
                part.transpose(1, 2),
                self.choose(targets, loss)[owners],
                mask=counted,
                class_weights=weights,
                progress=progress,
            )
            for (loss, weights), (part, counted, owners) in zip(self.parts, divided, strict=True)
        ]
        joined = values[0] if len(values) == 1 else torch.cat(values).index_select(0, self.order)
        return joined.view(self.shape)

    def probabilities(self, scores: Tensor) -> Tensor:
        """Turn the scores of every head on the CPU, `[groups, members, batch, classes]`, into probabilities."""
        if len(self.parts) == 1:
            return self.parts[0][0].probabilities(scores)
        own = torch.split(scores.flatten(0, 1).index_select(0, self.heads.cpu()), self.sizes)
        values = [loss.probabilities(part) for (loss, _), part in zip(self.parts, own, strict=True)]
        return torch.cat(values).index_select(0, self.order.cpu()).view(*scores.shape[:-1], -1)


def kind_in_stack(head: ResolvedHead, loss: Loss) -> str:
    """Return a word that is equal for losses whose heads may share a stack: affine and cosine ones where they can."""
    return "mixed" if loss.classifier != "probe" and head.cls.mixes_kinds else loss.classifier
