"""Groups dealt into folds of equal weight, whatever they are called."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedkit.training.data.dealing import MOST_EXCHANGED, Balance, Names


def corpus(speakers: int, seed: int) -> tuple[Names, Names, Names, Names]:
    """Speakers of unequal size, with favourite classes; women first, as in many corpora."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(4, 60, speakers)
    owners = np.repeat([f"s{number:04d}" for number in range(speakers)], sizes)
    genders = np.repeat(["female" if number < speakers / 2 else "male" for number in range(speakers)], sizes)
    favourites = np.repeat(rng.integers(0, 3, speakers), sizes)
    labels = np.where(rng.random(len(owners)) < 0.5, favourites, rng.integers(0, 3, len(owners))).astype(np.str_)
    return owners, labels, genders, np.array([f"{number:08x}" for number in rng.permutation(len(owners))])


def spread(folds: np.ndarray[tuple[int], np.dtype[np.int64]], column: Names) -> float:
    """The largest difference of a value's count in a fold from its mean over folds, as a share of that mean."""
    counts = np.array(
        [[np.sum((folds == fold) & (column == value)) for value in np.unique(column)] for fold in np.unique(folds)]
    )
    return float(np.abs(counts / counts.mean(0) - 1).max())


@pytest.mark.parametrize("speakers", [30, 100, MOST_EXCHANGED + 50])
def test_utterances_classes_and_genders_are_balanced(speakers: int) -> None:
    owners, labels, genders, digests = corpus(speakers, seed=speakers)
    everything = np.full(len(owners), "all")
    balance = Balance.measure(len(owners), [labels, genders], digests)
    dealt = balance.deal(owners, 10, np.arange(len(owners)))
    by_name = np.unique(owners, return_inverse=True)[1] * 10 // speakers
    for column in (everything, labels, genders):
        assert spread(dealt, column) < (0.5 if speakers == 30 else 0.2)
        assert spread(dealt, column) < spread(by_name, column) / 1.8
    assert all(len(np.unique(dealt[owners == owner])) == 1 for owner in np.unique(owners))


@settings(max_examples=25, deadline=None)
@given(speakers=st.integers(5, 40), seed=st.integers(0, 1000), same=st.booleans())
def test_names_and_the_order_of_utterances_do_not_matter(speakers: int, seed: int, same: bool) -> None:
    owners, labels, genders, digests = corpus(speakers, seed)
    if same:
        # Nothing but the digests tells equal speakers apart.
        owners = np.repeat([f"s{number}" for number in range(speakers)], 4)
        labels, genders, digests = np.tile(["a", "b"], 2 * speakers), np.full(4 * speakers, ""), digests[: 4 * speakers]
        digests = np.array([f"{number:08x}" for number in np.random.default_rng(seed).permutation(4 * speakers)])
    order = np.random.default_rng(seed).permutation(len(owners))
    renamed = np.array([f"{hash_of(owner)}" for owner in owners])
    dealt, again = (
        Balance.measure(len(owners), columns, told).deal(names, 4, np.arange(len(owners)))
        for columns, told, names in (
            ([labels, genders], digests, owners),
            ([labels[order], genders[order]], digests[order], renamed[order]),
        )
    )
    assert np.array_equal(dealt[order], again)


def hash_of(name: str) -> int:
    return int.from_bytes(name.encode(), "little") * 2654435761 % 2**61


def test_every_fold_gets_a_group() -> None:
    owners = np.array(["big"] * 90 + ["a", "b", "c"])
    dealt = Balance.measure(93, [None]).deal(owners, 4, np.arange(93))
    assert len(np.unique(dealt)) == 4
