"""Batches: everything once and in order, within the limits, and no batch that the next clip would have fitted into."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedkit.extraction.batches import batch_clips


@given(st.lists(st.integers(0, 300), max_size=60), st.integers(1, 1000), st.integers(1, 9))
def test_neighbours_share_a_batch_while_they_fit(lengths: list[int], most: int, clips: int) -> None:
    batches = list(batch_clips(lengths, int, most, most_clips=clips))
    assert [length for batch in batches for length in batch] == lengths
    for batch in batches:
        assert len(batch) == 1 or (len(batch) <= clips and len(batch) * max(batch) <= most)
    for batch, following in pairwise(batches):
        longer = [*batch, following[0]]
        assert len(longer) > clips or len(longer) * max(longer) > most


@pytest.mark.parametrize(
    ("share", "batches"),
    [
        (0.0, [[8, 8, 5, 4, 3, 1]]),
        (0.5, [[8, 8, 5, 4], [3], [1]]),
        (1.0, [[8, 8], [5], [4], [3], [1]]),
    ],
)
def test_clips_that_are_much_shorter_start_a_new_batch(share: float, batches: list[list[int]]) -> None:
    assert list(batch_clips([8, 8, 5, 4, 3, 1], int, 1000, least_share=share)) == batches


def test_clips_are_taken_as_they_are_needed() -> None:
    def endless() -> Iterator[int]:
        while True:
            yield 5

    assert next(batch_clips(endless(), int, 12)) == [5, 5]
