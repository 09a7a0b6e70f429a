"""Deal groups of utterances, such as speakers, into folds of equal weight."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedkit.errors import FitError

Indices = NDArray[np.int64]
Names = NDArray[np.str_]

MOST_EXCHANGED = 200
"""Groups that are exchanged between folds for a better balance; of more of them the first dealing is even enough."""

_DIGITS = 9
"""To which imbalances are compared: the last digits of sums depend on the machine."""


@dataclass(frozen=True, kw_only=True)
class Balance:
    """What folds shall hold equal shares of, and what breaks ties; nothing depends on names where digests are known.

    Attributes:
        traits: What counts of each utterance, `[utterances, traits]`: itself, its class, its speaker's gender.
        digests: Of each utterance's audio, `[utterances]`; empty where it is unknown.
    """

    traits: NDArray[np.float64]
    digests: Names

    @classmethod
    def measure(cls, utterances: int, columns: Iterable[Names | None], digests: Names | None = None) -> Balance:
        """Count every value of some columns, `[utterances]` each or None; an empty value counts for nothing."""
        known = [column for column in columns if column is not None]
        traits = [np.ones(utterances), *(column == value for column in known for value in np.unique(column) if value)]
        told = np.full(utterances, "") if digests is None else digests
        return cls(traits=np.stack(traits, axis=1).astype(np.float64), digests=told)

    def deal(self, groups: Names, count: int, index: Indices) -> Indices:
        """Deal the groups of some utterances, `[n]` both, into at most `count` folds: the fold of each, from 0.

        The largest groups come first, each to the fold that holds least of what it brings; then groups move, or
        change places, as long as that makes the folds more equal. Of equal groups that with the smallest digest comes
        first.

        Raises:
            FitError: there are no groups.
        """
        names, owners = np.unique(groups, return_inverse=True)
        if not len(names):
            raise FitError("There is nothing to deal into folds; check --classes and --where.")
        loads = np.zeros((len(names), self.traits.shape[1]))
        np.add.at(loads, owners, self.traits[index])
        first = [min(self.digests[index[owners == group]].tolist()) for group in range(len(names))]
        order = sorted(range(len(names)), key=lambda group: (-loads[group, 0], first[group], group))
        shares = (loads / np.maximum(loads.sum(0), 1.0))[order]
        folds = _deal(shares, min(count, len(names)))
        if len(names) <= MOST_EXCHANGED:
            _exchange(shares, folds, min(count, len(names)))
        places = np.empty(len(names), dtype=np.int64)
        places[order] = folds
        return places[owners]


def _deal(shares: NDArray[np.float64], count: int) -> Indices:
    """Put groups, by their shares of every trait `[groups, traits]`, into folds one after the other."""
    held = np.zeros((count, shares.shape[1]))
    folds = np.empty(len(shares), dtype=np.int64)
    for group, share in enumerate(shares):
        folds[group] = np.argmin(np.round((held * share).sum(1), _DIGITS))
        held[folds[group]] += share
    return folds


def _exchange(shares: NDArray[np.float64], folds: Indices, count: int) -> None:
    """Move groups, and let two of them change places, until nothing makes the squares of the folds' shares smaller."""
    better = True
    while better:
        better = False
        for group in range(len(shares)):
            held = np.zeros((count, shares.shape[1]))
            np.add.at(held, folds, shares)
            own, sizes = folds[group], np.bincount(folds, minlength=count)
            # Row 0 stands for a move into each fold, the others for a change with each other group.
            given = np.concatenate([np.zeros((count, shares.shape[1])), shares]) - shares[group]
            others = np.concatenate([np.arange(count), folds])
            after = (2 * given * (held[own] - held[others]) + 2 * given**2).sum(1)
            after[others == own] = 0.0
            if sizes[own] == 1:
                after[:count] = 0.0
            best = int(np.argmin(np.round(after, _DIGITS)))
            if np.round(after[best], _DIGITS) < 0:
                folds[group] = others[best]
                if best >= count:
                    folds[best - count] = own
                better = True
