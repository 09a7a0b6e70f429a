"""What finished heads say of utterances: class probabilities, or ratings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from embedkit.heads import ResolvedHead
from embedkit.heads.stack import load_states
from embedkit.losses.base import Loss
from embedkit.training.data.features import Features, Standardiser
from embedkit.training.data.folds import Indices
from embedkit.training.data.targets import Scale
from embedkit.training.stacks.stack import State, TrainingConfig, build_head, features_for, score_utterances


def score_heads(
    features: Features,
    heads: Sequence[ResolvedHead],
    loss: Loss,
    states: Sequence[State],
    standardiser: Standardiser,
    index: Indices,
    config: TrainingConfig,
    *,
    scale: Scale | None = None,
) -> NDArray[np.float64]:
    """Return class probabilities `[heads, n, classes]` of finished heads that may differ in their settings.

    Heads of dimensions give ratings in their own unit, `[heads, n, dimensions]`.

    Args:
        heads, states: The settings and the weights of each.
        loss: What they were trained under.
        standardiser: Of the training set they share, and of all that any of them reads.
        index: The utterances.
        config: Number of classes (and of ratings learned beside them), or of dimensions.
        scale: By what ratings were standardised; None for classes.
    """
    found = np.empty((len(states), len(index), config.classes - len(loss.ratings)))
    for head in dict.fromkeys(heads):
        places = [place for place, name in enumerate(heads) if name == head]
        own = [states[place] for place in places]
        found[places] = score_states(features, own, loss, standardiser, index, replace(config, head=head), scale=scale)
    return found


def score_states(
    features: Features,
    states: Sequence[State],
    loss: Loss,
    standardiser: Standardiser,
    index: Indices,
    config: TrainingConfig,
    *,
    scale: Scale | None = None,
) -> NDArray[np.float64]:
    """Return what `score_heads` does, `[heads, n, outputs]`, for finished heads of these settings."""
    features = features_for(config, features)
    head = build_head(config, [[0] * len(states)], features, [[loss.classifier] * len(states)])
    load_states(head, [list(states)])
    stacked = Standardiser.stack([standardiser.first(features.dimensions)], features.device)
    scores = score_utterances(features, head, stacked, index[None])[0].double()
    if scale is not None and not loss.ratings:
        return scale.restore(scores.numpy())
    probabilities: NDArray[np.float64] = loss.probabilities(scores).numpy()
    return probabilities
