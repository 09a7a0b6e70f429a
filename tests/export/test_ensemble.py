"""An ensemble says what its heads say one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from embedkit.errors import RunError
from embedkit.export.ensemble import Ensemble
from embedkit.heads import resolve_head
from embedkit.losses import build_loss
from embedkit.training.data.features import FrameFeatures, Standardiser, UtteranceFeatures
from embedkit.training.data.targets import Scale
from embedkit.training.stacks.scoring import score_states
from embedkit.training.stacks.stack import TrainingConfig
from tests.export.predictors import random_predictor


@pytest.mark.parametrize(
    ("heads", "loss", "ratings"),
    [
        (["linear", "linear"], "ce", False),
        (["mlp:hidden=8", "mlp:hidden=16", "mlp:hidden=8"], "aam:scale=12", False),
        (["superb", "superb"], "ccc-regression", True),
        (["lstm:hidden=8", "attentive:hidden=8"], "ce", False),
    ],
)
def test_it_is_the_mean_over_folds_and_seeds_of_heads_scored_alone(heads: list[str], loss: str, ratings: bool) -> None:
    predictor = random_predictor(heads, loss=loss, layers=2, dimensions=6, ratings=ratings)
    generator = np.random.default_rng(0)
    lengths = np.array([5, 9, 3])
    frames = generator.standard_normal((17, 2, 6)).astype(np.float32)
    starts = np.array([0, 5, 14])
    means = np.stack([frames[start : start + length].mean(0) for start, length in zip(starts, lengths, strict=True)])
    on_frames = predictor.level == "frame"
    features = FrameFeatures(frames, starts, lengths, means, means) if on_frames else UtteranceFeatures(means)
    alone = []
    for head in predictor.heads:
        prefix = f"{head.number}/{head.seed}/"
        state = {name.removeprefix(prefix): value for name, value in predictor.tensors.items() if prefix in name}
        standardiser = Standardiser(
            mean=predictor.tensors[f"{head.number}/mean"], scale=predictor.tensors[f"{head.number}/scale"]
        )
        scale = Scale.load(predictor.tensors, f"{head.number}/")
        config = TrainingConfig(head=resolve_head(head.spec), classes=3)
        alone.append(
            score_states(features, [state], build_loss(loss), standardiser, np.arange(3), config, scale=scale)[0]
        )
    values, own = torch.from_numpy(means), None
    if on_frames:
        own = torch.from_numpy(lengths)
        values = torch.full((3, 9, 2, 6), torch.nan)
        for row, (start, length) in enumerate(zip(starts, lengths, strict=True)):
            values[row, :length] = torch.from_numpy(frames[start : start + length])
    found = Ensemble(predictor)(values, own)
    np.testing.assert_allclose(found.numpy(), np.mean(alone, axis=0), atol=1e-6)


def test_weights_that_are_missing_are_named() -> None:
    predictor = random_predictor(["linear"])
    del predictor.tensors["1/scale"]  # type: ignore[attr-defined]
    with pytest.raises(RunError, match="lack '1/scale'"):
        Ensemble(predictor)
