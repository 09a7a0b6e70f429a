"""What heads begin with that do not begin at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from embedkit.heads.base import Head
from embedkit.heads.stack import load_states, slice_state
from embedkit.training.data.folds import Indices
from embedkit.training.data.targets import Targets


@dataclass(frozen=True, kw_only=True)
class InitialHead:
    """The weights of a head that reads embeddings as they are, not standardised.

    Attributes:
        state: By name; rows of the last layer for classes that it does not know are NaN, and are drawn as usual.
        ends: What 0 and 1 of each rating by these weights are in the unit of the targets; None where that is the lowest
            and the highest rating of a training set.
    """

    state: Mapping[str, Tensor]
    ends: tuple[tuple[float, float], ...] | None = None

    def fill(self, head: Head, targets: Targets, trained: Sequence[Indices]) -> None:
        """Put the weights into every head of a stack; ratings come out standardised as each group's targets are.

        Args:
            head: The stack.
            targets: What its heads learn.
            trained: What each group is trained on, `[groups][utterances]`.

        Raises:
            ConfigError: the heads are of another form.
        """
        states = []
        for group, train in enumerate(trained):
            wanted = {name: value.clone() for name, value in self.state.items()}
            if (scale := targets.scale(train)) is not None:
                low, high = torch.tensor(self.ends or targets.span(train)).unbind(1)
                mean, deviation = (torch.from_numpy(part).float() for part in (scale.mean, scale.deviation))
                wanted["classifier.weight"] *= ((high - low) / deviation)[:, None]
                wanted["classifier.bias"] = (low + (high - low) * wanted["classifier.bias"] - mean) / deviation
            drawn = [slice_state(head, group, member) for member in range(head.shape.members)]
            states.append(
                [
                    {name: torch.where(value.isnan(), own[name].float(), value) for name, value in wanted.items()}
                    for own in drawn
                ]
            )
        load_states(head, states)
