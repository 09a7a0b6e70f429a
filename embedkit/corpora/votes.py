"""Ratings of single annotators as columns: how many named each class, and how far apart they were."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence

VOTES = "votes_"
"""Columns of votes begin so: `votes_anger` is how many annotators of an utterance named anger."""


def count_votes(named: Iterable[Sequence[str]], classes: Iterable[str]) -> dict[str, float]:
    """Count votes by column; an annotator who named several classes gives each an equal share.

    Args:
        named: The classes that each annotator named; none for no vote.
        classes: All that have a column.

    Returns:
        The votes by column, NaN in all of them where nobody voted.

    >>> count_votes([["anger"], ["anger", "fear"]], ["anger", "fear"])
    {'votes_anger': 1.5, 'votes_fear': 0.5}
    """
    ballots = [one for one in named if one]
    votes = dict.fromkeys(classes, 0.0 if ballots else math.nan)
    for ballot in ballots:
        for name in ballot:
            votes[name] += 1 / len(ballot)
    return {f"{VOTES}{name}": count for name, count in votes.items()}


def measure_spread(ratings: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the standard deviation of ratings by attribute, as `valence_spread`; NaN for fewer than two."""
    return {
        f"{name}_spread": statistics.stdev(found)
        if len(found := [one for one in values if one == one]) > 1
        else math.nan
        for name, values in ratings.items()
    }
