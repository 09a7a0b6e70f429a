"""Class probabilities of finished heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from embedkit.heads.stack import load_states
from embedkit.losses import build_loss
from embedkit.training.features import Features, Standardiser
from embedkit.training.folds import Indices
from embedkit.training.stack import Recipe, State, build_head, score_utterances


def score_heads(
    features: Features,
    heads: Sequence[str],
    loss: str,
    states: Sequence[State],
    standardiser: Standardiser,
    index: Indices,
    recipe: Recipe,
) -> NDArray[np.float64]:
    """Return class probabilities `[heads, n, classes]` of finished heads that may differ in their settings.

    Args:
        heads, states: The settings and the weights of each.
        loss: What they were trained under.
        standardiser: Of the training side they share.
        index: The utterances.
        recipe: Number of classes.
    """
    probabilities = np.empty((len(states), len(index), recipe.classes))
    for head in dict.fromkeys(heads):
        places = [place for place, name in enumerate(heads) if name == head]
        own = [states[place] for place in places]
        probabilities[places] = score_states(features, own, loss, standardiser, index, replace(recipe, head=head))
    return probabilities


def score_states(
    features: Features, states: Sequence[State], loss: str, standardiser: Standardiser, index: Indices, recipe: Recipe
) -> NDArray[np.float64]:
    """Return class probabilities `[heads, n, classes]` of finished heads of the recipe's settings."""
    built = build_loss(loss)
    head = build_head(recipe, [[0] * len(states)], features, built.classifier)
    load_states(head, [list(states)])
    stacked = Standardiser.stack([standardiser], features.device)
    scores = score_utterances(features, head, stacked, index[None])
    probabilities: NDArray[np.float64] = built.probabilities(scores[0].double()).numpy()
    return probabilities
