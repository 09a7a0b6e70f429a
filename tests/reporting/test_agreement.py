"""The line of the annotators under a table: what they reach, or what is missing to know it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from embedkit.reporting.agreement import describe_agreement
from embedkit.training.data.annotators import Annotators
from embedkit.training.summary import summarise_raters, summarise_votes
from tests.reporting.conftest import MakeRow

SPEAKERS = np.array(["a", "a", "b", "b"])


def votes_of(votes: list[list[float]], labels: list[int]) -> dict[str, Any]:
    told = Annotators(votes=np.array(votes, dtype=float))
    shares = np.full((1, 4, 2), 0.5)
    return summarise_votes(told, np.array(labels), shares, shares, SPEAKERS)


def test_one_annotator_beside_labels_of_the_same_votes(make_row: MakeRow) -> None:
    row = make_row(**votes_of([[3, 0], [2, 1], [0, 3], [0, 3]], [0, 0, 1, 1]))
    assert describe_agreement([make_row(), row]).startswith(
        "Annotators: one of them, each left out in turn, reaches UAR 82.9 %, accuracy 83.3 % and macro-F1 82.9 % "
        "against the majority of the others, and a Jensen-Shannon distance of 0.176 to their shares; Krippendorff's "
        "alpha 0.686 (4 utterances). That UAR is the line that no system can be expected to pass; labels made of the "
    )
    assert row["annotators"]["labels_of_majority"] == 1


def test_labels_that_are_not_of_the_votes_have_a_line_of_their_own(make_row: MakeRow) -> None:
    row = make_row(**votes_of([[3, 0], [2, 1], [0, 3], [0, 3]], [0, 1, 1, 0]))
    told = describe_agreement([row])
    # Of label 0 annotators named 3 of 3 and 0 of 3, of label 1 they named 1 of 3 and 3 of 3.
    assert (
        "The labels are not made of the votes (50 % name the majority); against them one annotator reaches UAR 58.3 % "
        "and accuracy 58.3 %. That is the line that no system can be expected to pass by what annotators hear" in told
    )


def test_shares_tell_no_line(make_row: MakeRow) -> None:
    row = make_row(**votes_of([[0.5, 0.5], [1, 0], [0.2, 0.8], [0.9, 0.1]], [0, 0, 1, 0]))
    assert describe_agreement([row]) == (
        "Annotators: votes on 4 utterances, but none with whole votes of two or more, so how far they agree is "
        "unknown; shares do not tell how many voted."
    )


def test_votes_that_count_in_part_are_counted(make_row: MakeRow) -> None:
    row = make_row(**votes_of([[3, 0], [1.5, 0.5], [0, 3], [np.nan, np.nan]], [0, 0, 1, 1]))
    assert "(on 2 of 3 utterances)" in describe_agreement([row])


def test_nobody_voted(make_row: MakeRow) -> None:
    assert votes_of([[np.nan] * 2] * 4, [0, 0, 1, 1]) == {}
    assert describe_agreement([make_row()]) == ""


def rated(raters: float, **changes: Any) -> dict[str, Any]:
    ratings = np.array([[1.0, 2], [3, 2], [5, 4], [4, 1]])
    told = Annotators(spreads=np.full((4, 2), 0.5), raters=np.full((4, 2), raters))
    return summarise_raters(told, ratings, ["valence", "arousal"]) | {"dimensions": ["valence", "arousal"], **changes}


def test_one_rater_beside_the_mean_of_the_others(make_row: MakeRow) -> None:
    row = make_row(**rated(3))
    found = row["annotators"]
    assert found["ccc"] == pytest.approx((found["ccc_valence"] + found["ccc_arousal"]) / 2)
    assert describe_agreement([row]).startswith(
        f"Annotators: one of them, each left out in turn, reaches a CCC of {found['ccc_valence']:.3f} (valence) and "
        f"{found['ccc_arousal']:.3f} (arousal) with the mean of the others (4 utterances): the line that no system can "
        "be expected to pass."
    )


@pytest.mark.parametrize("raters", [np.nan, 1.0])
def test_how_many_rated_is_missing(make_row: MakeRow, raters: float) -> None:
    assert describe_agreement([make_row(**rated(raters))]) == (
        "Annotators: the spread of their ratings is known but not how many there were, so what one of them reaches is "
        "unknown; add a column raters to the corpus."
    )
