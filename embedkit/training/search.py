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


@dataclass(frozen=True, kw_only=True)
class Edge:
    """A choice at the end of what was searched of a setting, and what it gains over its neighbour.

    Attributes:
        setting, value: The setting by name, and what was chosen.
        gain: How much the inner score is above that of the neighbouring value, all else equal.
    """

    setting: str
    value: float
    gain: float


def find_edges(grid: Sequence[Candidate], scores: Sequence[float], chosen: int) -> tuple[Edge, ...]:
    """Find the settings of which the smallest or the largest value was chosen, of at least three numbers.

    A zero, and a count of one, are the end of what there is and no edge.

    Args:
        grid: What was searched.
        scores: The inner score of each candidate.
        chosen: The candidate that was chosen.
    """
    settings = [candidate.describe() for candidate in grid]
    own, edges = settings[chosen], []
    for name, value in own.items():
        values = sorted({one[name] for one in settings}) if type(value) in (float, int) else []
        natural = value == 0 or (isinstance(value, int) and value == 1)
        if len(values) < 3 or value not in (values[0], values[-1]) or (natural and value == values[0]):
            continue
        neighbour = {**own, name: values[1] if value == values[0] else values[-2]}
        edges.append(Edge(setting=name, value=value, gain=float(scores[chosen] - scores[settings.index(neighbour)])))
    return tuple(edges)


WORTH_TELLING = 0.005
"""What choices at an edge gain on average, of an inner score from 0 to 1, where it is told."""


def tell_edges(chosen: Sequence[Sequence[Edge]], head: str, score_name: str) -> list[str]:
    """Say at which edge more than half of all choices lie and gain by it, and which option searches further."""
    found: dict[tuple[str, float], list[float]] = {}
    for edges in chosen:
        for edge in edges:
            found.setdefault((edge.setting, edge.value), []).append(edge.gain)
    options = {"learning_rate": "--lr", "weight_decay": "--weight-decay"}
    return [
        f"{len(gains)} of {len(chosen)} choices lie at the edge of what was searched, {name.replace('_', ' ')} "
        f"{value:g}, and gain {100 * sum(gains) / len(gains):.1f} points of inner {score_name} over its neighbour; "
        f"search beyond it with {options.get(name, f'--head {head}:{name}=...')}."
        for (name, value), gains in found.items()
        if 2 * len(gains) > len(chosen) and sum(gains) / len(gains) > WORTH_TELLING
    ]


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
