"""All layers in one stack: each comes out as if it had been trained alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from embedkit.heads import resolve_head, resolve_heads
from embedkit.losses import build_loss
from embedkit.training.cross_validation import train_losses
from embedkit.training.data.features import StreamedFeatures, UtteranceFeatures
from embedkit.training.data.folds import plan_folds
from embedkit.training.data.store_source import StoreSource
from embedkit.training.data.task import define_task
from embedkit.training.layer_probing import LayerFeatures, join_plans, split_results
from embedkit.training.search import build_grid
from embedkit.training.stacks.stack import TrainingConfig
from tests.training.stores import write_synthetic_store


@pytest.mark.parametrize("memory_gb", [None, 0.0])
def test_a_layer_comes_out_as_if_trained_alone(tmp_path: Path, memory_gb: float | None) -> None:
    store = write_synthetic_store(tmp_path / "tiny.h5", speakers=5, each=12)
    data = define_task(StoreSource(store), where=["speaker!=nobody"])
    plan = plan_folds(
        "speaker",
        labels=data.labels,
        speakers=data.speakers,
        groups=None,
        splits=data.splits,
        hold_out=False,
    )
    settings = {
        "config": TrainingConfig(head=resolve_head("linear"), classes=3, epochs=3, batch_size=8),
        "losses": [build_loss("ce"), build_loss("aam")],
        "grid": build_grid(resolve_heads("linear"), (1e-3, 1e-2)),
        "seeds": (0, 1),
        "threads": 1,
    }
    whole = StoreSource(store).features(data.rows, "utterance", memory_gb=memory_gb)
    assert isinstance(whole, UtteranceFeatures)
    assert isinstance(whole, StreamedFeatures) == (memory_gb == 0)
    places = range(len(store.layers))
    targets = np.concatenate([data.targets] * len(places))
    together = train_losses(
        LayerFeatures(whole), targets, plan=join_plans([plan] * len(places), places, len(whole)), **settings
    )
    for place in places:
        alone = train_losses(
            StoreSource(store).features(data.rows, "utterance", layer=store.layers[place]),
            data.targets,
            plan=plan,
            **settings,
        )
        for loss, results in together.items():
            for own, expected in zip(split_results(results, [plan] * len(places))[place], alone[loss], strict=True):
                assert own.fold is expected.fold
                assert [choice.epochs for choice in own.choices] == [choice.epochs for choice in expected.choices]
                np.testing.assert_allclose(own.outputs, expected.outputs, rtol=1e-4, atol=1e-6)
                torch.testing.assert_close(own.standardiser.mean, expected.standardiser.mean)
