"""A scikit-learn estimator around one head, trained by the same code as a study's."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from embedkit.errors import FitError
from embedkit.heads import resolve_head
from embedkit.heads.base import HeadInputs
from embedkit.heads.stack import load_states
from embedkit.imports import take_word
from embedkit.losses import build_loss
from embedkit.losses.base import Loss
from embedkit.training.data.features import Standardiser, UtteranceFeatures
from embedkit.training.stacks.stack import Group, Member, TrainingConfig, build_head, train_stack


class HeadClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Train one head on utterance embeddings, standardised by what it is fitted on.

    Nothing is searched: `learning_rate`, `epochs` and the rest are for scikit-learn's own searches.

    Args:
        head: An utterance head, with settings ("linear", "superb", "mlp:hidden=64", "my_package.heads:MyHead").
        loss: A loss, with settings ("ce", "focal:gamma=1.5", "ce:weights=balanced").
        learning_rate: Where the learning rate starts; it falls linearly to a tenth.
        epochs: Passes over the training data.
        batch_size: Utterances in a mini-batch.
        weight_decay: Decoupled weight decay.
        random_state: Seeds the initial weights, dropout and the order of mini-batches, as a seed of `embedkit.fit`.
        n_layers: Layers in each row of a two-dimensional `X`, layer after layer; None for one.

    Attributes:
        classes_: The labels, sorted.
        n_features_in_: Numbers per utterance: layers times dimensions.
        n_layers_: Layers found.
        losses_: Mean training loss of each epoch.

    Shape:
        X: `[utterances, dimensions]`, `[utterances, layers * dimensions]` with `n_layers`, or
        `[utterances, layers, dimensions]` as `store.mean(layer="all")` gives it.
    """

    def __init__(
        self,
        head: str = "linear",
        loss: str = "ce",
        *,
        learning_rate: float = 3e-3,
        epochs: int = 30,
        batch_size: int = 32,
        weight_decay: float = 0.0,
        random_state: int | np.random.RandomState | None = 0,
        n_layers: int | None = None,
    ) -> None:
        self.head = head
        self.loss = loss
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.random_state = random_state
        self.n_layers = n_layers

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def fit(self, X: Any, y: Any) -> HeadClassifier:
        """Train the head.

        Raises:
            FitError: one class, a number that cannot be used, or a head that reads frames.
            ConfigError, UnknownNameError: a head or a loss that cannot be used.
            ValueError: scikit-learn refuses `X` or `y`.
        """
        loss = self._build_loss()
        self._check_settings(loss)
        flat, layers = _flatten(X)
        flat, y = validate_data(self, flat, y, dtype=np.float32)
        check_classification_targets(y)
        self.classes_, targets = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise FitError(f"y holds 1 class ({self.classes_[0]!r}), expected at least two classes.")
        self.n_layers_ = self._count_layers(layers)
        features = self._features(flat)
        everything = np.arange(len(flat))
        member = Member(
            loss=loss,
            seed=self._seed(),
            learning_rate=self.learning_rate,
            epochs=self.epochs,
            weight_decay=self.weight_decay,
        )
        group = Group(train=everything, validate=everything[:0], seed=member.seed, members=(member,))
        (result,) = train_stack(features, targets.astype(np.int64), [group], self._config())
        self._state, self._standardiser = result.states[0], result.standardiser
        self.losses_ = result.losses[0]
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return class probabilities `[utterances, classes]`, classes in the order of `classes_`."""
        check_is_fitted(self)
        flat, layers = _flatten(X)
        flat = validate_data(self, flat, dtype=np.float32, reset=False)
        if layers is not None and layers != self.n_layers_:
            raise FitError(f"X has {layers} layers, but the head was fitted on {self.n_layers_}; give it the same.")
        features = self._features(flat)
        index = np.arange(len(flat))
        loss = self._build_loss()
        head = build_head(self._config(), [[0]], features, [[loss.classifier]])
        load_states(head, [[self._state]])
        inputs = features.gather(index[None], Standardiser.stack([self._standardiser], features.device))
        with torch.no_grad():
            # In float64, what an utterance scores does not depend on the others in X beyond the last digits.
            scores = head.double().eval()(HeadInputs(values=inputs.values.double()))
        probabilities: NDArray[np.float64] = loss.probabilities(scores[0, 0]).numpy()
        return probabilities

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return log probabilities `[utterances, classes]`; of two classes, the log odds of the second."""
        logarithms = np.log(np.maximum(self.predict_proba(X), np.finfo(np.float64).tiny))
        odds: NDArray[np.float64] = logarithms[:, 1] - logarithms[:, 0] if len(self.classes_) == 2 else logarithms
        return odds

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable class of each utterance, `[utterances]`."""
        probabilities = self.predict_proba(X)
        labels: NDArray[Any] = self.classes_[probabilities.argmax(axis=1)]
        return labels

    def _build_loss(self) -> Loss:
        take_word(self.head, self.loss)
        return build_loss(self.loss)

    def _check_settings(self, loss: Loss) -> None:
        head = resolve_head(self.head)
        if head.cls.level != "utterance":
            raise FitError(
                f"The head {head.name!r} reads frames, but HeadClassifier trains on one vector per utterance; "
                "choose linear, superb or mlp, or train it with embedkit.fit on a store that keeps frames."
            )
        if head.cls.fitted:
            raise FitError(f"The head {head.name!r} is scikit-learn's own; take its estimator instead.")
        if head.cls.pool(head.options) != "mean":
            raise FitError(f"The head {self.head!r} names a pool, but X is pooled already; leave pool out.")
        if "classes" not in loss.tasks:
            raise FitError(
                f"The loss {self.loss!r} predicts emotional attributes, but HeadClassifier tells classes apart."
            )
        if loss.soft:
            raise FitError(
                f"The loss {self.loss!r} learns votes of annotators, but HeadClassifier is given classes; train with "
                "embedkit.fit on a store that has columns votes_<class>."
            )
        if loss.ratings:
            raise FitError(
                f"The loss {self.loss!r} learns ratings beside classes, but HeadClassifier is given classes; train "
                "with embedkit.fit on a store that has ratings."
            )
        for setting in ("epochs", "batch_size"):
            if getattr(self, setting) < 1:
                raise FitError(f"{setting} is {getattr(self, setting)}, expected at least 1.")
        if not (self.learning_rate > 0 and np.isfinite(self.learning_rate)):
            raise FitError(f"learning_rate is {self.learning_rate}, expected a number above zero.")
        if not (self.weight_decay >= 0 and np.isfinite(self.weight_decay)):
            raise FitError(f"weight_decay is {self.weight_decay}, expected zero or a number above it.")

    def _count_layers(self, found: int | None) -> int:
        layers = found or self.n_layers or 1
        if self.n_layers not in (None, layers):
            raise FitError(f"X has {found} layers, but n_layers is {self.n_layers}; leave it out for such an X.")
        if layers < 1 or self.n_features_in_ % layers:
            raise FitError(f"n_layers is {layers}, expected a divisor of the {self.n_features_in_} columns of X.")
        return layers

    def _features(self, flat: NDArray[np.float32]) -> UtteranceFeatures:
        return UtteranceFeatures(np.array(flat).reshape(len(flat), self.n_layers_, -1))

    def _config(self) -> TrainingConfig:
        return TrainingConfig(
            head=resolve_head(self.head),
            classes=len(self.classes_),
            epochs=self.epochs,
            batch_size=self.batch_size,
        )

    def _seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))


def _flatten(X: Any) -> tuple[Any, int | None]:
    """Turn `[utterances, layers, dimensions]` into two dimensions and the number of layers; leave the rest alone."""
    if getattr(X, "ndim", 2) != 3:
        return X, None
    values = np.asarray(X)
    return values.reshape(len(values), -1), values.shape[1]
