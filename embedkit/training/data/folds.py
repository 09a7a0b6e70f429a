"""Outer folds that keep speakers apart, and the inner folds on which everything is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from embedkit.errors import FitError
from embedkit.training.data.dealing import Balance
from embedkit.training.data.dealing import Indices as Indices
from embedkit.training.data.dealing import Names as Names

MOST_SPEAKER_FOLDS, SPEAKER_FOLDS = 24, 10
"""More speakers than this are dealt into ten folds: one fold a speaker would cost more than it tells."""

DEALT = "dealt by weight"

CROSSED_SPEAKERS, CROSSED_VALUES = 5, 4
"""Groups of speakers, and of texts, that are crossed: 20 folds, each trained on 3/5 of the utterances or so."""

CROSSED = "speaker+"

INNER_FOLDS = 4
ONE_GROUP = "one development group (the next in sorted order), then refit"
ONE_SPEAKER_GROUP = "one group of speakers held out for development, then refit"
RANDOM_FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class Fold:
    """One test set, what may be trained on, and how the choices are made inside it.

    Attributes:
        name: What is held out ("08", "Ses01", "test", "random-1").
        train, test: Utterance indices, sorted; disjoint.
        validations: Pairs (train, validate) inside `train` on which learning rate and epoch are chosen.
        refit: Whether the head is trained again on all of `train` after the choice.
    """

    name: str
    train: Indices
    test: Indices
    validations: tuple[tuple[Indices, Indices], ...]
    refit: bool


@dataclass(frozen=True, kw_only=True)
class FoldPlan:
    """All folds of a study, with what a table must say about them.

    Attributes:
        kind: What the user asked for: "session", "speaker", "split", "random" or a column.
        selection: How learning rate and epoch were chosen, in words.
        speaker_dependent: True where a speaker is in the training and test sets of some fold.
        dealt, dealt_inside: Whether folds, or inner folds, are of more groups that were dealt by weight; of the latter
            only where groups in the order of their names would lie in others.
    """

    kind: str
    folds: tuple[Fold, ...]
    selection: str
    speaker_dependent: bool
    dealt: bool = False
    dealt_inside: bool = False


def plan_folds(
    kind: str,
    *,
    labels: Names | None,
    speakers: Names,
    groups: Names | None = None,
    splits: Names | None = None,
    hold_out: bool,
    balance: Balance | None = None,
) -> FoldPlan:
    """Divide utterances into folds by what is known of them, `[utterances]` each.

    More groups than folds are dealt: see `Balance`.

    Args:
        kind: "speaker", "split", "random", the name of the column that `groups` holds, or "speaker+" and that name
            for test sets of which neither the speakers nor the column's values are on the training set.
        labels: One per utterance, each in every random fold and two on every training set; None for no classes.
        speakers: One per utterance; a speaker may be empty (unknown) in random folds only.
        groups: The fold column (sessions, texts, ...), one per utterance; needed for other kinds.
        splits: "train", "dev", "test" per utterance; needed for "split".
        hold_out: Choose on one development group (the next in order) instead of inner folds.
        balance: What the folds shall hold equal shares of; None for utterances and labels.

    Raises:
        FitError: not enough groups or speakers, a missing split, or one class only on a training set.
    """
    balance = balance or Balance.measure(len(speakers), [labels])
    dealt = False
    if kind == "split":
        folds, selection = _given_split(splits, speakers, balance, hold_out=hold_out)
    elif kind.startswith(CROSSED):
        assert groups is not None
        folds, selection, dealt = _cross(kind.removeprefix(CROSSED), speakers, groups, balance, hold_out=hold_out)
    else:
        units = _units(kind, np.full(len(speakers), "") if labels is None else labels, speakers, groups)
        names = [str(name) for name in np.unique(units)]
        if len(names) < 2:
            raise FitError(
                f"Folds by {kind} need at least two groups, found {len(names)} ({', '.join(names) or 'none'}); "
                "choose other folds with --folds (speaker, session, split, random or a column)."
            )
        dealt = kind == "speaker" and len(names) > MOST_SPEAKER_FOLDS
        if dealt:
            units, names = _deal(units, SPEAKER_FOLDS, balance)
        if hold_out:
            folds, selection = _hold_out(names, units, speakers, balance)
        else:
            folds, selection = _rotate(names, units, speakers if dealt else _join(speakers, units), balance)
    if labels is not None:
        require_classes(folds, labels)
    return FoldPlan(
        kind=kind,
        folds=tuple(folds),
        selection=selection,
        speaker_dependent=_share_speakers(folds, speakers),
        dealt=dealt,
        dealt_inside=DEALT in selection,
    )


def _units(kind: str, labels: Names, speakers: Names, groups: Names | None) -> Names:
    if kind == "random":
        return _random_units(labels)
    if kind == "speaker":
        _require_known(speakers, "speaker")
        return speakers
    assert groups is not None
    _require_known(groups, kind)
    return groups


def _require_known(values: Names, column: str) -> None:
    unknown = int(np.sum(values == ""))
    if unknown:
        raise FitError(
            f"Folds by {column} need the {column} of every utterance, found {unknown} of {len(values)} without; "
            f"add the column to the corpus, leave them out with --where, or choose other folds with --folds."
        )


def _random_units(labels: Names) -> Names:
    generator = np.random.default_rng(0)
    units = np.empty(len(labels), dtype="<U16")
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        units[members] = [f"random-{1 + position % RANDOM_FOLDS}" for position in range(len(members))]
    return units


def _deal(values: Names, count: int, balance: Balance) -> tuple[Names, list[str]]:
    """Deal values `[utterances]` into at most `count` groups: the title of each one's group, and all in order.

    A group is named after the first of its values, and the number of others.
    """
    owners = balance.deal(values, count, np.arange(len(values)))
    found = [np.unique(values[owners == group]) for group in range(owners.max() + 1)]
    titles = [str(own[0]) if len(own) == 1 else f"{own[0]}+{len(own) - 1}" for own in found]
    return np.array(titles, dtype=np.str_)[owners], titles


def _join(speakers: Names, units: Names) -> Names:
    """Keep the speakers of a unit, such as the two of a session, in one inner fold where there are enough units."""
    pairs = np.unique(np.stack([speakers, units]), axis=1)
    whole = np.all(speakers != "") and pairs.shape[1] == len(np.unique(speakers))
    return units if whole and len(np.unique(units)) > INNER_FOLDS else speakers


def _rotate(names: Sequence[str], units: Names, speakers: Names, balance: Balance) -> tuple[list[Fold], str]:
    folds, searches = [], []
    for name in names:
        train, test = np.flatnonzero(units != name), np.flatnonzero(units == name)
        own = speakers if np.all(speakers[train] != "") else units
        searches.append(choose_validations(name, train, own, balance))
        folds.append(Fold(name=name, train=train, test=test, validations=searches[-1].pairs, refit=True))
    number = "-".join(sorted({str(len(search.pairs)) for search in searches}))
    return folds, describe_inner(number, any(search.dealt for search in searches))


def _cross(
    column: str, speakers: Names, values: Names, balance: Balance, *, hold_out: bool
) -> tuple[list[Fold], str, bool]:
    """Test each group of speakers on each group of values, trained on what shares neither with them."""
    for what, names in (("speaker", speakers), (column, values)):
        _require_known(names, what)
        if len(np.unique(names)) < 2:
            raise FitError(
                f"Folds by {CROSSED}{column} need at least two values in the column {what}, found "
                f"{str(names[0])!r} alone; choose other folds with --folds."
            )
    owners, own_titles = _deal(speakers, CROSSED_SPEAKERS, balance)
    parts, part_titles = _deal(values, CROSSED_VALUES, balance)
    folds, dealt_inside = [], False
    for owner in own_titles:
        for part in part_titles:
            test = np.flatnonzero((owners == owner) & (parts == part))
            if not len(test):
                continue
            name, train = f"{owner} x {part}", np.flatnonzero((owners != owner) & (parts != part))
            found = choose_validations(name, train, speakers, balance)
            validations = found.pairs[:1] if hold_out else found.pairs
            dealt_inside = dealt_inside or found.dealt
            folds.append(Fold(name=name, train=train, test=test, validations=validations, refit=True))
    dealt = len(np.unique(speakers)) > CROSSED_SPEAKERS or len(np.unique(values)) > CROSSED_VALUES
    number = f"up to {INNER_FOLDS}"
    return folds, _describe_group(dealt_inside) if hold_out else describe_inner(number, dealt_inside), dealt


@dataclass(frozen=True)
class Validations:
    """Pairs (train, validate), and whether these are others than names in their order would give."""

    pairs: tuple[tuple[Indices, Indices], ...]
    dealt: bool


def choose_validations(name: str, train: Indices, speakers: Names, balance: Balance) -> Validations:
    """Divide a training set `[n]` by speaker into up to four pairs (train, validate).

    Raises:
        FitError: fewer than two speakers.
    """
    own = speakers[train]
    found = len(np.unique(own))
    if found < 2:
        raise FitError(
            f"Choosing the learning rate needs at least two speakers on the training set, but the fold that tests "
            f"{name!r} trains on {found}; use a corpus with more speakers or folds that hold out less."
        )
    inner, by_name = balance.deal(own, INNER_FOLDS, train), _split_sorted(own, INNER_FOLDS)
    # What is no other division than that of older runs keeps their order, and with it their numbers.
    dealt = len(np.unique(np.stack([inner, by_name]), axis=1).T) > min(found, INNER_FOLDS)
    groups = inner if dealt else by_name
    return Validations(
        tuple((train[groups != group], train[groups == group]) for group in range(min(found, INNER_FOLDS))), dealt
    )


def _split_sorted(values: Names, count: int) -> Indices:
    """Divide sorted values into `count` consecutive groups of nearly equal number of values."""
    names, owners = np.unique(values, return_inverse=True)
    parts = np.array_split(np.arange(len(names)), min(count, len(names)))
    found: Indices = np.repeat(np.arange(len(parts)), [len(part) for part in parts])[owners]
    return found


def describe_inner(number: int | str, dealt: bool) -> str:
    """Say how learning rate and epoch are chosen on so many inner folds."""
    return f"{number} inner folds by speaker, {f'{DEALT}, ' if dealt else ''}pooled, then refit"


def _describe_group(dealt: bool) -> str:
    return ONE_SPEAKER_GROUP.replace(", then", f", {DEALT}, then") if dealt else ONE_SPEAKER_GROUP


def take_validations(found: Validations, *, hold_out: bool) -> tuple[tuple[tuple[Indices, Indices], ...], str]:
    """Choose on all pairs of indices `[n]`, or on the first one alone: them, and how that is told."""
    if hold_out:
        return found.pairs[:1], _describe_group(found.dealt)
    return found.pairs, describe_inner(len(found.pairs), found.dealt)


def _hold_out(names: Sequence[str], units: Names, speakers: Names, balance: Balance) -> tuple[list[Fold], str]:
    folds, selection = [], ONE_GROUP
    for position, name in enumerate(names):
        train, test = np.flatnonzero(units != name), np.flatnonzero(units == name)
        if len(names) > 2:
            validate = np.flatnonzero(units == names[(position + 1) % len(names)])
            pairs: tuple[tuple[Indices, Indices], ...] = ((np.setdiff1d(train, validate), validate),)
        else:
            pairs, selection = take_validations(choose_validations(name, train, speakers, balance), hold_out=True)
        folds.append(Fold(name=name, train=train, test=test, validations=pairs, refit=True))
    return folds, selection


def _given_split(splits: Names | None, speakers: Names, balance: Balance, *, hold_out: bool) -> tuple[list[Fold], str]:
    parts = {name: np.flatnonzero(splits == name) for name in ("train", "dev", "test")} if splits is not None else {}
    missing = [name for name in ("train", "test") if not len(parts.get(name, ()))]
    if missing:
        raise FitError(
            "Folds by split need utterances marked train and test in the column split, found none marked "
            f"{' and '.join(missing)}; add the column to the corpus or choose other folds with --folds."
        )
    if len(parts["dev"]):
        validations: tuple[tuple[Indices, Indices], ...] = ((parts["train"], parts["dev"]),)
        selection = "the given development part"
    else:
        found = choose_validations("test", parts["train"], speakers, balance)
        validations, selection = take_validations(found, hold_out=hold_out)
    refit = not len(parts["dev"])
    return [
        Fold(name="test", train=parts["train"], test=parts["test"], validations=validations, refit=refit)
    ], selection


def require_classes(folds: Sequence[Fold], labels: Names) -> None:
    """Refuse folds that train on one class, by the label of every utterance `[utterances]`.

    Raises:
        FitError: names the fold and the class.
    """
    for fold in folds:
        for train in [fold.train, *(pair[0] for pair in fold.validations)]:
            found = np.unique(labels[train])
            if len(found) < 2:
                raise FitError(
                    f"A training set of the fold that tests {fold.name!r} holds the single class "
                    f"{', '.join(found) or 'none'}; at least two are needed: check --classes, --where and --folds."
                )


def _share_speakers(folds: Sequence[Fold], speakers: Names) -> bool:
    """Tell whether a test speaker was trained or chosen on somewhere, or is unknown."""
    for fold in folds:
        own = speakers[fold.test]
        seen = np.concatenate([fold.train, *(validate for _, validate in fold.validations)])
        if np.any(own == "") or np.isin(own, speakers[seen]).any():
            return True
    return False


def default_folds(sessions: Names, speakers: Names) -> str:
    """Choose session folds where sessions `[utterances]` are known and at least two, else speaker folds."""
    return "session" if len(np.unique(sessions)) > 1 and bool(np.all(sessions != "")) else "speaker"


def describe_folds(plan: FoldPlan) -> dict[str, Any]:
    """Return what a run keeps about its folds."""
    return {
        "kind": plan.kind,
        "names": [fold.name for fold in plan.folds],
        "train": [len(fold.train) for fold in plan.folds],
        "test": [len(fold.test) for fold in plan.folds],
        "speaker_dependent": plan.speaker_dependent,
        "selection": plan.selection,
    }


def shift_fold(fold: Fold, offset: int, name: str) -> Fold:
    """Name a fold anew and move all of its indices."""
    validations = tuple((train + offset, validate + offset) for train, validate in fold.validations)
    return replace(fold, name=name, train=fold.train + offset, test=fold.test + offset, validations=validations)
