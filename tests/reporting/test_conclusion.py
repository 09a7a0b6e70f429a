"""The first paragraph of a report: it says what the tests showed, and no more."""

from __future__ import annotations

from typing import Any

import pytest

from embedkit.reporting.report.conclusion import conclude
from tests.reporting.conftest import MakeRow

LOSSES = ("ce", "focal", "aam")


def compare(row: dict[str, Any], other: dict[str, Any], family: str, p: float, smallest: float = 0.004) -> None:
    """Note in a row how it compares with another."""
    row.setdefault("tests", []).append(
        {
            "family": family,
            "against": {name: other[name] for name in ("encoder", "head", "loss")},
            "metric": "ua",
            "difference": row["ua"] - other["ua"],
            "differs": p <= 0.05,
            "p_adjusted": p,
            "smallest_p_adjusted": smallest,
            "speakers": 10,
            "seeds": 3,
            "method": "swaps",
        }
    )


def study(make_row: MakeRow, scores: dict[str, float], **changes: Any) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (encoder, loss): make_row(encoder=encoder, loss=loss, ua=score + 0.001 * place, **changes)
        for encoder, score in scores.items()
        for place, loss in enumerate(LOSSES)
    }


def test_one_encoder_beats_the_other_and_losses_are_alike(make_row: MakeRow) -> None:
    rows = study(make_row, {"mfcc": 0.5, "whisper-base": 0.9})
    for loss in LOSSES:
        compare(rows["mfcc", loss], rows["whisper-base", loss], "encoders", 0.002)
        compare(rows["whisper-base", loss], rows["mfcc", loss], "encoders", 0.002)
        for encoder in ("mfcc", "whisper-base"):
            if loss != "ce":
                compare(rows[encoder, loss], rows[encoder, "ce"], "losses", 0.7)
    assert conclude(list(rows.values())) == (
        "whisper-base with the head linear under aam has the highest UAR, 90.2 % (95 % interval by speaker: 89.0 to "
        "95.0; chance 14.3). whisper-base beats mfcc under every loss. The losses do not differ significantly from ce."
    )


def test_what_holds_under_some_losses_is_said_of_those(make_row: MakeRow) -> None:
    rows = study(make_row, {"mfcc": 0.5, "logmel": 0.6, "whisper-base": 0.61})
    for loss, p in zip(LOSSES, (0.01, 0.2, 0.03), strict=True):
        compare(rows["whisper-base", loss], rows["mfcc", loss], "encoders", p)
        compare(rows["whisper-base", loss], rows["logmel", loss], "encoders", 0.9)
    compare(rows["mfcc", "focal"], rows["mfcc", "ce"], "losses", 0.01)
    compare(rows["whisper-base", "focal"], rows["whisper-base", "ce"], "losses", 0.3)
    told = conclude(list(rows.values()))
    assert "whisper-base beats mfcc under ce and aam and does not differ significantly from it under focal." in told
    assert "whisper-base does not differ significantly from logmel under any loss." in told
    assert "focal is significantly better than ce with mfcc. No other difference from ce is significant." in told


def test_what_could_not_be_shown_is_not_called_alike(make_row: MakeRow) -> None:
    rows = study(make_row, {"mfcc": 0.5})
    for loss in LOSSES[1:]:
        compare(rows["mfcc", loss], rows["mfcc", "ce"], "losses", 0.25, smallest=0.125)
    told = conclude(list(rows.values()))
    assert "With 10 speakers no difference between losses could be significant, however large." in told
    assert "do not differ" not in told


@pytest.mark.parametrize("heads", [1, 2])
def test_heads_are_named_where_there_are_several(make_row: MakeRow, heads: int) -> None:
    one, other = make_row(encoder="org/mfcc", ua=0.6), make_row(encoder="other/logmel", ua=0.5)
    rows = [one, other, *([make_row(encoder="org/mfcc", head="mlp", ua=0.4)] if heads > 1 else [])]
    compare(one, other, "encoders", 0.01)
    told = conclude(rows)
    assert ("mfcc (linear) beats logmel (linear) under ce." if heads > 1 else "mfcc beats logmel under ce.") in told


def test_runs_without_tests_or_intervals_are_told_as_they_are(make_row: MakeRow) -> None:
    row = make_row(ua_ci=None)
    assert conclude([row]) == "whisper-base with the head linear under ce has a UAR of 92.4 % (chance 14.3)."
    other = make_row(loss="focal", ua=0.5, not_compared="the file is missing")
    told = conclude([row, other])
    assert "No differences were tested" in told
    assert "interval" not in told
    assert "single layers" in conclude([make_row(layer=3)])
    attributes = make_row(dimensions=["valence"], classes=[], ccc=0.5, ccc_ci=[0.4, 0.6], loss="ccc-regression")
    assert conclude([attributes]).endswith("has a CCC of 0.500 (95 % interval by speaker: 0.400 to 0.600).")
