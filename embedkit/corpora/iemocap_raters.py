"""What every annotator of IEMOCAP said, from the lines below each utterance's own.

    C-E2:	Neutral; Sadness;	()
    A-E3:	val 3; act 2; dom  3;	()

Annotators called E are listeners; F and M are the actors themselves.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from embedkit.corpora.base import Value
from embedkit.corpora.votes import count_votes, measure_spread

WORDS = {
    "anger": "anger",
    "happiness": "happiness",
    "excited": "excitement",
    "excitement": "excitement",
    "sadness": "sadness",
    "neutral state": "neutral",
    "neutral": "neutral",
    "frustration": "frustration",
    "fear": "fear",
    "surprise": "surprise",
    "disgust": "disgust",
    "other": "other",
}
ATTRIBUTES = {"val": "valence", "act": "arousal", "dom": "dominance"}

_CLASSES = tuple(dict.fromkeys(WORDS.values()))
_LINE = re.compile(r"(?P<kind>[CA])-(?P<rater>[EFM]\d+):\s*(?P<said>[^(]*)(\(.*)?")
_RATING = re.compile(r"(val|act|dom)\s+(\d+(?:\.\d*)?)")


@dataclass
class Ratings:
    """What annotators said of one utterance: classes, and attributes, by annotator."""

    classes: dict[str, list[str]] = field(default_factory=dict)
    attributes: dict[str, dict[str, float]] = field(default_factory=dict)

    def add(self, line: str) -> None:
        """Take a line that is an annotator's; any other is passed over."""
        match = _LINE.fullmatch(line.strip())
        if match is None:
            return
        rater, said = match["rater"].lower(), match["said"]
        if match["kind"] == "C":
            words = (word.strip().lower() for word in said.split(";"))
            self.classes[rater] = list(dict.fromkeys(WORDS.get(word, "other") for word in words if word))
        else:
            self.attributes[rater] = {ATTRIBUTES[name]: float(number) for name, number in _RATING.findall(said)}

    @property
    def raters(self) -> set[str]:
        """Who said anything."""
        return self.classes.keys() | self.attributes.keys()


def rater_columns(ratings: Mapping[str, Ratings]) -> dict[str, dict[str, Value]]:
    """Make columns of all annotators, the same for every utterance; none where there are no annotators.

    `rater_e2` is what E2 named ("neutral+sadness"), `valence_e3` a rating (NaN where it is missing), `votes_neutral`
    how many listeners named neutral, and `valence_spread` how far apart they were.

    Args:
        ratings: By utterance.
    """
    raters = sorted(set().union(*(one.raters for one in ratings.values())))
    if not raters:
        return {}
    return {key: _columns(one, raters) for key, one in ratings.items()}


def _columns(one: Ratings, raters: Sequence[str]) -> dict[str, Value]:
    listeners = [rater for rater in raters if rater.startswith("e")]
    rated = {
        name: {rater: one.attributes.get(rater, {}).get(name, math.nan) for rater in raters}
        for name in ATTRIBUTES.values()
    }
    return {
        **{f"rater_{rater}": "+".join(one.classes.get(rater, ())) for rater in raters},
        **{f"{name}_{rater}": rating for name, found in rated.items() for rater, rating in found.items()},
        **count_votes((one.classes.get(rater, ()) for rater in listeners), _CLASSES),
        **measure_spread({name: [found[rater] for rater in listeners] for name, found in rated.items()}),
    }
