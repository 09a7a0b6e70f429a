"""Folds on a share of the training speakers: nested, balanced, and with the same test sets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedkit.errors import FitError
from embedkit.training.data.dealing import Balance
from embedkit.training.data.folds import FoldPlan, Names, plan_folds
from embedkit.training.data.shares import count_speakers, note_raised, thin_plan


def corpus(speakers: int, seed: int) -> tuple[Names, Names, Balance]:
    """Speakers of unequal size, the last class in two of them alone."""
    rng = np.random.default_rng(seed)
    owners = np.repeat([f"s{number:02d}" for number in range(speakers)], rng.integers(6, 20, speakers))
    labels = np.array([f"c{number % 2}" for number in range(len(owners))])
    for owner in rng.choice(np.unique(owners), 3, replace=False):
        labels[np.flatnonzero(owners == owner)[:3]] = "rare"
    digests = np.array([f"{number:08x}" for number in rng.permutation(len(owners))])
    return owners, labels, Balance.measure(len(owners), [labels], digests)


def thin(plan: FoldPlan, share: float, found: tuple[Names, Names, Balance], *, hold_out: bool = False) -> FoldPlan:
    return thin_plan(plan, share, *found, hold_out=hold_out)


@settings(max_examples=8, deadline=None)
@given(speakers=st.integers(5, 20), seed=st.integers(0, 1000), hold_out=st.booleans())
def test_shares_are_nested_and_leave_the_test_sets(speakers: int, seed: int, hold_out: bool) -> None:
    owners, labels, balance = found = corpus(speakers, seed)
    whole = plan_folds("speaker", labels=labels, speakers=owners, hold_out=hold_out, balance=balance)
    plans = [thin(whole, share, found, hold_out=hold_out) for share in (0.1, 0.4, 0.8)]
    everyone = count_speakers(whole.folds, owners)
    for number, (fold, *thinned) in enumerate(zip(whole.folds, *(plan.folds for plan in plans), strict=True)):
        kept = [set(owners[one.train]) for one in thinned]
        assert kept[0] <= kept[1] <= kept[2] <= set(owners[fold.train])
        for share, one, own in zip((0.1, 0.4, 0.8), thinned, kept, strict=True):
            assert np.array_equal(one.test, fold.test)
            assert set(one.train) == {place for place in fold.train if owners[place] in own}
            assert set(labels[one.train]) == set(labels[fold.train])
            assert len(own) >= max(2, int(share * everyone[number] + 0.5))
            for train, validate in one.validations:
                assert not set(owners[train]) & set(owners[validate])
                assert set(train) | set(validate) == set(one.train)
        assert len(kept[2]) == int(0.8 * everyone[number] + 0.5) or set(labels[thinned[2].train]) == {*labels}


def test_speakers_are_chosen_by_what_they_bring_whatever_they_are_called() -> None:
    owners, labels, balance = found = corpus(12, seed=3)
    whole = plan_folds("speaker", labels=labels, speakers=owners, hold_out=False, balance=balance)
    renamed = np.array([f"x{'mzaqwxsced'[int(name[1:]) % 10]}{int(name[1:]) * 7 % 12}" for name in owners])
    again = plan_folds("speaker", labels=labels, speakers=renamed, hold_out=False, balance=balance)
    kept = {fold.test.tobytes(): fold.train for fold in thin(whole, 0.4, found).folds}
    for fold in thin(again, 0.4, (renamed, labels, balance)).folds:
        assert np.array_equal(fold.train, kept[fold.test.tobytes()])
    sizes = [
        len(fold.train) / len(whole.folds[place].train) for place, fold in enumerate(thin(whole, 0.4, found).folds)
    ]
    speakers = count_speakers(thin(whole, 0.4, found).folds, owners)
    np.testing.assert_allclose(sizes, np.array(speakers) / 11, atol=0.06)


def test_a_given_development_part_stays() -> None:
    owners, labels, balance = found = corpus(9, seed=1)
    splits = np.array([("train", "train", "dev", "test")[int(name[1:]) % 4] for name in owners])
    whole = plan_folds("split", labels=labels, speakers=owners, splits=splits, hold_out=False, balance=balance)
    (before,), (after,) = whole.folds, thin(whole, 0.5, found).folds
    assert np.array_equal(after.validations[0][1], before.validations[0][1])
    assert np.array_equal(after.validations[0][0], after.train)
    assert set(owners[after.train]) < set(owners[before.train])
    assert not after.refit


def test_more_speakers_than_the_share_are_told() -> None:
    assert note_raised(0.3, [3, 3], [10, 9]) == []
    (told,) = note_raised(0.1, [2, 2, 3], [9, 20, 20])
    assert told.startswith("With --train-share 0.1, 2 of 3 folds train on more speakers than that (3 instead of 2.0)")


def test_what_cannot_be_shared_is_told() -> None:
    owners, labels, balance = corpus(6, seed=2)
    whole = plan_folds("speaker", labels=labels, speakers=owners, hold_out=False, balance=balance)
    unknown = owners.copy()
    unknown[:2] = ""
    with pytest.raises(FitError, match=r"found 2 of .* without; add the column"):
        thin_plan(whole, 0.5, unknown, labels, balance, hold_out=False)
    one_class_each = np.array([f"c{int(name[1:]) % 2}" for name in owners])
    with pytest.raises(FitError, match="holds the single class"):
        thin_plan(whole, 0.1, owners, one_class_each, balance, hold_out=False)
    alone = replace(whole, folds=tuple(replace(fold, train=fold.train[:3]) for fold in whole.folds[1:]))
    with pytest.raises(FitError, match="at least two speakers"):
        thin_plan(alone, 0.5, owners, None, balance, hold_out=False)
