"""The grid on which every configuration of a table is searched, and what was chosen from it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from embedkit.heads import expand_head, resolve_head


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One setting of the grid.

    Attributes:
        head: The head with settings that leave nothing open.
        learning_rate, weight_decay: How it is trained.
    """

    head: str
    learning_rate: float
    weight_decay: float = 0.0


def build_grid(
    head: str, learning_rates: Sequence[float], weight_decays: Sequence[float] = (0.0,)
) -> tuple[Candidate, ...]:
    """Combine every setting of a head (`mlp:hidden=64/256`) with every weight decay and learning rate."""
    return tuple(
        Candidate(head=variant, learning_rate=rate, weight_decay=decay)
        for variant, decay, rate in product(expand_head(head), weight_decays, learning_rates)
    )


def head_settings(head: str) -> dict[str, Any]:
    """Return a head's settings; those that are searched as lists."""
    variants = [dataclasses.asdict(resolve_head(variant)[2]) for variant in expand_head(head)]
    values = {key: list(dict.fromkeys(variant[key] for variant in variants)) for key in variants[0]}
    return {key: found[0] if len(found) == 1 else found for key, found in values.items()}


def describe_candidate(candidate: Candidate) -> dict[str, Any]:
    """Return every setting of a candidate by name: the head's own, learning rate and weight decay."""
    own = dataclasses.asdict(resolve_head(candidate.head)[2])
    return {"learning_rate": candidate.learning_rate, "weight_decay": candidate.weight_decay, **own}


def describe_search(grid: Sequence[Candidate], chosen: Sequence[int], *, chosen_on: str) -> dict[str, Any]:
    """Say what was searched, how often each value was chosen (over folds and seeds), and on which data.

    Settings with a single value were not searched and are left out.
    """
    settings = [describe_candidate(candidate) for candidate in grid]
    values = {key: list(dict.fromkeys(one[key] for one in settings)) for key in settings[0]}
    searched: Mapping[str, list[Any]] = {key: found for key, found in values.items() if len(found) > 1}
    counts = {key: Counter(settings[place][key] for place in chosen) for key in searched}
    return {
        "grid": dict(searched),
        "chosen": {key: {str(value): counts[key][value] for value in found} for key, found in searched.items()},
        "chosen_on": chosen_on,
    }
