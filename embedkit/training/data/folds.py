"""Outer folds that keep speakers apart, and the inner folds on which everything is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedkit.errors import FitError

Indices = NDArray[np.int64]
Names = NDArray[np.str_]

MOST_SPEAKER_FOLDS = 24
"""More speakers than this are dealt into ten folds: one fold a speaker would cost more than it tells."""

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
    """

    kind: str
    folds: tuple[Fold, ...]
    selection: str
    speaker_dependent: bool


def plan_folds(
    kind: str,
    *,
    labels: Names | None,
    speakers: Names,
    groups: Names | None = None,
    splits: Names | None = None,
    hold_out: bool,
) -> FoldPlan:
    """Divide utterances into folds by what is known of them, `[utterances]` each.

    Args:
        kind: "speaker", "split", "random", the name of the column that `groups` holds, or "speaker+" and that name
            for test sets of which neither the speakers nor the column's values are on the training set.
        labels: One per utterance, each in every random fold and two on every training set; None for no classes.
        speakers: One per utterance; a speaker may be empty (unknown) in random folds only.
        groups: The fold column (sessions, texts, ...), one per utterance; needed for other kinds.
        splits: "train", "dev", "test" per utterance; needed for "split".
        hold_out: Choose on one development group (the next in sorted order) instead of inner folds.

    Raises:
        FitError: not enough groups or speakers, a missing split, or one class only on a training set.
    """
    if kind == "split":
        folds, selection = _given_split(splits, speakers, hold_out=hold_out)
    elif kind.startswith(CROSSED):
        assert groups is not None
        folds, selection = _cross(kind.removeprefix(CROSSED), speakers, groups, hold_out=hold_out)
    else:
        units = _units(kind, np.full(len(speakers), "") if labels is None else labels, speakers, groups)
        names = [str(name) for name in np.unique(units)]
        if len(names) < 2:
            raise FitError(
                f"Folds by {kind} need at least two groups, found {len(names)} ({', '.join(names) or 'none'}); "
                "choose other folds with --folds (speaker, session, split, random or a column)."
            )
        build = _hold_out if hold_out else _rotate
        folds, selection = build(names, units, speakers)
    if labels is not None:
        _require_classes(folds, labels)
    return FoldPlan(
        kind=kind, folds=tuple(folds), selection=selection, speaker_dependent=_share_speakers(folds, speakers)
    )


def _units(kind: str, labels: Names, speakers: Names, groups: Names | None) -> Names:
    if kind == "random":
        return _random_units(labels)
    if kind == "speaker":
        _require_known(speakers, "speaker")
        return _deal(speakers, 10) if len(np.unique(speakers)) > MOST_SPEAKER_FOLDS else speakers
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


def _deal(values: Names, count: int) -> Names:
    """Merge sorted values into `count` consecutive groups of nearly equal number of values."""
    names = np.unique(values)
    groups = np.array_split(names, min(count, len(names)))
    titles = [str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in groups]
    owner = {str(name): title for part, title in zip(groups, titles, strict=True) for name in part}
    return np.array([owner[value] for value in values.tolist()], dtype=np.str_)


def _rotate(names: Sequence[str], units: Names, speakers: Names) -> tuple[list[Fold], str]:
    folds = []
    counts = set()
    for name in names:
        train, test = np.flatnonzero(units != name), np.flatnonzero(units == name)
        validations = choose_validations(name, train, speakers if np.all(speakers[train] != "") else units)
        counts.add(len(validations))
        folds.append(Fold(name=name, train=train, test=test, validations=validations, refit=True))
    number = "-".join(str(count) for count in sorted(counts))
    return folds, f"{number} inner folds by speaker, pooled, then refit"


def _cross(column: str, speakers: Names, values: Names, *, hold_out: bool) -> tuple[list[Fold], str]:
    """Test each group of speakers on each group of values, trained on what shares neither with them."""
    for what, names in (("speaker", speakers), (column, values)):
        _require_known(names, what)
        if len(np.unique(names)) < 2:
            raise FitError(
                f"Folds by {CROSSED}{column} need at least two values in the column {what}, found "
                f"{str(names[0])!r} alone; choose other folds with --folds."
            )
    owners, parts = _deal(speakers, CROSSED_SPEAKERS), _deal(values, CROSSED_VALUES)
    folds = []
    for owner in np.unique(owners):
        for part in np.unique(parts):
            test = np.flatnonzero((owners == owner) & (parts == part))
            if not len(test):
                continue
            name, train = f"{owner} x {part}", np.flatnonzero((owners != owner) & (parts != part))
            validations = choose_validations(name, train, speakers)
            validations = validations[:1] if hold_out else validations
            folds.append(Fold(name=name, train=train, test=test, validations=validations, refit=True))
    if hold_out:
        return folds, ONE_SPEAKER_GROUP
    return folds, f"up to {INNER_FOLDS} inner folds by speaker, pooled, then refit"


def choose_validations(name: str, train: Indices, speakers: Names) -> tuple[tuple[Indices, Indices], ...]:
    """Divide a training set `[n]` by speaker into up to four pairs (train, validate).

    Raises:
        FitError: fewer than two speakers.
    """
    own = speakers[train]
    if len(np.unique(own)) < 2:
        raise FitError(
            f"Choosing the learning rate needs at least two speakers on the training set, but the fold that tests "
            f"{name!r} trains on {len(np.unique(own))}; use a corpus with more speakers or folds that hold out less."
        )
    inner = _deal(own, INNER_FOLDS)
    return tuple((train[inner != group], train[inner == group]) for group in np.unique(inner))


def _hold_out(names: Sequence[str], units: Names, speakers: Names) -> tuple[list[Fold], str]:
    folds = []
    for position, name in enumerate(names):
        train, test = np.flatnonzero(units != name), np.flatnonzero(units == name)
        if len(names) > 2:
            validate = np.flatnonzero(units == names[(position + 1) % len(names)])
            pair = (np.setdiff1d(train, validate), validate)
        else:
            pair = choose_validations(name, train, speakers)[0]
        folds.append(Fold(name=name, train=train, test=test, validations=(pair,), refit=True))
    return folds, ONE_GROUP if len(names) > 2 else ONE_SPEAKER_GROUP


def _given_split(splits: Names | None, speakers: Names, *, hold_out: bool) -> tuple[list[Fold], str]:
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
        validations = choose_validations("test", parts["train"], speakers)
        selection = f"{len(validations)} inner folds by speaker, pooled, then refit"
        if hold_out:
            validations, selection = validations[:1], ONE_SPEAKER_GROUP
    refit = not len(parts["dev"])
    return [
        Fold(name="test", train=parts["train"], test=parts["test"], validations=validations, refit=refit)
    ], selection


def _require_classes(folds: Sequence[Fold], labels: Names) -> None:
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
