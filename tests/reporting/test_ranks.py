"""Mean ranks over corpora: by hand, with intervals that hold, and never with the demo corpus."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from embedkit.reporting import build_table
from embedkit.reporting.ranks import mean_with_interval, rank_over_corpora
from tests.reporting.conftest import MakeRow

LOSSES = ("ce", "focal", "ccc")


def study(make_row: MakeRow, scores: dict[str, tuple[float, ...]], **changes: Any) -> list[dict[str, Any]]:
    return [
        make_row(corpus=corpus, loss=loss, encoder=encoder, ua=score + shift, demo=corpus == "demo", **changes)
        for corpus, own in scores.items()
        for encoder, shift in (("mfcc", 0.0), ("hubert", 0.2))
        for loss, score in zip(LOSSES, own, strict=True)
    ]


def test_ranks_are_averaged_within_a_corpus_and_then_over_them() -> None:
    one = {("line a",): {("x",): 0.9, ("y",): 0.8}, ("line b",): {("x",): 0.5, ("y",): 0.5}, ("part",): {("y",): 1.0}}
    other = {("line a",): {("y",): 0.1, ("x",): 0.2, ("z",): 0.3}}
    found = rank_over_corpora([one, other])
    assert {name: cell.mean for (name,), cell in found.items()} == {"x": 1.125, "y": 1.875}
    half = stats.t.ppf(0.975, 1) * np.std([1.25, 1.0], ddof=1) / np.sqrt(2)
    assert found[("x",)].interval == pytest.approx((max(1, 1.125 - half), min(2, 1.125 + half)))
    assert rank_over_corpora([one, {("line",): {("z",): 1.0}}]) == {}


def test_intervals_of_ranks_hold_the_mean() -> None:
    random, held = np.random.default_rng(0), 0
    for _ in range(600):
        ranks = stats.rankdata(random.normal([0.0, 0.0, 0.0, 0.0], 1.0, (4, 4)), axis=1)
        means, half = mean_with_interval(ranks)
        held += int(abs(means[0] - 2.5) <= half)
    assert held / 600 == pytest.approx(0.95, abs=0.025)


def test_several_corpora_get_ranks_and_the_demo_does_not_count(make_row: MakeRow) -> None:
    scores = {"emodb": (0.3, 0.2, 0.1), "ravdess": (0.3, 0.1, 0.2), "demo": (0.1, 0.2, 0.3)}
    text = " ".join(str(build_table(study(make_row, scores))).split())
    assert "Mean ranks of losses -------------------- ce focal ccc all 1.00 [1.00, 2.76] 2.50 [1.00, 3.00]" in text
    assert "Ranks by UAR over 2 corpora (emodb and ravdess), 1 is best" in text
    assert "The demo corpus is synthetic and left out of the ranks." in text
    assert "hubert linear 1.00 [1.00, 1.00] mfcc linear 2.00" in text
    alone = str(build_table(study(make_row, {name: scores[name] for name in ("emodb", "demo")})))
    assert "Mean ranks" not in alone


def test_fitted_heads_and_layers_are_not_ranked_and_low_is_good_of_errors(make_row: MakeRow) -> None:
    scores = {"emodb": (0.3, 0.2, 0.1), "ravdess": (0.3, 0.1, 0.2)}
    rows = study(make_row, scores, nll=0.5)
    for row in rows:
        row["nll"] = row["ua"]
    more = [make_row(corpus=corpus, head="lda", loss="own", fitted=True, ua=0.9, nll=0.9) for corpus in scores]
    text = str(build_table([*rows, *more], metric="nll"))
    ranks = text.partition("Mean ranks of losses")[2]
    assert "lda" not in ranks
    assert " own" not in ranks.partition("Ranks by")[0]
    assert ranks.split("all")[1].split()[0] == "3.00"
