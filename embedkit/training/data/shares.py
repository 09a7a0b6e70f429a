"""Train on a share of the speakers of every fold: learning curves over how many there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from embedkit.errors import FitError
from embedkit.training.data.dealing import Balance, Indices, Names
from embedkit.training.data.folds import (
    DEALT,
    Fold,
    FoldPlan,
    choose_validations,
    require_classes,
    take_validations,
)
from embedkit.wording import count_noun

FEWEST_SPEAKERS = 2
"""One is held out to choose on while another is trained on."""


def thin_plan(
    plan: FoldPlan, share: float, speakers: Names, labels: Names | None, balance: Balance, *, hold_out: bool
) -> FoldPlan:
    """Keep a share of the training speakers of every fold, and its test set as it is.

    Inner folds are dealt anew among those kept; a given development part stays. Of several shares the smaller ones are
    part of the larger ones.

    Args:
        plan: The folds on all speakers.
        share: Above 0, up to 1; more speakers are kept where they would be fewer than two, or lack a class.
        speakers, labels: Of every utterance, `[utterances]`; labels None where there are no classes.
        balance: What the speakers kept hold equal shares of.
        hold_out: Choose on one development group instead of inner folds.

    Raises:
        FitError: an unknown speaker, fewer than two, or a single class on a training set.
    """
    folds, told = [], set()
    for fold in plan.folds:
        kept = _keep(fold, share, speakers, labels, balance)
        if not fold.refit:
            pairs = tuple((train[np.isin(train, kept)], validate) for train, validate in fold.validations)
            folds.append(replace(fold, train=kept, validations=pairs))
            continue
        found = choose_validations(fold.name, kept, speakers, balance)
        pairs, selection = take_validations(found, hold_out=hold_out)
        told.add(selection)
        folds.append(replace(fold, train=kept, validations=pairs))
    if labels is not None:
        require_classes(folds, labels)
    selection = "; ".join(sorted(told)) or plan.selection
    return replace(plan, folds=tuple(folds), selection=selection, dealt_inside=DEALT in selection)


def count_speakers(folds: Sequence[Fold], speakers: Names) -> list[int]:
    """Return how many known speakers each fold trains on, by the speaker of every utterance `[utterances]`."""
    return [len(np.unique(own[own != ""])) for own in (speakers[fold.train] for fold in folds)]


def note_raised(share: float, kept: Sequence[int], whole: Sequence[int]) -> list[str]:
    """Say where more speakers are trained on than a share of them."""
    raised = [(own, share * every) for own, every in zip(kept, whole, strict=True) if own > _count(share, every)]
    if not raised:
        return []
    most, few = max(raised)
    return [
        f"With --train-share {share:g}, {len(raised)} of {count_noun(len(kept), 'fold')} train on more speakers than "
        f"that ({most} instead of {few:.1f}): fewer lack a class, or leave nobody to choose on."
    ]


def _count(share: float, speakers: int) -> int:
    return int(share * speakers + 0.5)


def _keep(fold: Fold, share: float, speakers: Names, labels: Names | None, balance: Balance) -> Indices:
    """Return the utterances of as many speakers of a fold's training set as its share and its classes ask for."""
    own = speakers[fold.train]
    if np.any(own == ""):
        raise FitError(
            f"A share of the training speakers needs the speaker of every utterance, found {np.sum(own == '')} of "
            f"{len(own)} without; add the column to the corpus, leave them out with --where, or leave out "
            "--train-share."
        )
    order = _order(fold.train, own, balance)
    count = max(_count(share, len(order)), FEWEST_SPEAKERS)
    if labels is not None:
        ranks = np.argsort(order)[np.searchsorted(np.sort(order), own)]
        found = labels[fold.train]
        count = max(count, *(int(ranks[found == label].min()) + 1 for label in np.unique(found)))
    return fold.train[np.isin(own, order[:count])]


def _order(index: Indices, speakers: Names, balance: Balance) -> list[str]:
    """Order speakers so that the first ones, however many, hold shares of every trait that are as equal as can be.

    Each next one brings what those before it hold closest to their share of the speakers; of equal ones that with the
    smallest digest of its audio comes first.
    """
    names, owners = np.unique(speakers, return_inverse=True)
    loads = np.zeros((len(names), balance.traits.shape[1]))
    np.add.at(loads, owners, balance.traits[index])
    shares = loads / np.maximum(loads.sum(0), 1.0)
    first = [min(balance.digests[index[owners == place]].tolist()) for place in range(len(names))]
    left = sorted(range(len(names)), key=lambda place: (first[place], place))
    held, order = np.zeros(shares.shape[1]), []
    for count in range(1, len(names) + 1):
        distances = ((held + shares[left] - count / len(names)) ** 2).sum(1)
        order.append(left.pop(int(np.argmin(np.round(distances, 9)))))
        held += shares[order[-1]]
    return [str(names[place]) for place in order]
