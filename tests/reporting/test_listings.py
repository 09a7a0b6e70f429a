"""Tables of the report: what stands beside a difference, and that none is listed twice."""

from __future__ import annotations

from typing import Any

from embedkit.reporting.report.listings import list_differences
from tests.reporting.conftest import MakeRow


def note(row: dict[str, Any], other: dict[str, Any], family: str, ci: list[float] | None) -> None:
    difference = row["ua"] - other["ua"]
    told = {"family": family, "metric": "ua", "difference": difference, "ci": ci, "p": 0.0123, "p_adjusted": 0.025}
    against = {name: other[name] for name in ("encoder", "head", "loss")}
    row.setdefault("tests", []).append({**told, "power": 0.083, "against": against})


def test_differences_are_listed_once_from_the_better_run(make_row: MakeRow) -> None:
    one, other = make_row(encoder="org/mfcc", ua=0.5), make_row(encoder="hubert", ua=0.6)
    loss = make_row(encoder="hubert", loss="aam", ua=0.55)
    note(one, other, "encoders", [-0.15, -0.05])
    note(other, one, "encoders", [0.05, 0.15])
    note(loss, other, "losses", [-0.08, -0.02])
    found = list_differences([one, other, loss])
    assert found is not None
    assert found.headers[-1] == "power at 3 points"
    assert found.rows == (
        ("encoders", "hubert, linear, ce", "mfcc, linear, ce", "+10.0 [+5.0, +15.0]", "0.012", "0.025", "8 %"),
        ("losses", "hubert, linear, aam", "hubert, linear, ce", "-5.0 [-8.0, -2.0]", "0.012", "0.025", "8 %"),
    )


def test_equal_runs_are_listed_once_and_what_was_not_tested_is_not(make_row: MakeRow) -> None:
    one, other = make_row(encoder="a"), make_row(encoder="b")
    note(one, other, "encoders", [-0.1, 0.1])
    note(other, one, "encoders", [-0.1, 0.1])
    found = list_differences([one, other])
    assert found is not None
    assert len(found.rows) == 1
    note(loss := make_row(loss="aam"), one, "losses", None)
    assert list_differences([loss]) is None
