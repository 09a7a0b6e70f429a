"""Learning curves over speakers: runs on shares of them, trained together, shown apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import embedkit
from embedkit.errors import ConfigError, FitError
from embedkit.losses import build_loss
from embedkit.options.fit import FitOptions
from embedkit.reporting.figures.forest import draw_shares, find_families
from embedkit.reporting.figures.panels import split_runs
from embedkit.reporting.predictions import read_predictions
from embedkit.reporting.report.board import Board
from embedkit.reporting.report.commands import list_commands
from embedkit.reporting.report.sections import draw_sections
from embedkit.store import Store
from embedkit.training.data.store_source import StoreSource
from embedkit.training.experiment import Experiment
from embedkit.training.runs import RunRecord
from tests.training.stores import write_synthetic_store

QUICK: dict[str, Any] = {"seeds": 2, "epochs": 4, "batch_size": 8, "lr": (1e-2, 3e-2), "threads": 1, "folds": "speaker"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_synthetic_store(
        tmp_path_factory.mktemp("share") / "tiny.h5", speakers=6, each=9, noise=3.0, framed=True
    )


@pytest.fixture(scope="module")
def records(store: Store) -> list[RunRecord]:
    return fit(store, train_share=[0.4, 1], loss=["ce", "aam"])


def fit(store: Store, runs: str = "runs", **options: Any) -> list[RunRecord]:
    return embedkit.fit(store, runs=store.path.parent / runs, **{**QUICK, **options})


def test_shares_train_together_as_if_alone(store: Store, records: list[RunRecord]) -> None:
    part, other, whole, _ = records
    assert [record.metrics.get("train_share") for record in records] == [0.4, 0.4, None, None]
    assert [record.metrics["train_speakers"] for record in (part, whole)] == [[2] * 6, [5] * 6]
    assert len({record.folder for record in records}) == 4
    for alone, expected in ((fit(store, "alone", train_share=0.4, loss="aam"), other), (fit(store, "alone"), whole)):
        assert alone[0].folder.name == expected.folder.name
        one, two = (read_predictions(record) for record in (alone[0], expected))
        assert one.ids == two.ids
        np.testing.assert_allclose(one.probability, two.probability, rtol=1e-3, atol=1e-5)
        # A standardiser tells which utterances were trained on.
        assert all(
            np.allclose(alone[0].load_heads()[name], value, atol=1e-4)
            for name, value in expected.load_heads().items()
            if name.endswith("/mean")
        )
    told: list[str] = []
    fit(store, tell=told.append)
    assert "fitted before" in told[0]


@pytest.mark.parametrize("options", [{"head": ["attentive:hidden=4"]}, {"layers": "each"}, {"folds": "split"}])
def test_other_heads_layers_and_splits_have_shares_too(store: Store, options: dict[str, Any]) -> None:
    found = fit(store, "others", train_share=[0.4, 1], **{**options, "seeds": 1, "epochs": 1})
    shares = [record.metrics.get("train_share") for record in found]
    assert shares == [0.4] * (len(found) // 2) + [None] * (len(found) // 2)
    assert max(found[0].metrics["train_speakers"]) == 2 < max([*found[-1].metrics["train_speakers"], 3])


def test_tables_keep_shares_apart_and_say_so(records: list[RunRecord]) -> None:
    text = " ".join(str(embedkit.table(records)).split())
    assert "synthetic: UAR in %, 3 classes, folds by speaker, train share 40 %, 2 speakers" in text
    assert "heads learned from a part of each fold's training speakers (40 %, 2 speakers)" in text
    assert text.count("Protocol:") == 2
    assert "Runs that differ in train share stand in tables of their own" in text


def test_the_figure_shows_each_score_at_its_number_of_speakers(records: list[RunRecord], tmp_path: Path) -> None:
    (family,) = find_families(records)
    assert [record.metrics.get("train_share") for record in family] == [0.4, 0.4, None, None]
    (figure,) = draw_shares([family]).values()
    for record in records:
        (row,) = (
            one
            for one in figure.data
            if one["series"] == record.metrics["loss"] and one["at"] == np.mean(record.metrics["train_speakers"])
        )
        assert row["mean"] == pytest.approx(100 * record.metrics["ua"], abs=1e-4)
        assert [row["low"], row["high"]] == pytest.approx([100 * end for end in record.metrics["ua_ci"]], abs=1e-4)
    (path,) = embedkit.write_figures(records[0].folder.parents[3], "shares", out=tmp_path)
    assert path.read_bytes().startswith(b"<svg")


def test_the_report_shows_it_with_the_runs_on_all_speakers(records: list[RunRecord]) -> None:
    sections = [
        draw_sections(group, [], find_families(records), read_predictions, {}, Board()) for group in split_runs(records)
    ]
    assert [[one.heading for one in own] for own in sections] == [[], ["Learning curves over speakers"]]
    (command, _) = (line for line in list_commands(records, "runs") if line.startswith("embedkit fit"))
    assert "--train-share 0.4 " in command


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"train_share": [0.5, 0]}, ConfigError, "expected numbers above 0, up to 1"),
        ({"train_share": 1.5}, ConfigError, "expected numbers above 0, up to 1"),
        ({"train_share": [0.5, 0.5]}, ConfigError, "holds one twice"),
        ({"train_share": 0.1, "where": ["speaker=s00,s01"]}, FitError, "at least two speakers"),
    ],
)
def test_shares_that_cannot_be_are_told(store: Store, options: Any, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        fit(store, "none", **options)


def test_heads_on_an_encoder_that_knows_all_speakers_have_no_share(store: Store) -> None:
    source = StoreSource(store)
    source.fine_tuned = True
    options = FitOptions(folds="speaker").resolve()
    experiment = Experiment(source, "linear", build_loss("ce"), options, torch.device("cpu"), share=0.5)
    with pytest.raises(FitError, match="was trained on all training speakers"):
        experiment.check()
