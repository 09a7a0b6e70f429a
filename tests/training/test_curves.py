"""Learning curves: those of the candidate chosen, as it was when it was chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import recall_score

import embedkit
from embedkit.losses import build_loss
from embedkit.options.fit import FitOptions
from embedkit.training.cross_validation import train_losses
from embedkit.training.data.store_source import StoreSource
from embedkit.training.experiment import Experiment
from embedkit.training.results import learning_curves
from tests.training.stores import write_synthetic_store


def options(**changes: Any) -> FitOptions:
    values: dict[str, Any] = {
        "seeds": 2,
        "folds": "speaker",
        "lr": (1e-5, 3e-2),
        "epochs": 8,
        "batch_size": 8,
    }
    return FitOptions(**(values | changes)).resolve()


def test_curves_are_those_of_what_was_chosen(tmp_path: Path) -> None:
    store = write_synthetic_store(tmp_path / "tiny.h5", noise=2.0)
    cell = Experiment(
        StoreSource(store), "linear", build_loss("ce"), options(patience=3, runs=tmp_path / "runs"), torch.device("cpu")
    )
    seen: list[Any] = []
    (results,) = train_losses(
        cell.features,
        cell.data.task.targets,
        cell.data.plan,
        cell.training_config,
        [build_loss("ce")],
        grid=cell.grid,
        seeds=(0, 1),
        threads=1,
        on_stack=lambda groups, found: seen.extend(zip(groups, found, strict=True)),
    ).values()
    curves = learning_curves(results, (0, 1), "UA")
    assert (curves["seeds"], curves["score"]) == ([0, 1], "UA")
    for seed in (0, 1):
        losses, scores = [], []
        for result in results:
            place = result.choices[seed].candidate
            inner = [
                (group, found)
                for group, found in seen
                if group.seed == seed and len(group.validate) and not set(group.train) & set(result.fold.test)
            ]
            own = [group for group in inner if not set(group[0].validate) & set(result.fold.test)]
            assert len(own) == len(result.fold.validations)
            rows = [found.losses[place] for _, found in own]
            losses.append(np.mean([np.where(np.isnan(row), row[~np.isnan(row)][-1], row) for row in rows], axis=0))
            truth = np.concatenate([cell.data.task.targets[group.validate] for group, _ in own])
            said = np.concatenate([found.predictions[place] for _, found in own], axis=1)
            scores.append([recall_score(truth, epoch, average="macro") for epoch in said])
        np.testing.assert_allclose(curves["loss"][seed], np.mean(losses, axis=0), atol=1e-5)
        np.testing.assert_allclose(curves["dev"][seed], np.mean(scores, axis=0), atol=1e-5)
    assert any(np.isnan(found.losses).any() for group, found in seen if len(group.validate)), "nothing stopped early"
    assert curves["loss"][0][0] > curves["loss"][0][-1]


def test_runs_keep_them_and_older_runs_lack_them(tmp_path: Path) -> None:
    store = write_synthetic_store(tmp_path / "tiny.h5", noise=0.5)
    (record,) = embedkit.fit(
        store, loss=["ce"], seeds=2, epochs=4, batch_size=8, lr=(1e-2,), threads=1, runs=tmp_path / "runs"
    )
    curves = record.load_curves()
    assert curves is not None
    assert np.shape(curves["loss"]) == np.shape(curves["dev"]) == (2, 4)
    (record.folder / "curves.json").unlink()
    assert record.load_curves() is None
