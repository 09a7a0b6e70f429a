"""Votes and spreads of annotators, read from a store's columns for the classes or ratings of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedkit.errors import FitError
from embedkit.losses import build_loss
from embedkit.training.data.annotators import Annotators, read_annotators, require_votes
from embedkit.training.data.attributes import define_dimensions
from embedkit.training.data.pooled import PooledSource
from embedkit.training.data.store_source import StoreSource
from embedkit.training.data.task import define_task
from tests.training.stores import LABELS, write_synthetic_store

COUNTS = {
    "votes_anger": [3, 0, 1, 2, 1, 0],
    "votes_happiness": [0, 2, 0, 1, 1, 0],
    "votes_sadness": [0, 1, 1, 0, 1, 3],
    "votes_other": [0, 0, 1, 0, 0, 0],
}
NAN = float("nan")


def source(tmp_path: Path, columns: dict[str, Any]) -> StoreSource:
    told = {name: np.asarray(values) for name, values in columns.items()}
    return StoreSource(write_synthetic_store(tmp_path / "tiny.h5", speakers=2, each=3, **told))


def read(tmp_path: Path, columns: dict[str, Any], **task: Any) -> Annotators:
    store = source(tmp_path, {name: np.array(values, dtype=float) for name, values in columns.items()})
    return read_annotators([store], [define_task(store, **task)])


def test_votes_are_those_for_the_classes_of_the_run(tmp_path: Path) -> None:
    found = read(tmp_path, COUNTS)
    assert found.votes is not None
    assert found.votes.T.tolist() == [COUNTS[f"votes_{label}"] for label in LABELS]
    assert found.lack == ""
    assert found.notes == ("Left out 1 of 18 votes on synthetic, for classes that take no part (votes_other).",)
    mixed = found.mix(np.array([0, 1, 2, 0, 1, 2]))
    np.testing.assert_allclose(mixed[2], [2, 0.5, 0, 0.5])
    np.testing.assert_allclose(mixed[:, 1:].sum(1), 1)


def test_votes_are_merged_and_chosen_as_labels_are(tmp_path: Path) -> None:
    found = read(tmp_path, COUNTS, merge={"sadness": "anger"}, classes=["happiness", "anger"])
    assert found.votes is not None
    assert found.votes.tolist() == [[0, 3], [2, 1], [0, 2], [1, 2], [1, 2], [0, 3]]


def test_who_has_no_vote_for_a_class_of_the_run_is_named_and_keeps_its_label(tmp_path: Path) -> None:
    counts = {name: [*values[:4], NAN, 0] for name, values in COUNTS.items()} | {"votes_other": [0, 0, 1, 0, NAN, 4]}
    found = read(tmp_path, counts)
    assert found.votes is not None
    assert np.isnan(found.votes[4:]).all()
    assert found.notes[1].startswith("Nobody voted for a class that takes part on 2 utterances of synthetic (u0004, ")
    assert found.mix(np.array([0, 1, 2, 0, 1, 2]))[4:].tolist() == [[1, 0, 1, 0], [2, 0, 0, 1]]


@pytest.mark.parametrize("digits", [12, 2])
def test_shares_are_votes_as_well(tmp_path: Path, digits: int) -> None:
    totals = np.sum(list(COUNTS.values()), axis=0)
    shares = {name: np.round(np.array(values) / totals, digits) for name, values in COUNTS.items()}
    found = read(tmp_path, shares)
    np.testing.assert_allclose(
        found.mix(np.arange(6) % 3)[:, 1:], read(tmp_path, COUNTS).mix(np.arange(6) % 3)[:, 1:], atol=0.01
    )


def test_who_the_raters_were_is_no_number_of_them(tmp_path: Path) -> None:
    store = source(tmp_path, {**COUNTS, "raters": ["anna, ben, cleo"] * 6})
    assert read_annotators([store], [define_task(store)]).votes is not None


def change(name: str, row: int, value: float) -> dict[str, Any]:
    return {**COUNTS, name: [value if place == row else one for place, one in enumerate(COUNTS[name])]}


THIRDS = {name: [one / 3 for one in values] for name, values in COUNTS.items()}
PERCENT = {name: [round(100 * one / 3) for one in values] for name, values in COUNTS.items()} | {
    "votes_sadness": [0, 33, 34, 0, 34, 100]
}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "negative": (change("votes_anger", 1, -1), r"'u0001' in .*tiny.h5 do not add up: votes_anger -1, .* below 0"),
    "infinite": (change("votes_anger", 1, float("inf")), r"'u0001' .*votes_anger inf, .* expected a number in every"),
    "missing": (change("votes_other", 1, NAN), r"'u0001' .*votes_other nan, .* or in none where nobody voted"),
    "zeros": (change("votes_anger", 0, 0), r"'u0000' .*: all are 0, together 0, expected a vote, or empty cells"),
    "part": (change("votes_anger", 0, 2.5), r"'u0000' .*: votes_anger 2.5, together 2.5, expected whole numbers"),
    "raters": ({**COUNTS, "raters": [3, 3, 3, 4, 3, 3]}, r"'u0003' .* together 3, but 4 in the column raters"),
    "raters as text": ({**COUNTS, "raters": list("333433")}, r"'u0003' .* together 3, but 4 in the column raters"),
    "percent": (PERCENT, r"'u0000' .*: votes_anger 100, together 100, as on all, which is percent; expected sha"),
    "percent that are rounded": (
        {name: [33.3 * one for one in values] for name, values in COUNTS.items()},
        r"'u0000' .* together 99.9, as on all, which is percent; expected shares of 1",
    ),
    "shares": ({**THIRDS, "votes_anger": [0.8, 0, *THIRDS["votes_anger"][2:]]}, r"'u0000' .* 0.8, .*, or shares of 1;"),
    "class": ({name: COUNTS[name] for name in list(COUNTS)[:2]}, r"but none for sadness; add votes_sadness to the"),
    "text": ({**COUNTS, "votes_anger": ["3", "x", "1", "2", "1", "0"]}, r"'votes_anger' of .* holds 'x', expected a"),
    "nobody": ({name: [NAN] * 6 for name in COUNTS}, r"has no vote for anger, happiness or sadness on any utterance"),
    "none": ({}, r"has no columns votes_anger, votes_happiness, votes_sadness, the number of annotators who"),
}


@pytest.mark.parametrize("case", list(BAD))
def test_votes_that_do_not_add_up_are_refused_where_they_are_learned(tmp_path: Path, case: str) -> None:
    columns, told = BAD[case]
    store = source(tmp_path, columns)
    found = read_annotators([store], [define_task(store)])
    assert found.votes is None
    with pytest.raises(FitError, match=rf"^The loss 'soft-ce' needs votes of annotators: .*{told}.*\.$"):
        require_votes(build_loss("soft-ce"), found)
    require_votes(build_loss("ce"), found)
    assert [note.startswith("Votes of annotators are left out of the results: ") for note in found.notes] == (
        [] if case == "none" else [True]
    )


def test_a_corpus_without_votes_beside_one_with_votes(tmp_path: Path) -> None:
    voted, silent = source(tmp_path, COUNTS), source(tmp_path / "other", {})
    parts = [define_task(voted), define_task(silent)]
    found = read_annotators([voted, silent], parts)
    assert found.votes is not None
    assert np.isnan(found.votes[:, 0]).tolist() == [False] * 6 + [True] * 6
    require_votes(build_loss("soft-ce"), found)
    turned = read_annotators([silent, voted], parts)
    with pytest.raises(FitError, match="needs votes of annotators"):
        require_votes(build_loss("soft-ce"), turned)
    taken = found.take(np.array([7, 1]))
    assert taken.votes is not None
    assert np.isnan(taken.votes[:, 0]).tolist() == [True, False]


SPREAD = {"valence_spread": [0.5, 1, NAN, 0, 1, 2]}
RATERS: dict[str, tuple[dict[str, Any], list[float]]] = {
    "told": ({"raters": [3, 3, 1, 2, 4, 5]}, [3, 3, 1, 2, 4, 5]),
    "listeners": (
        {"valence_e1": [1, 2, 3, 4, 5, 1], "valence_e12": [1, NAN, 3, 4, NAN, 1], "valence_f1": [1] * 6},
        [2, 1, 2, 2, 1, 2],
    ),
    "unknown": ({}, [NAN] * 6),
}


@pytest.mark.parametrize("case", list(RATERS))
def test_how_many_rated(tmp_path: Path, case: str) -> None:
    columns, expected = RATERS[case]
    store = source(tmp_path, SPREAD | columns)
    found = read_annotators([store], [define_dimensions(store, ["valence"])])
    assert found.spreads is not None
    assert found.raters is not None
    np.testing.assert_array_equal(found.spreads[:, 0], SPREAD["valence_spread"])
    np.testing.assert_array_equal(found.raters[:, 0], expected)


def test_ratings_without_a_spread_have_no_annotators(tmp_path: Path) -> None:
    store = source(tmp_path, {"raters": [3] * 6})
    found = read_annotators([store], [define_dimensions(store, ["valence"])])
    assert (found.votes, found.spreads, found.raters) == (None, None, None)


def test_votes_of_pooled_corpora_are_read_by_the_label_map_and_columns_of_each(tmp_path: Path) -> None:
    # The first counts joy as happiness and has a column more; each has a number of raters that its own votes give.
    joy = {"votes_joy": COUNTS["votes_happiness"], "raters": np.sum(list(COUNTS.values()), axis=0).tolist()}
    own = {name: values for name, values in COUNTS.items() if name != "votes_happiness"} | joy
    plain = {name: [2.0, 1, 0, 1, 0, 2] for name in list(COUNTS)[:3]} | {"votes_sadness": [0.0, 1, 1, 0, 1, 0]}
    labels = ("anger", "joy", "sadness")
    sources = [
        StoreSource(write_synthetic_store(tmp_path / f"{name}.h5", corpus=name, speakers=2, each=3, **changes))
        for name, changes in (
            ("one", {"labels": labels, **{key: np.array(value, dtype=float) for key, value in own.items()}}),
            ("silent", {}),
            ("two", {key: np.array(value, dtype=float) for key, value in plain.items()}),
        )
    ]
    sources[0].task = {"classes": [], "merge": {"joy": "happiness"}}
    for chosen in (sources, sources[:2]):
        whole = PooledSource(chosen)
        data = define_task(whole)
        found = read_annotators([whole], [data])
        assert found.votes is not None
        assert found.votes[:6].T.tolist() == [COUNTS[f"votes_{label}"] for label in LABELS]
        assert np.isnan(found.votes[6:12]).all()
        assert "There are no votes of annotators on silent; there soft-ce" in found.notes[-1]
        require_votes(build_loss("soft-ce"), found)
        if len(chosen) > 2:
            assert found.votes[12:].T.tolist() == [plain[f"votes_{label}"] for label in LABELS]
    nothing = PooledSource(sources[1:2])
    with pytest.raises(FitError, match=r"silent\.h5 has no columns votes_anger"):
        require_votes(build_loss("soft-ce"), read_annotators([nothing], [define_task(nothing)]))


def test_damaged_votes_of_one_pooled_corpus_are_not_learned(tmp_path: Path) -> None:
    damaged = {name: np.array(values, dtype=float) for name, values in change("votes_anger", 1, -1).items()}
    second = StoreSource(write_synthetic_store(tmp_path / "two.h5", corpus="two", speakers=2, each=3))
    whole = PooledSource([source(tmp_path, damaged), second])
    found = read_annotators([whole], [define_task(whole)])
    with pytest.raises(FitError, match=r"needs votes .*'synthetic/u0001' .* do not add up"):
        require_votes(build_loss("soft-ce"), found)
