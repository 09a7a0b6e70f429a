"""Labels of models stand for classes of corpora by their names, or as the user says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from embedkit.corpora.emotions import SPELLINGS, map_labels, match_names, tell_map
from embedkit.errors import EmbedkitError

FOUR = ("anger", "happiness", "neutral", "sadness")


def test_every_spelling_means_one_emotion() -> None:
    words = [word for emotion, others in SPELLINGS.items() for word in (emotion, *others)]
    assert len(words) == len(set(words))


@pytest.mark.parametrize(
    ("labels", "classes", "expected"),
    [
        (("neu", "hap", "ang", "sad"), FOUR, ["neutral", "happiness", "anger", "sadness"]),
        (("Angry", " HAPPY ", "other"), FOUR, ["anger", "happiness"]),
        (("happy", "joy"), ("joy", "sadness", "happy"), ["happy", "joy"]),
        # Two classes of one meaning: a third word of it says neither.
        (("hap",), ("joy", "happiness"), []),
        (("low", "HIGH"), ("high", "low"), ["low", "high"]),
    ],
)
def test_names_are_matched(labels: Sequence[str], classes: Sequence[str], expected: list[str]) -> None:
    assert list(match_names(labels, classes).values()) == expected


def test_several_labels_may_count_as_one() -> None:
    given = {"hap": "happiness", "EXC": "happiness", "ang": "anger"}
    mapped = map_labels(("ang", "hap", "exc", "fru"), given, FOUR, "mine")
    assert mapped == {"hap": "happiness", "exc": "happiness", "ang": "anger"}
    told = tell_map(("ang", "hap", "exc", "fru"), FOUR, mapped, "class")
    assert told[1].endswith(": fru.")
    assert told[2].endswith(": neutral, sadness.")
    assert map_labels(("a", "b"), {}, None) == {"a": "a", "b": "b"}


@pytest.mark.parametrize(
    ("labels", "given", "expected"),
    [
        (("ang", "hap"), {"angg": "anger"}, "'ang'"),
        (("ang", "hap"), {"ang": "angerr", "hap": "happiness"}, "'anger'"),
        (("LABEL_0", "LABEL_1"), {}, r"LABEL_0, LABEL_1.*anger, happiness.*nothing in common"),
        (("ang", "hap"), {"ang": "anger", "hap": "anger"}, "only anger"),
    ],
)
def test_what_cannot_be_mapped_is_told(labels: Sequence[str], given: Mapping[str, str], expected: str) -> None:
    with pytest.raises(EmbedkitError, match=expected):
        map_labels(labels, given, FOUR, "mine")
