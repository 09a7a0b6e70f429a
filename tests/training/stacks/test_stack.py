"""Stacked training: a head comes out the same whatever shares its stack, and learns from its training set alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from embedkit.evaluation.metrics import concordance_correlation
from embedkit.heads import HEADS, resolve_head
from embedkit.heads.base import Head, HeadInputs
from embedkit.imports import take_word
from embedkit.losses import LOSSES, build_loss
from embedkit.store import Store
from embedkit.training.data.features import Features, FrameFeatures, Standardiser, StreamedFeatures, UtteranceFeatures
from embedkit.training.data.store_source import StoreSource
from embedkit.training.data.task import define_task
from embedkit.training.stacks.stack import Group, GroupResult, Member, TrainingConfig, features_for, train_stack
from tests.cases import mark_cases
from tests.training.stores import write_synthetic_store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return write_synthetic_store(tmp_path / "tiny.h5", speakers=5, each=12, framed=True)


def features_of(store: Store, level: str) -> tuple[Features, np.ndarray]:
    data = define_task(StoreSource(store))
    return StoreSource(store).features(data.rows, level), data.targets


def group(train: range, validate: range, seed: int, *members: Member) -> Group:
    return Group(train=np.array(train), validate=np.array(validate), seed=seed, members=members)


def assert_same(first: GroupResult, second: GroupResult, *, places: list[int] | None = None) -> None:
    for own, place in enumerate(places or range(len(first.states))):
        for name, value in first.states[own].items():
            torch.testing.assert_close(value, second.states[place][name], rtol=1e-4, atol=1e-5)
        assert np.array_equal(first.predictions[own], second.predictions[place])
        np.testing.assert_allclose(first.losses[own], second.losses[place], rtol=1e-4, atol=1e-6)


MIXED = {
    "affine": ["ce", "label-smoothing", "focal:gamma=1.5", "ccc", "ccc:flat", "class-balanced", "ce:weights=balanced"],
    "cosine": ["aam", "aam:scale=15,margin=0.3,weights=balanced"],
    "probe": ["supcon", "supcon:temperature=0.5,weights=balanced"],
    "dimensions": ["ccc-regression", "torch.nn:MSELoss"],
    "rated classes": ["ce+ccc:ratings=a+b", "ce+ccc:ratings=a+b,ce=0.2,ccc=3"],
    "affine and cosine": ["ce", "aam", "soft-ce", "aam:scale=15,margin=0.3", "ccc"],
}
take_word(*MIXED["dimensions"])
PRECISIONS = {torch.float64: {"rtol": 1e-9, "atol": 1e-12}, torch.float32: {"rtol": 1e-4, "atol": 1e-5}}


def mixed_groups(losses: list[str]) -> list[Group]:
    """Unequal folds, rates, seeds, weight decays, losses and stops, in an order that mixes them all."""
    settings = [(1e-3, 4, 0.0), (1e-2, 5, 0.0), (3e-3, 1, 0.3), (3e-3, 3, 0.0)]
    members = [
        Member(loss=build_loss(loss), seed=(place + number) % 3, learning_rate=rate, epochs=epochs, weight_decay=decay)
        for number, (rate, epochs, decay) in enumerate(settings)
        for place, loss in enumerate(losses)
    ]
    one = group(range(40), range(40, 60), 1, *members)
    other = group(range(21, 58), range(20), 2, *members[::-1])
    early = group(range(5, 45), range(3), 3, *(replace(member, epochs=1) for member in members))
    return [one, other, early]


def assert_same_head(alone: GroupResult, together: GroupResult, place: int, *, rtol: float, atol: float) -> None:
    assert alone.states[0].keys() == together.states[place].keys()
    for name, value in alone.states[0].items():
        torch.testing.assert_close(value, together.states[place][name], rtol=rtol, atol=atol)
    np.testing.assert_allclose(alone.losses[0], together.losses[place], rtol=rtol, atol=atol)
    if alone.predictions.dtype == np.int16:
        assert np.array_equal(alone.predictions[0], together.predictions[place])
        np.testing.assert_array_equal(alone.dev_scores[0], together.dev_scores[place])
    else:
        np.testing.assert_allclose(alone.predictions[0], together.predictions[place], rtol=10 * rtol, atol=1e-6)
        np.testing.assert_allclose(alone.dev_scores[0], together.dev_scores[place], rtol=10 * rtol, atol=1e-6)


def rate(store: Store) -> np.ndarray:
    """Two dimensions of different spread, one of which the embeddings tell."""
    return np.stack([store.column("valence"), 30 + 5 * store.mean(layer=1)[:, 0]], axis=1)


def rate_some(store: Store, targets: np.ndarray) -> np.ndarray:
    """Classes, and the same two dimensions beside them, which some utterances lack."""
    ratings = rate(store)
    ratings[::3, 0] = ratings[1::4, 1] = np.nan
    return np.column_stack([targets, ratings])


def vote(targets: np.ndarray) -> np.ndarray:
    """Classes, and beside them the shares of five annotators who are not of one mind."""
    votes = np.random.default_rng(0).multinomial(5, 0.2 + 0.4 * np.eye(3)[targets])
    return np.column_stack([targets, votes / 5])


@pytest.mark.parametrize(
    "dtype", mark_cases(PRECISIONS, lambda dtype: dtype == torch.float64), ids=["float64", "float32"]
)
@pytest.mark.parametrize("kind", list(MIXED))
@pytest.mark.parametrize(
    ("head", "level"),
    [("linear", "utterance"), ("superb", "utterance"), ("mlp:dropout=0.4", "utterance"), ("attentive", "frame")],
)
@pytest.mark.parametrize("clip", mark_cases([None, 0.05], bool))
def test_a_head_does_not_depend_on_its_stack(
    store: Store, head: str, level: str, kind: str, dtype: torch.dtype, clip: float | None
) -> None:
    if kind == "affine and cosine" and not resolve_head(head).cls.mixes_kinds:
        pytest.skip("affine and cosine heads of this kind never share a stack")
    features, targets = features_of(store, level)
    outputs = {"dimensions": 2, "rated classes": 5}.get(kind, 3)
    if outputs != 3:
        targets = rate(store) if outputs == 2 else rate_some(store, targets)
    config = TrainingConfig(head=resolve_head(head), classes=outputs, epochs=5, batch_size=8, clip=clip)
    groups = mixed_groups(MIXED[kind])
    voted = vote(targets) if "soft-ce" in MIXED[kind] else targets
    together = train_stack(features, voted, groups, config, dtype=dtype)
    for own, result in zip(groups, together, strict=True):
        for place in range(0, len(own.members), 3):
            alone_in_group = replace(own, members=(own.members[place],))
            known = voted if own.members[place].loss.soft else targets
            (alone,) = train_stack(features, known, [alone_in_group], config, dtype=dtype)
            assert_same_head(alone, result, place, **PRECISIONS[dtype])


def test_every_loss_is_tested_for_independence() -> None:
    assert {name for name in LOSSES if build_loss(name).tasks} <= {
        spec.partition(":")[0] for specs in MIXED.values() for spec in specs
    }


def test_a_head_stops_when_it_no_longer_gets_better(store: Store) -> None:
    features, targets = features_of(store, "utterance")
    members = [
        Member(loss=build_loss("ce"), seed=seed, learning_rate=rate, epochs=30)
        for seed in (1, 2)
        for rate in (1e-4, 3e-2)
    ]
    whole = group(range(40), range(40, 60), 1, *members)
    config = TrainingConfig(head=resolve_head("linear"), classes=3, epochs=30, batch_size=8)
    (full,) = train_stack(features, targets, [whole], config)
    (tired,) = train_stack(features, targets, [whole], replace(config, patience=3))
    stops = []
    for place in range(len(members)):
        recalls = full.dev_scores[place]
        best = [int(np.argmax(recalls[: epoch + 1])) for epoch in range(30)]
        stop = next((epoch for epoch in range(30) if epoch - best[epoch] >= 3), 29)
        stops.append(stop)
        np.testing.assert_array_equal(tired.predictions[place, : stop + 1], full.predictions[place, : stop + 1])
        assert (tired.predictions[place, stop:] == full.predictions[place, stop]).all()
        assert np.isnan(tired.losses[place, stop + 1 :]).all()
        shorter = replace(whole, members=(replace(members[place], epochs=stop + 1),))
        (stopped,) = train_stack(features, targets, [shorter], config)
        for name, value in stopped.states[0].items():
            torch.testing.assert_close(value, tired.states[place][name], rtol=1e-5, atol=1e-6)
    assert len(set(stops)) > 1
    assert max(stops) < 29


def test_ratings_are_standardised_by_the_training_side_alone(store: Store) -> None:
    features, _ = features_of(store, "utterance")
    ratings = rate(store)
    config = TrainingConfig(head=resolve_head("linear"), classes=2, epochs=20, batch_size=8)
    whole = group(
        range(40), range(40, 60), 1, Member(loss=build_loss("ccc-regression"), seed=1, learning_rate=3e-2, epochs=20)
    )
    (found,) = train_stack(features, ratings, [whole], config)
    assert found.scale is not None
    np.testing.assert_allclose(found.scale.mean, ratings[:40].mean(0))
    np.testing.assert_allclose(found.scale.deviation, ratings[:40].std(0))
    assert abs(found.predictions[0, -1].mean(0)[1] - ratings[40:, 1].mean()) < 5
    assert found.dev_scores[0, -1] > found.dev_scores[0, 0]
    expected = [concordance_correlation(found.predictions[0, -1, :, k], ratings[40:, k]) for k in range(2)]
    assert found.dev_scores[0, -1] == pytest.approx(np.mean(expected))
    changed = ratings.copy()
    changed[40:] *= -100
    (after,) = train_stack(features, changed, [whole], config)
    for name, value in found.states[0].items():
        assert torch.equal(value, after.states[0][name])
    moved = ratings * [10.0, 0.01] + 7
    (other,) = train_stack(features, moved, [whole], config)
    np.testing.assert_allclose(other.predictions, found.predictions * [10.0, 0.01] + 7, rtol=1e-3)
    np.testing.assert_allclose(other.dev_scores, found.dev_scores, atol=1e-5)


def test_a_dimension_that_never_varies_stays_where_it_is(store: Store) -> None:
    features, _ = features_of(store, "utterance")
    ratings = rate(store)
    ratings[:40, 0] = 3.5
    whole = group(
        range(40), range(40, 60), 1, Member(loss=build_loss("ccc-regression"), seed=1, learning_rate=3e-2, epochs=2)
    )
    config = TrainingConfig(head=resolve_head("linear"), classes=2, epochs=2, batch_size=8)
    (found,) = train_stack(features, ratings, [whole], config)
    assert np.isfinite(found.predictions).all()
    assert np.isfinite(found.dev_scores).all()


def test_patience_is_for_heads_that_are_validated(store: Store) -> None:
    features, targets = features_of(store, "utterance")
    whole = group(range(40), range(0), 1, Member(loss=build_loss("ce"), seed=1, learning_rate=1e-2, epochs=6))
    config = TrainingConfig(head=resolve_head("linear"), classes=3, epochs=6, batch_size=8)
    (expected,) = train_stack(features, targets, [whole], config)
    (found,) = train_stack(features, targets, [whole], replace(config, patience=2))
    np.testing.assert_array_equal(found.losses, expected.losses)


def test_finished_heads_stop_costing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    features, targets = features_of(store, "utterance")
    trained: list[int] = []
    forward = HEADS.load("linear").forward

    def counting(self: Head, inputs: HeadInputs) -> torch.Tensor:
        if self.training:
            trained.append(self.shape.groups * self.shape.members)
        return forward(self, inputs)

    monkeypatch.setattr(HEADS.load("linear"), "forward", counting)
    members = [Member(loss=build_loss("ce"), seed=1, learning_rate=1e-3, epochs=epochs) for epochs in (1, 1, 2, 8)]
    groups = [group(range(40), range(0), seed, *members) for seed in range(3)]
    config = TrainingConfig(head=resolve_head("linear"), classes=3, epochs=8, batch_size=8)
    train_stack(features, targets, groups, config)
    assert trained == [12] * 5 + [6] * 5 + [3] * 30


@pytest.mark.parametrize("head", ["attentive", "lstm"])
def test_a_head_on_frames_does_not_depend_on_its_stack(store: Store, head: str) -> None:
    features, targets = features_of(store, "frame")
    config = TrainingConfig(head=resolve_head(head), classes=3, epochs=2, batch_size=16)
    members = tuple(
        Member(loss=build_loss("ce"), seed=seed, learning_rate=rate, epochs=2) for seed, rate in ((1, 1e-3), (2, 1e-2))
    )
    whole = group(range(40), range(40, 60), 3, *members)
    (together,) = train_stack(features, targets, [whole], config, keep_best=True)
    for place, member in enumerate(members):
        (alone,) = train_stack(features, targets, [replace(whole, members=(member,))], config, keep_best=True)
        assert_same(alone, together, places=[place])


def test_a_member_may_decay_its_own_way(store: Store) -> None:
    features, targets = features_of(store, "utterance")
    config = TrainingConfig(head=resolve_head("linear"), classes=3, epochs=4, batch_size=8)
    members = [
        Member(loss=build_loss("ce"), seed=1, learning_rate=1e-2, epochs=4, weight_decay=decay)
        for decay in (0.0, 0.5, 2.0)
    ]
    (found,) = train_stack(features, targets, [group(range(40), range(40, 60), 1, *members)], config)
    norms = [float(state["classifier.weight"].norm()) for state in found.states]
    assert norms[2] < norms[1] < norms[0]


def test_every_head_is_tested_for_independence() -> None:
    assert {"linear", "superb", "mlp", "attentive", "lstm", "cnn"} == {
        name for name in HEADS if not resolve_head(name).cls.fitted
    }


def test_the_best_epoch_is_kept(store: Store) -> None:
    features, targets = features_of(store, "utterance")
    config = TrainingConfig(head=resolve_head("linear"), classes=3, epochs=6, batch_size=8)
    whole = group(range(40), range(40, 60), 1, Member(loss=build_loss("ce"), seed=1, learning_rate=3e-3, epochs=6))
    (best,) = train_stack(features, targets, [whole], config, keep_best=True)
    epoch = int(np.argmax(best.dev_scores[0]))
    shorter = replace(whole, members=(Member(loss=build_loss("ce"), seed=1, learning_rate=3e-3, epochs=epoch + 1),))
    (stopped,) = train_stack(features, targets, [shorter], config)
    for name, value in best.states[0].items():
        torch.testing.assert_close(value, stopped.states[0][name])


def test_what_lies_outside_the_training_side_changes_nothing(store: Store) -> None:
    features, targets = features_of(store, "utterance")
    assert isinstance(features, UtteranceFeatures)
    config = TrainingConfig(head=resolve_head("linear"), classes=3, epochs=3, batch_size=8)
    whole = group(range(40), range(40, 50), 1, Member(loss=build_loss("ce"), seed=1, learning_rate=3e-3, epochs=3))
    (before,) = train_stack(features, targets, [whole], config)
    features.values[40:] *= 100
    changed = targets.copy()
    changed[40:] = 0
    (after,) = train_stack(features, changed, [whole], config)
    for name, value in before.states[0].items():
        assert torch.equal(value, after.states[0][name])


def test_statistics_of_utterances_are_those_of_numpy(store: Store) -> None:
    features, _ = features_of(store, "utterance")
    index = np.array([3, 4, 20, 41])
    standardiser = features.moments(index)
    values = store.mean(layer="all")[index].astype(np.float64)
    np.testing.assert_allclose(standardiser.mean, values.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(standardiser.scale, 1 / values.std(0), rtol=1e-4)


def test_statistics_of_frames_are_those_of_all_frames_together(store: Store) -> None:
    features, _ = features_of(store, "frame")
    index = np.array([3, 4, 20, 41])
    standardiser = features.moments(index)
    frames = np.concatenate([store.frames(int(row)) for row in index]).astype(np.float64)
    np.testing.assert_allclose(standardiser.mean, frames.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(standardiser.scale, 1 / frames.std(0), rtol=1e-4)


def test_a_dimension_that_never_varies_is_only_centred() -> None:
    values = np.ones((4, 1, 2), dtype=np.float32) * np.array([5.0, 0.0], dtype=np.float32)
    standardiser = UtteranceFeatures(values).moments(np.arange(4))
    assert torch.equal(standardiser.scale, torch.ones(1, 2))


def test_gathered_frames_are_padded_with_zeros(store: Store) -> None:
    features, _ = features_of(store, "frame")
    assert isinstance(features, FrameFeatures)
    index = np.array([[0, 7, 9]])
    standardiser = features.moments(np.arange(20))
    gathered = features.gather(index, Standardiser.stack([standardiser], features.device))
    assert gathered.lengths is not None
    for place, row in enumerate(index[0]):
        length = int(gathered.lengths[0, place])
        expected = (torch.tensor(store.frames(int(row))) - standardiser.mean) * standardiser.scale
        torch.testing.assert_close(gathered.values[0, place, :length], expected, rtol=1e-5, atol=1e-5)
        assert not gathered.values[0, place, length:].any()


@pytest.mark.parametrize("level", ["utterance", "frame"])
@pytest.mark.parametrize("layer", [None, 0, 1])
def test_every_speaker_is_normalised_by_all_their_own_vectors(store: Store, level: str, layer: int | None) -> None:
    data = define_task(StoreSource(store))
    features = StoreSource(store).features(data.rows, level, layer=layer)
    features.normalise_by(data.speakers)
    kept = slice(None) if layer is None else slice(layer, layer + 1)
    vectors = [
        (store.frames(row) if level == "frame" else store.mean(layer="all")[row][None])[:, kept].astype(np.float64)
        for row in range(len(store))
    ]
    expected = []
    for row, speaker in enumerate(store.speakers):
        own = np.concatenate([vectors[other] for other in np.flatnonzero(store.speakers == speaker)])
        expected.append((vectors[row] - own.mean(0)) / own.std(0))
    index = np.array([3, 30, 41])
    standardiser = features.moments(index)
    chosen = np.concatenate([expected[row] for row in index])
    np.testing.assert_allclose(standardiser.mean, chosen.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(standardiser.scale, 1 / chosen.std(0), rtol=1e-4)
    gathered = features.gather(index[None], Standardiser.stack([standardiser], features.device)).values[0]
    for place, row in enumerate(index):
        wanted = (expected[row] - chosen.mean(0)) / chosen.std(0)
        found = gathered[place] if level == "frame" else gathered[place][None]
        np.testing.assert_allclose(found[: len(wanted)], wanted, rtol=1e-3, atol=1e-4)
        assert not found[len(wanted) :].any()


@pytest.mark.parametrize("by_speaker", [False, True])
@pytest.mark.parametrize("layer", [None, 1])
@pytest.mark.parametrize(("head", "level"), [("linear", "utterance"), ("attentive", "frame"), ("lstm", "frame")])
def test_what_stays_on_disk_trains_the_same_heads(
    store: Store, head: str, level: str, layer: int | None, by_speaker: bool
) -> None:
    data = define_task(StoreSource(store), where=["label!=nothing"])
    whole = group(range(40), range(40, 60), 1, Member(loss=build_loss("ce"), seed=1, learning_rate=3e-3, epochs=2))
    results = []
    for memory in (None, 0.0):
        features = StoreSource(store).features(data.rows, level, layer=layer, memory_gb=memory)
        if by_speaker:
            features.normalise_by(data.speakers)
        config = TrainingConfig(head=resolve_head(head), classes=3, epochs=2, batch_size=8)
        (result,) = train_stack(features_for(config, features), data.targets, [whole], config)
        results.append(result)
    assert isinstance(features, StreamedFeatures if level == "utterance" else FrameFeatures)
    for name, value in results[0].states[0].items():
        assert torch.equal(value, results[1].states[0][name])
    assert np.array_equal(results[0].predictions, results[1].predictions)


@pytest.mark.parametrize("by_speaker", [False, True])
@pytest.mark.parametrize("run", [2, 3, 50])
def test_frames_averaged_beforehand_train_the_same_heads(store: Store, by_speaker: bool, run: int) -> None:
    data = define_task(StoreSource(store))
    features = StoreSource(store).features(data.rows, "frame")
    if by_speaker:
        features.normalise_by(data.speakers)
    config = TrainingConfig(head=resolve_head(f"lstm:subsampling={run}"), classes=3, epochs=3, batch_size=8)
    whole = group(range(40), range(40, 60), 1, Member(loss=build_loss("ce"), seed=1, learning_rate=3e-3, epochs=3))
    averaged = features_for(config, features)
    standardiser = Standardiser.stack([features.moments(np.arange(40))], features.device)
    lengths = averaged.gather(np.array([[3, 4]]), standardiser).lengths
    assert lengths is not None
    assert lengths[0].tolist() == [-(-len(store.frames(int(data.rows[row]))) // run) for row in (3, 4)]
    (one,), (other,) = (train_stack(read, data.targets, [whole], config) for read in (features, averaged))
    for name, value in one.states[0].items():
        torch.testing.assert_close(value, other.states[0][name], rtol=1e-3, atol=1e-5)


def test_a_single_layer_is_read_as_it_is(store: Store) -> None:
    data = define_task(StoreSource(store))
    features = StoreSource(store).features(data.rows, "utterance", layer=1)
    assert isinstance(features, UtteranceFeatures)
    assert np.array_equal(features.values[:, 0], store.mean(layer=1)[data.rows])


def test_a_speaker_with_one_utterance_becomes_zero() -> None:
    features = UtteranceFeatures(np.random.default_rng(0).normal(size=(5, 1, 3)).astype(np.float32))
    features.normalise_by(np.array(["a", "a", "b", "a", "a"]))
    assert not features.values[2].any()
    assert features.values[0].any()
