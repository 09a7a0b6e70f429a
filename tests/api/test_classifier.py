"""HeadClassifier keeps scikit-learn's promises and trains as fit does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import embedkit
from embedkit.api.classifier import HeadClassifier
from embedkit.errors import ConfigError, EmbedkitError, FitError, UnknownNameError
from embedkit.heads import resolve_head
from embedkit.losses import build_loss
from embedkit.training.data.features import UtteranceFeatures
from embedkit.training.stacks.scoring import score_states
from embedkit.training.stacks.stack import Group, Member, TrainingConfig, train_stack
from tests.training.stores import write_synthetic_store


@parametrize_with_checks([HeadClassifier()])
def test_scikit_learns_checks(estimator: HeadClassifier, check: Any) -> None:
    check(estimator)


@pytest.mark.heavy
@parametrize_with_checks([HeadClassifier("mlp:hidden=16", "label-smoothing", random_state=1)])
def test_scikit_learns_checks_of_settings(estimator: HeadClassifier, check: Any) -> None:
    check(estimator)


@pytest.fixture
def data(tmp_path: Path) -> tuple[Any, Any, Any]:
    store = write_synthetic_store(tmp_path / "tiny.h5", noise=2.0)
    return store.mean(layer="all"), store.labels, store.speakers


@pytest.mark.parametrize(("head", "loss"), [("linear", "focal:gamma=1.5"), ("mlp:hidden=8", "ce"), ("superb", "ccc")])
def test_it_is_the_trainer_of_a_study(data: tuple[Any, Any, Any], head: str, loss: str) -> None:
    X, y, _ = data
    found = HeadClassifier(head, loss, epochs=4, batch_size=8, random_state=3).fit(X, y)
    classes, targets = np.unique(y, return_inverse=True)
    everything = np.arange(len(X))
    config = TrainingConfig(head=resolve_head(head), classes=len(classes), epochs=4, batch_size=8)
    features = UtteranceFeatures(X)
    member = Member(loss=build_loss(loss), seed=3, learning_rate=3e-3, epochs=4)
    group = Group(train=everything, validate=everything[:0], seed=3, members=(member,))
    (result,) = train_stack(features, targets, [group], config)
    expected = score_states(features, result.states, build_loss(loss), result.standardiser, everything, config)[0]
    np.testing.assert_allclose(found.predict_proba(X), expected, atol=1e-5)
    assert found.predict(X).tolist() == classes[found.predict_proba(X).argmax(1)].tolist()


def test_layers_can_be_given_flat(data: tuple[Any, Any, Any]) -> None:
    X, y, _ = data
    deep = HeadClassifier(epochs=3).fit(X, y)
    flat = HeadClassifier(epochs=3, n_layers=2).fit(X.reshape(len(X), -1), y)
    single = HeadClassifier(epochs=3).fit(X.reshape(len(X), -1), y)
    np.testing.assert_array_equal(deep.predict_proba(X), flat.predict_proba(X.reshape(len(X), -1)))
    assert (deep.n_layers_, flat.n_layers_, single.n_layers_) == (2, 2, 1)
    assert deep.n_features_in_ == single.n_features_in_ == 12


def test_statistics_are_those_of_the_training_data(data: tuple[Any, Any, Any]) -> None:
    X, y, _ = data
    plain = HeadClassifier(epochs=5).fit(X, y)
    moved = HeadClassifier(epochs=5).fit(1000 * X + 50, y)
    np.testing.assert_allclose(moved.predict_proba(1000 * X + 50), plain.predict_proba(X), atol=1e-3)
    together, alone = plain.predict_proba(X), plain.predict_proba(X[:1])
    np.testing.assert_allclose(together[:1], alone, rtol=1e-9)


def test_pipelines_searches_and_cross_validation(data: tuple[Any, Any, Any]) -> None:
    X, y, speakers = data
    options: dict[str, Any] = {"epochs": 10, "batch_size": 8, "learning_rate": 2e-2}
    folds = GroupKFold(4)
    scores = cross_val_score(HeadClassifier(**options), X, y, groups=speakers, cv=folds, scoring="balanced_accuracy")
    assert scores.mean() > 0.8
    pipeline = make_pipeline(PCA(6, random_state=0), HeadClassifier(**options))
    assert cross_val_score(pipeline, X.reshape(len(X), -1), y, groups=speakers, cv=folds).mean() > 0.6
    search = GridSearchCV(HeadClassifier(**options), {"learning_rate": [1e-7, 2e-2]}, cv=2).fit(X, y)
    assert search.best_params_ == {"learning_rate": 2e-2}


def test_seeds(data: tuple[Any, Any, Any]) -> None:
    X, y, _ = data

    def weights(random_state: Any) -> Any:
        return HeadClassifier("mlp:hidden=4", epochs=2, random_state=random_state).fit(X, y).predict_proba(X)

    np.testing.assert_array_equal(weights(1), weights(1))
    assert np.abs(weights(1) - weights(2)).max() > 1e-4
    np.testing.assert_array_equal(weights(np.random.RandomState(5)), weights(np.random.RandomState(5)))
    assert clone(HeadClassifier(loss="focal", n_layers=2)).get_params()["n_layers"] == 2


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"head": "lstm"}, FitError, "reads frames"),
        ({"head": "liner"}, UnknownNameError, "Did you mean 'linear'"),
        ({"loss": "focal:gama=1"}, ConfigError, "Did you mean 'gamma'"),
        ({"n_layers": 5}, FitError, "X has 2 layers, but n_layers is 5"),
        ({"epochs": 0}, FitError, "epochs is 0"),
        ({"learning_rate": 0.0}, FitError, "above zero"),
        ({"weight_decay": -1.0}, FitError, "weight_decay is -1.0"),
        ({"loss": "soft-ce"}, FitError, "learns votes of annotators, but HeadClassifier is given classes"),
    ],
)
def test_what_cannot_be_done_is_told(
    data: tuple[Any, Any, Any], options: dict[str, Any], error: type[EmbedkitError], sentence: str
) -> None:
    with pytest.raises(error, match=sentence) as caught:
        HeadClassifier(**options).fit(data[0], data[1])
    assert isinstance(caught.value, ValueError | LookupError)


def test_other_layers_are_refused(data: tuple[Any, Any, Any]) -> None:
    X, y, _ = data
    with pytest.raises(FitError, match="fitted on 2"):
        embedkit.HeadClassifier(epochs=1).fit(X, y).predict(X.reshape(len(X), 3, 4))
