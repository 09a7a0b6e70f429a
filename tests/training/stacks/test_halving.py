"""A search by halves: who stops, that the others are as if nobody had stopped, and what the run says of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import embedkit
from embedkit.errors import FitError
from embedkit.heads import resolve_head
from embedkit.losses import build_loss
from embedkit.options.fit import FitOptions
from embedkit.training.data.store_source import StoreSource
from embedkit.training.data.targets import ClassTargets
from embedkit.training.data.task import define_task
from embedkit.training.selection import pooled_scores, smooth_scores
from embedkit.training.stacks.schedule import run_groups
from embedkit.training.stacks.stack import Group, Member, TrainingConfig
from tests.training.stores import write_synthetic_store

RATES = (1e-6, 3e-2, 1e-2, 1e-5, 3e-3)
EPOCHS = 9


@pytest.mark.parametrize("head", ["linear", "attentive"])
def test_the_worse_candidates_of_a_trial_stop_and_the_others_do_not_notice(head: str, tmp_path: Path) -> None:
    store = StoreSource(write_synthetic_store(tmp_path / "tiny.h5", each=6, noise=2.0, framed=True))
    data = define_task(store)
    resolved = resolve_head(head)
    features = store.features(data.rows, resolved.cls.level)
    losses = [build_loss("ce"), build_loss("focal")]
    members = tuple(Member(loss=loss, seed=0, learning_rate=rate, epochs=EPOCHS) for loss in losses for rate in RATES)
    # The inner folds of a trial take 2 and 3 steps, and lie in stacks of their own.
    sides = [(np.arange(12, 24), np.arange(12)), (np.arange(18), np.arange(18, 24))]
    groups = [
        Group(train=train, validate=validate, seed=trial, members=members, trial=trial)
        for trial in range(2)
        for train, validate in sides
    ]
    whole, halved = (
        run_groups(
            features,
            data.targets,
            groups,
            TrainingConfig(head=resolved, classes=3, epochs=EPOCHS, batch_size=8, halving=halving),
            keep_best=False,
            threads=threads,
        )
        for halving, threads in ((False, 1), (True, 2))
    )
    truth = ClassTargets(data.targets, 3)
    for trial in range(2):
        own = range(2 * trial, 2 * trial + 2)
        for first in (0, len(RATES)):
            mine = slice(first, first + len(RATES))
            predictions = [whole[place].predictions[mine, :3] for place in own]
            early = smooth_scores(pooled_scores(truth, [sides[0][1], sides[1][1]], predictions))[:, -1]
            kept = set(first + np.argsort(-early, kind="stable")[:3])
            for place in own:
                for member in range(first, first + len(RATES)):
                    one, other = whole[place], halved[place]
                    if member in kept:
                        assert one.losses[member].tolist() == other.losses[member].tolist()
                        assert one.predictions[member].tolist() == other.predictions[member].tolist()
                        for name, value in one.states[member].items():
                            assert torch.equal(value, other.states[member][name])
                    else:
                        assert one.losses[member, :3].tolist() == other.losses[member, :3].tolist()
                        assert np.isnan(other.losses[member, 3:]).all()
                        assert (other.predictions[member, 3:] == other.predictions[member, 2]).all()


def test_a_run_says_that_it_was_searched_by_halves(tmp_path: Path) -> None:
    store = write_synthetic_store(tmp_path / "tiny.h5", each=6, noise=2.0)
    options = {"head": ["linear"], "lr": RATES, "epochs": 6, "seeds": 1, "folds": "speaker", "runs": tmp_path / "runs"}
    (record,) = embedkit.fit(store, halving=True, **options)
    (whole,) = embedkit.fit(store, **options)
    assert record.folder != whole.folder
    assert record.metrics["budget"]["halving"] is True
    assert "halving" not in whole.metrics["budget"]
    usual = [FitOptions(**given).resolve() for given in ({}, {"halving": False}, {"patience": 3}, {"lr": RATES})]
    assert [one.halving for one in usual] == [True, None, None, None]
    assert [len(one.lr or ()) for one in usual] == [5, 4, 4, 5]
    assert "worse half stopped after a third" in str(embedkit.table([record]))
    for one, other in zip(record.config["choices"], whole.config["choices"], strict=True):
        assert one["learning_rate"] not in (1e-6, 1e-5)
        assert one["ua_dev"] <= other["ua_dev"]
    with pytest.raises(FitError, match="--halving and --patience"):
        embedkit.fit(store, halving=True, patience=2, **options)
    with pytest.raises(FitError, match="saves nothing with --mode frozen"):
        embedkit.fit("corpus.csv", halving=True, mode="frozen", encoder=["hubert"])
