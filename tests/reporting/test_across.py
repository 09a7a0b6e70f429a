"""What is said of cross-corpus matrices, against numbers that are given."""

from __future__ import annotations

from typing import Any

import pytest

from embedkit.reporting.cross import build_matrices
from embedkit.reporting.figures.cross import draw_cross
from embedkit.reporting.report.across import choose_matrix, conclude_across

SCORES = {
    ("a", "a"): 0.71, ("a", "b"): 0.60, ("a", "c"): 0.40,
    ("b", "a"): 0.50, ("b", "b"): 0.55, ("b", "c"): 0.45,
    ("c", "a"): 0.65, ("c", "b"): 0.30, ("c", "c"): 0.90,
}  # fmt: skip


def rows(loss: str = "ce", less: float = 0.0, **changes: Any) -> list[dict[str, Any]]:
    """Return a row for each pair; chance, 50 %, lies below the interval of a score of more than 55 %."""
    return [
        {
            "corpus": one,
            **({"test_corpus": other, "folds": "other corpus"} if one != other else {"folds": "speaker"}),
            "encoder": "mfcc",
            "head": "linear",
            "loss": loss,
            "classes": ["high", "low"],
            "seeds": 2,
            "ua": score - less,
            "ua_ci": [score - less - 0.05, score - less + 0.05],
            **changes,
        }
        for (one, other), score in SCORES.items()
    ]


def test_the_conclusion_says_what_stands_in_the_matrix() -> None:
    assert conclude_across(build_matrices(rows())) == (
        "mfcc, linear, ce has a mean UAR of 48.3 %, on corpora that it was not trained on (30.0 to 65.0 over 6 pairs); "
        "of 6 95 % intervals by speaker 2 lie above chance, 50.0. The best single corpus to train on is c for a "
        "(65.0), a for b (60.0) and b for c (45.0). Trained on other speakers of the tested corpus it has 71.0 on a, "
        "55.0 on b and 90.0 on c, more on a and c than from the best other corpus. Rows of the matrix were not tested "
        "against each other."
    )


def test_all_others_together_are_compared_with_the_best_of_them() -> None:
    pooled = {**rows()[0], "corpus": "a+b+c", "pooled": ["a", "b", "c"], "folds": "corpus"}
    pooled["by_corpus"] = {name: {"ua": score} for name, score in (("a", 0.66), ("b", 0.5), ("c", 0.4))}
    assert (
        "Trained on all other corpora it has 66.0 on a, 50.0 on b and 40.0 on c, more on a than from the best other "
        "corpus." in conclude_across(build_matrices([*rows(), pooled]))
    )


def test_the_best_of_several_comes_first_and_all_are_shaded_alike() -> None:
    matrices = build_matrices([*rows("ce", 0.1), *rows("focal")])
    assert choose_matrix(matrices).title == "mfcc, linear, focal"
    told = conclude_across(matrices)
    assert told.startswith("mfcc, linear, focal has the highest mean UAR, 48.3 %, on corpora")
    assert "Others have mfcc, linear, ce 38.3." in told
    figures = draw_cross([*rows("ce", 0.1), *rows("focal")])
    domains = [one.chart["layer"][0]["encoding"]["fillOpacity"]["scale"]["domain"] for one in figures.values()]
    assert domains == [pytest.approx([20.0, 90.0])] * 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"leak": True}, "No corpus was tested by heads that were trained on another one alone."),
        ({"classes": [], "dimensions": ["valence"], "ccc": 0.2, "ccc_ci": [0.1, 0.3]}, "a mean CCC of 0.200, on"),
    ],
)
def test_leaks_are_no_scores_and_ratings_have_their_own(changes: dict[str, Any], words: str) -> None:
    told = conclude_across(build_matrices(rows(**changes)))
    assert words in told
    assert "65.0" not in told


def test_one_pair_is_told_as_one() -> None:
    pair = [row for row in rows() if (row["corpus"], row.get("test_corpus")) == ("a", "b")]
    assert conclude_across(build_matrices(pair)) == (
        "mfcc, linear, ce has a UAR of 60.0 % on a corpus that it was not trained on; of 1 95 % interval by speaker 1 "
        "lies above chance, 50.0. Rows of the matrix were not tested against each other."
    )
