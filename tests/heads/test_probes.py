"""Probes: what scikit-learn fitted and what is kept of it say the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.neighbors import KNeighborsClassifier
from torch import Generator

from embedkit.errors import ConfigError
from embedkit.heads import expand_head, resolve_head
from embedkit.heads.base import HeadInputs, HeadShape
from embedkit.heads.probes import LinearProbe, Probe
from embedkit.heads.stack import load_states

LINEAR = ("logreg", "lda", "svm")
PROBES = (*LINEAR, "knn")


def data(classes: int, seed: int = 0, count: int = 60) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    targets = np.arange(count) % classes
    return (rng.normal(size=(count, 5)) + 1.5 * np.eye(classes, 5)[targets]).astype(np.float32).astype(float), targets


def ask(spec: str, states: list[dict[str, Any]], values: NDArray[np.float64], classes: int) -> NDArray[np.float64]:
    """Return the scores `[members, utterances, classes]` of a stack of kept heads."""
    found = resolve_head(spec)
    shape = HeadShape(groups=1, members=len(states), layers=1, dimensions=values.shape[1], classes=classes)
    head = found.cls(shape, found.options, [Generator() for _ in states]).eval()
    kept = [{name: torch.tensor(part, dtype=torch.float32) for name, part in state.items()} for state in states]
    load_states(head, [kept])
    return head(HeadInputs(values=torch.tensor(values, dtype=torch.float32)[None, :, None]))[0].detach().numpy()


def fit(spec: str, values: NDArray[np.float64], targets: NDArray[np.int64], classes: int) -> dict[str, Any]:
    found = resolve_head(spec)
    assert issubclass(found.cls, Probe)
    return found.cls.fit(values, targets, classes, found.options)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("spec", LINEAR)
def test_linear_probes_say_what_scikit_learn_says(spec: str, classes: int) -> None:
    values, targets = data(classes)
    asked, _ = data(classes, seed=1)
    scores = ask(spec, [fit(spec, values, targets, classes)], asked, classes)[0]
    found = resolve_head(spec)
    assert issubclass(found.cls, LinearProbe)
    estimator = found.cls.estimator(found.options).fit(values, targets)
    assert scores.argmax(-1).tolist() == estimator.predict(asked).tolist()
    if spec != "svm":
        shares = torch.tensor(scores).softmax(-1).numpy()
        assert shares == pytest.approx(estimator.predict_proba(asked), abs=1e-5)


@pytest.mark.parametrize("k", [1, 4, 15])
def test_neighbours_vote_as_those_of_scikit_learn(k: int) -> None:
    values, targets = data(3)
    asked, _ = data(3, seed=1)
    scores = ask(f"knn:k={k}", [fit(f"knn:k={k}", values, targets, 3)], asked, 3)[0]
    estimator = KNeighborsClassifier(k).fit(values, targets)
    assert np.exp(scores) - 1 == pytest.approx(k * estimator.predict_proba(asked), abs=1e-4)
    assert scores.argmax(-1).tolist() == estimator.predict(asked).tolist()


def test_neighbours_of_training_sets_of_different_size_share_a_stack() -> None:
    values, targets = data(3)
    asked, _ = data(3, seed=1)
    states = [fit("knn:k=5", values[:count], targets[:count], 3) for count in (60, 4, 31)]
    together = ask("knn:k=5", states, asked, 3)
    for place, state in enumerate(states):
        assert together[place] == pytest.approx(ask("knn:k=5", [state], asked, 3)[0], abs=1e-6)


@pytest.mark.parametrize("spec", PROBES)
def test_a_class_that_is_not_trained_is_never_said(spec: str) -> None:
    values, targets = data(2)
    shifted = np.where(targets == 1, 3, 0)
    scores = ask(spec, [fit(spec, values, shifted, 4)], values, 4)[0]
    assert set(scores.argmax(-1).tolist()) == {0, 3}
    assert np.isfinite(scores).all()


def test_what_a_probe_searches_by_itself_can_be_named() -> None:
    assert expand_head("logreg") == [f"logreg:C={value}" for value in ("0.01", "0.1", "1", "10")]
    assert expand_head("logreg:C=3") == ["logreg:C=3"]
    assert expand_head("knn:k=1/2,pool=mean+std") == ["knn:k=1,pool=mean+std", "knn:k=2,pool=mean+std"]


@pytest.mark.parametrize("spec", ["logreg:C=0", "svm:C=-1", "lda:shrinkage=2", "knn:k=0"])
def test_settings_that_cannot_be_used_are_told(spec: str) -> None:
    with pytest.raises(ConfigError, match=r"The head '[a-z]+': .* is .*, expected"):
        resolve_head(spec)
