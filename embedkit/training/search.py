"""The grid on which every configuration of a table is searched, and what was chosen from it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from embedkit.heads import ResolvedHead
from embedkit.heads.base import LATER
from embedkit.losses.base import Loss
from embedkit.training.stacks.stack import Member


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One setting of the grid.

    Attributes:
        head: The head.
        learning_rate, weight_decay: How it is trained.
    """

    head: ResolvedHead
    learning_rate: float
    weight_decay: float = 0.0

    def member(self, loss: Loss, seed: int, epochs: int) -> Member:
        """Return a head to be trained by this setting."""
        rate, decay = self.learning_rate, self.weight_decay
        return Member(loss=loss, seed=seed, learning_rate=rate, weight_decay=decay, epochs=epochs)

    def describe(self) -> dict[str, Any]:
        """Return every setting by name: learning rate, weight decay and the head's own."""
        own = dataclasses.asdict(self.head.options)
        return {"learning_rate": self.learning_rate, "weight_decay": self.weight_decay, **own}


def build_grid(
    heads: Sequence[ResolvedHead], learning_rates: Sequence[float], weight_decays: Sequence[float] = (0.0,)
) -> tuple[Candidate, ...]:
    """Combine every setting of a head with every weight decay and learning rate."""
    return tuple(
        Candidate(head=head, learning_rate=rate, weight_decay=decay)
        for head, decay, rate in product(heads, weight_decays, learning_rates)
    )


def head_settings(heads: Sequence[ResolvedHead]) -> dict[str, Any]:
    """Return a head's settings; those that are searched as lists.

    A setting that came later is left out at its default: without it a head is as heads were before.
    """
    variants = [dataclasses.asdict(head.options) for head in heads]
    values = {key: list(dict.fromkeys(variant[key] for variant in variants)) for key in variants[0]}
    later = {one.name: [one.default] for one in dataclasses.fields(heads[0].options) if one.metadata == LATER}
    return {key: found[0] if len(found) == 1 else found for key, found in values.items() if later.get(key) != found}


def describe_search(grid: Sequence[Candidate], chosen: Sequence[int], *, chosen_on: str) -> dict[str, Any]:
    """Say what was searched, how often each value was chosen (over folds and seeds), and on which data.

    Settings with a single value were not searched and are left out.
    """
    settings = [candidate.describe() for candidate in grid]
    values = {key: list(dict.fromkeys(one[key] for one in settings)) for key in settings[0]}
    searched: Mapping[str, list[Any]] = {key: found for key, found in values.items() if len(found) > 1}
    counts = {key: Counter(settings[place][key] for place in chosen) for key in searched}
    return {
        "grid": dict(searched),
        "chosen": {key: {str(value): counts[key][value] for value in found} for key, found in searched.items()},
        "chosen_on": chosen_on,
    }
