"""Folds: speakers apart, nothing chosen on test data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from embedkit.errors import FitError
from embedkit.training.data.folds import FoldPlan, Names, default_folds, plan_folds


def columns(speakers: int, each: int, classes: int = 2) -> tuple[Names, Names]:
    owners = np.repeat([f"s{number:02d}" for number in range(speakers)], each)
    labels = np.array([f"c{number % classes}" for number in range(len(owners))])
    return labels, owners


def plan(kind: str, speakers: int, each: int, *, hold_out: bool = False, **further: Names) -> tuple[FoldPlan, Names]:
    labels, owners = columns(speakers, each)
    return plan_folds(kind, labels=labels, speakers=owners, hold_out=hold_out, **further), owners


@settings(max_examples=40, deadline=None)
@given(speakers=st.integers(3, 60), each=st.integers(2, 6), hold_out=st.booleans())
def test_speaker_folds_test_every_utterance_once_and_keep_speakers_apart(
    speakers: int, each: int, hold_out: bool
) -> None:
    made, owners = plan("speaker", speakers, each, hold_out=hold_out)
    tested = np.concatenate([fold.test for fold in made.folds])
    assert sorted(tested) == list(range(len(owners)))
    assert not made.speaker_dependent
    for fold in made.folds:
        held_out = set(owners[fold.test])
        assert not held_out & set(owners[fold.train])
        for train, validate in fold.validations:
            assert not set(owners[train]) & set(owners[validate])
            assert not held_out & (set(owners[train]) | set(owners[validate]))
    assert len(made.folds) == (speakers if speakers <= 24 else 10)


def test_inner_folds_are_four_and_cover_the_training_side() -> None:
    made, _ = plan("speaker", 10, 4)
    for fold in made.folds:
        assert fold.refit
        assert len(fold.validations) == 4
        assert sorted(np.concatenate([validate for _, validate in fold.validations])) == list(fold.train)
        for train, validate in fold.validations:
            assert sorted([*train, *validate]) == list(fold.train)
    assert made.selection == "4 inner folds by speaker, dealt by weight, pooled, then refit"


def test_inner_folds_keep_the_speakers_of_a_session_together() -> None:
    owners = np.repeat([f"Ses0{session}{sex}" for session in range(1, 6) for sex in "FM"], 4)
    sessions = np.array([owner[:5] for owner in owners])
    labels = np.array([f"c{number % 2}" for number in range(len(owners))])
    made = plan_folds("session", labels=labels, speakers=owners, groups=sessions, hold_out=False)
    for fold in made.folds:
        for train, validate in fold.validations:
            assert not set(sessions[train]) & set(sessions[validate])


def test_the_next_group_in_sorted_order_is_held_out_for_development() -> None:
    made, owners = plan("speaker", 4, 3, hold_out=True)
    assert [set(owners[fold.test]) for fold in made.folds] == [{"s00"}, {"s01"}, {"s02"}, {"s03"}]
    assert [set(owners[fold.validations[0][1]]) for fold in made.folds] == [{"s01"}, {"s02"}, {"s03"}, {"s00"}]
    for fold in made.folds:
        ((train, validate),) = fold.validations
        assert fold.refit
        assert sorted([*train, *validate]) == list(fold.train)


def test_two_sessions_leave_a_group_of_speakers_for_development() -> None:
    sessions = np.repeat(["1", "2"], 16)
    made, owners = plan("session", 8, 4, hold_out=True, groups=sessions)
    for fold in made.folds:
        ((train, validate),) = fold.validations
        assert sorted([*train, *validate]) == list(fold.train)
        assert set(sessions[fold.train]) != set(sessions[fold.test])
        assert not set(owners[train]) & set(owners[validate])
    assert made.selection == "one group of speakers held out for development, then refit"


def test_random_folds_are_marked_speaker_dependent_and_the_same_every_time() -> None:
    first, owners = plan("random", 6, 10)
    second, _ = plan("random", 6, 10)
    assert first.speaker_dependent
    assert all(np.array_equal(a.test, b.test) for a, b in zip(first.folds, second.folds, strict=True))
    assert len(first.folds) == 5
    for fold in first.folds:
        for train, validate in fold.validations:
            assert not set(owners[train]) & set(owners[validate])


def test_a_column_that_splits_speakers_is_marked() -> None:
    texts = np.array([f"t{number % 3}" for number in range(24)])
    made, _ = plan("text", 4, 6, groups=texts)
    assert made.speaker_dependent
    assert [fold.name for fold in made.folds] == ["t0", "t1", "t2"]


def test_a_given_split_is_used_as_it_is() -> None:
    splits = np.repeat(["train", "train", "dev", "test"], 5)
    made, _ = plan("split", 4, 5, splits=splits)
    (fold,) = made.folds
    assert set(splits[fold.train]) == {"train"}
    assert set(splits[fold.test]) == {"test"}
    assert set(splits[fold.validations[0][1]]) == {"dev"}
    assert not fold.refit
    assert made.selection == "the given development part"


def test_a_given_split_without_development_part_uses_inner_folds() -> None:
    splits = np.repeat(["train", "train", "train", "test"], 5)
    made, _ = plan("split", 4, 5, splits=splits)
    (fold,) = made.folds
    assert fold.refit
    assert len(fold.validations) == 3


def test_a_test_speaker_in_the_given_development_part_is_marked() -> None:
    splits = np.repeat(["train", "train", "dev", "test"], 5)
    labels, owners = columns(4, 5)
    owners = owners.copy()
    owners[15:] = "s02"
    made = plan_folds("split", labels=labels, speakers=owners, splits=splits, hold_out=False)
    assert made.speaker_dependent


def test_long_names_of_speakers_stay_apart() -> None:
    labels, _ = columns(6, 4)
    owners = np.repeat([f"{'S' * 70}{number}" for number in range(6)], 4)
    made = plan_folds("speaker", labels=labels, speakers=owners, hold_out=False)
    assert len(made.folds) == 6
    assert all(len(fold.validations) == 4 for fold in made.folds)


def test_sessions_are_the_default_where_there_are_some() -> None:
    speakers = np.array(["a", "b", "c"])
    assert default_folds(np.array(["1", "1", "2"]), speakers) == "session"
    assert default_folds(np.array(["", "", ""]), speakers) == "speaker"
    assert default_folds(np.array(["1", "1", "1"]), speakers) == "speaker"


@pytest.mark.parametrize(
    ("kind", "speakers", "hold_out", "sentence"),
    [
        ("speaker", 1, False, "need at least two groups, found 1"),
        ("speaker", 2, False, "trains on 1"),
        ("speaker", 2, True, "trains on 1"),
    ],
)
def test_too_few_speakers_are_told(kind: str, speakers: int, hold_out: bool, sentence: str) -> None:
    with pytest.raises(FitError, match=sentence):
        plan(kind, speakers, 6, hold_out=hold_out)


def test_unknown_speakers_are_told() -> None:
    labels, owners = columns(4, 5)
    owners = owners.copy()
    owners[3] = ""
    with pytest.raises(FitError, match="found 1 of 20 without"):
        plan_folds("speaker", labels=labels, speakers=owners, hold_out=False)
    with pytest.raises(FitError, match="marked train and test"):
        plan_folds("split", labels=labels, speakers=owners, splits=np.full(20, ""), hold_out=False)


def test_a_training_side_of_one_class_is_told() -> None:
    owners = np.repeat(["a", "b", "c"], 4)
    labels = np.array(["x"] * 4 + ["y"] * 8)
    with pytest.raises(FitError, match="single class y"):
        plan_folds("speaker", labels=labels, speakers=owners, hold_out=False)


@settings(max_examples=40, deadline=None)
@given(
    speakers=st.integers(5, 20),
    each=st.integers(6, 14),
    texts=st.integers(2, 9),
    hold_out=st.booleans(),
    seed=st.integers(0, 999),
)
def test_crossed_folds_keep_speakers_and_texts_apart_and_test_everything_once(
    speakers: int, each: int, texts: int, hold_out: bool, seed: int
) -> None:
    labels, owners = columns(speakers, each)
    said = np.array([f"t{number}" for number in np.random.default_rng(seed).integers(0, texts, len(owners))])
    try:
        made = plan_folds("speaker+text", labels=labels, speakers=owners, groups=said, hold_out=hold_out)
    except FitError:
        reject()
    assert sorted(np.concatenate([fold.test for fold in made.folds])) == list(range(len(owners)))
    assert not made.speaker_dependent
    assert len(made.folds) <= 20
    for fold in made.folds:
        seen = np.concatenate([fold.train, *(part for pair in fold.validations for part in pair)])
        assert not set(owners[fold.test]) & set(owners[seen])
        assert not set(said[fold.test]) & set(said[seen])
        for train, validate in fold.validations:
            assert not set(owners[train]) & set(owners[validate])
    assert len({fold.name for fold in made.folds}) == len(made.folds)


def test_crossed_folds_leave_out_only_what_shares_something_with_the_test_side() -> None:
    labels, owners = columns(10, 16)
    said = np.array([f"t{number % 8}" for number in range(len(owners))])
    made = plan_folds("speaker+text", labels=labels, speakers=owners, groups=said, hold_out=False)
    assert len(made.folds) == 20
    for fold in made.folds:
        apart = ~np.isin(owners, owners[fold.test]) & ~np.isin(said, said[fold.test])
        assert list(fold.train) == list(np.flatnonzero(apart))
        assert len(fold.train) == 160 * 4 // 5 * 3 // 4


@pytest.mark.parametrize(
    ("owners", "said", "words"),
    [
        (["a", "b", "c", "d"], ["t", "t", "t", "t"], "two values in the column text, found 't' alone"),
        (["a", "a", "a", "a"], ["t", "u", "t", "u"], "two values in the column speaker"),
        (["a", "", "c", "d"], ["t", "u", "t", "u"], "need the speaker of every utterance"),
        (["a", "b", "c", "d"], ["t", "u", "", "u"], "need the text of every utterance"),
    ],
)
def test_crossed_folds_need_both(owners: list[str], said: list[str], words: str) -> None:
    labels = np.array(["x", "y", "x", "y"])
    with pytest.raises(FitError, match=words):
        plan_folds("speaker+text", labels=labels, speakers=np.array(owners), groups=np.array(said), hold_out=False)


def test_a_plan_says_whether_groups_were_dealt() -> None:
    said = {number: plan("speaker", number, 4)[0] for number in (5, 25)}
    assert {number: (made.dealt, made.dealt_inside) for number, made in said.items()} == {
        5: (False, False),
        25: (True, True),
    }
    assert said[5].selection == "4 inner folds by speaker, pooled, then refit"
    assert said[25].selection == "4 inner folds by speaker, dealt by weight, pooled, then refit"
    assert len({fold.name for fold in said[25].folds}) == 10


def test_inner_folds_that_weights_leave_as_they_are_are_those_of_before() -> None:
    """Four sessions of two on a training set, as IEMOCAP has them."""
    owners = np.repeat([f"Ses0{session}{sex}" for session in range(1, 6) for sex in "FM"], 4)
    sessions = np.array([owner[:5] for owner in owners])
    labels = np.array([f"c{number % 2}" for number in range(len(owners))])
    made = plan_folds("session", labels=labels, speakers=owners, groups=sessions, hold_out=False)
    assert not made.dealt_inside
    assert [set(sessions[validate]) for _, validate in made.folds[0].validations] == [
        {"Ses02"},
        {"Ses03"},
        {"Ses04"},
        {"Ses05"},
    ]
