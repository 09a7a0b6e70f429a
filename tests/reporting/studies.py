"""A small study on disk: two losses on all layers and on each, of utterances with names that bite."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import altair as alt

import embedkit
from embedkit.reporting.figures.theme import write_svg
from embedkit.store import Store
from embedkit.training.runs import RunRecord
from tests.training.stores import write_synthetic_store

LABELS = ("anger", "<img src=x onerror=alert(1)>", "sad & \"sorry\" 'ly'")
QUICK: dict[str, Any] = {
    "seeds": 2,
    "epochs": 6,
    "batch_size": 8,
    "lr": (1e-2, 3e-2),
    "threads": 1,
    "folds": "speaker",
}


def write_checked_svg(specification: Mapping[str, Any]) -> str:
    """Draw a specification after checking that it is one of Vega-Lite."""
    alt.Chart.from_dict(dict(specification))
    return write_svg(specification)


def write_store(folder: Path, **changes: Any) -> Store:
    ids = [f"</script><u{number:04d}>" for number in range(60)]
    return write_synthetic_store(folder / "tiny.h5", noise=4.0, labels=LABELS, id=ids, **changes)


def fit_study(folder: Path, **changes: Any) -> list[RunRecord]:
    """Fit below `folder/runs`; the single layers last."""
    store = write_store(folder)
    options = {**QUICK, "runs": folder / "runs", **changes}
    whole = embedkit.fit(store, loss=["ce", "ccc"], **options)
    return whole + embedkit.fit(store, loss=["ce"], layers="each", **options)
