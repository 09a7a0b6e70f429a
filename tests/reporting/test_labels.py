"""Shortened names stay different and within their width."""

from hypothesis import given
from hypothesis import strategies as st

from embedkit.reporting.labels import shorten_names

NAMES = st.lists(st.text("ab-/", min_size=1, max_size=50), min_size=1, max_size=8, unique=True)


@given(NAMES)
def test_names_stay_different_and_fit(names: list[str]) -> None:
    short = shorten_names(names, 14)
    assert set(short) == set(names)
    assert len(set(short.values())) == len(names)
    assert all(len(text) <= 14 for text in short.values())


def test_folders_are_dropped_where_the_rest_is_enough() -> None:
    assert shorten_names(["/models/hubert", "facebook/wav2vec2-base"], 20) == {
        "/models/hubert": "hubert",
        "facebook/wav2vec2-base": "wav2vec2-base",
    }
    assert shorten_names(["a/hubert", "b/hubert"], 20) == {"a/hubert": "a/hubert", "b/hubert": "b/hubert"}
