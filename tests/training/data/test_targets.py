"""What heads learn: classes and ratings, their scale, and how predictions of either are scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from embedkit.heads import resolve_head
from embedkit.losses import build_loss
from embedkit.training.data.features import UtteranceFeatures
from embedkit.training.data.targets import ClassTargets, DimensionTargets, Scale, build_targets
from embedkit.training.selection import choose, pooled_scores
from embedkit.training.stacks.cache import ResultCache
from embedkit.training.stacks.packing import pack
from embedkit.training.stacks.stack import Group, Member, TrainingConfig, train_stack


def lin(x: np.ndarray, y: np.ndarray) -> float:
    return float(2 * np.cov(x, y, ddof=0)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2))


def test_the_kind_of_targets_is_told_from_their_type() -> None:
    assert isinstance(build_targets(np.array([0, 1]), 2), ClassTargets)
    rated = build_targets(np.zeros((3, 2)), 2)
    assert isinstance(rated, DimensionTargets)
    assert (rated.outputs, rated.score_name) == (2, "CCC")
    assert rated.scale(np.arange(2)) is not None
    assert ClassTargets(np.array([0, 1]), 2).scale(np.arange(2)) is None


def test_ratings_of_each_group_are_standardised_by_its_own_training_side() -> None:
    values = np.random.default_rng(0).normal(3, 2, (12, 2)) * [1, 100]
    targets = DimensionTargets(values)
    sides = [np.arange(6), np.arange(4, 12)]
    scales = [targets.scale(side) for side in sides]
    index = np.array([[0, 7, 3], [5, 5, 11]])
    found = targets.gather(index, scales, torch.float64)
    for group, side in enumerate(sides):
        expected = (values[index[group]] - values[side].mean(0)) / values[side].std(0)
        np.testing.assert_allclose(found[group], expected)
        np.testing.assert_allclose(scales[group].restore(found[group].numpy()), values[index[group]])
    assert targets.gather(index, scales, torch.float32).dtype == torch.float32


def test_a_scale_is_kept_as_tensors() -> None:
    scale = Scale.measure(np.array([[1.0, 5.0], [3.0, 5.0]]))
    assert scale.deviation.tolist() == [1.0, 1.0]
    found = Scale.load(scale.named("4/"), "4/")
    assert found is not None
    np.testing.assert_array_equal(found.mean, scale.mean)
    assert Scale.load(scale.named("4/"), "5/") is None


def test_inner_folds_are_scored_together_by_mean_ccc() -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(size=(20, 3))
    validations = [np.arange(0, 8), np.arange(8, 20)]
    predictions = [generator.normal(size=(2, 4, len(part), 3)).astype(np.float32) for part in validations]
    pooled = pooled_scores(DimensionTargets(values), validations, predictions)
    for candidate in range(2):
        for epoch in range(4):
            joined = np.concatenate([part[candidate, epoch] for part in predictions])
            expected = np.mean([lin(joined[:, k], values[:, k]) for k in range(3)])
            assert pooled[candidate, epoch] == pytest.approx(expected)


@pytest.mark.parametrize("spoiled", [np.nan, np.inf])
def test_a_head_that_diverged_is_never_chosen(spoiled: float) -> None:
    values = np.random.default_rng(0).normal(size=(9, 2))
    predictions = np.stack([np.full((3, 9, 2), spoiled), -np.broadcast_to(values, (3, 9, 2))]).astype(np.float32)
    scores = pooled_scores(DimensionTargets(values), [np.arange(9)], [predictions])
    assert (scores[0] == -1).all()
    assert choose(scores).candidate == 1


def test_finished_stacks_of_ratings_are_found_again(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    features = UtteranceFeatures(generator.normal(size=(20, 1, 4)).astype(np.float32))
    ratings = generator.normal(size=(20, 2))
    member = Member(loss=build_loss("ccc-regression"), seed=0, learning_rate=1e-2, epochs=2)
    group = Group(train=np.arange(14), validate=np.arange(14, 20), seed=0, members=(member,))
    config = TrainingConfig(head=resolve_head("linear"), classes=2, epochs=2, batch_size=8)
    (result,) = train_stack(features, ratings, [group], config)
    cache = ResultCache(tmp_path / "cache", {"dimensions": ["a", "b"]})
    cache.add("key", pack([result]))
    found = cache.find("key", [group])
    assert found is not None
    np.testing.assert_array_equal(found[0].predictions, result.predictions)
    np.testing.assert_array_equal(found[0].dev_scores, result.dev_scores)
    assert found[0].scale is not None
    assert result.scale is not None
    np.testing.assert_array_equal(found[0].scale.mean, result.scale.mean)
