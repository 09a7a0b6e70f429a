"""Ratings of several corpora: whether they can be on one scale."""

from __future__ import annotations

import numpy as np
import pytest

from embedkit.training.data.attributes import compare_scales


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        ((1, 7), (1.2, 6.8), False),
        ((1, 5), (1.5, 5), False),
        ((2, 2), (2, 2), False),
        ((1, 7), (1, 5), True),
        ((1, 7), (0, 1), True),
        ((-1, 1), (1, 3), True),
    ],
)
def test_ratings_that_can_hardly_be_on_one_scale_are_told(
    first: tuple[float, float], second: tuple[float, float], told: bool
) -> None:
    ratings = np.column_stack([[*first, *second], [1, 2, 1, 2]]).astype(float)
    notes = compare_scales(ratings, np.array(["a", "a", "b", "b"]), ["valence", "arousal"])
    assert len(notes) == told
    if told:
        assert notes[0].startswith(f"Ratings of valence range from {first[0]:g} to {first[1]:g} in a and from ")
    assert compare_scales(ratings[:2], np.array(["a", "a"]), ["valence", "arousal"]) == []
