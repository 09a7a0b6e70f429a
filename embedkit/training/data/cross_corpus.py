"""Train on one corpus, test on another: one fold over two stores laid end to end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from embedkit.corpora.texts import expand_merge, match_labels
from embedkit.errors import FitError
from embedkit.training.data.attributes import define_dimensions
from embedkit.training.data.dealing import Balance
from embedkit.training.data.folds import (
    Fold,
    FoldPlan,
    Names,
    choose_validations,
    take_validations,
)
from embedkit.training.data.source import Source
from embedkit.training.data.task import TaskData, define_task
from embedkit.wording import count_noun

KIND = "other corpus"

_LONGEST_PART = 60


def define_transfer(store: Source, data: TaskData, other: Source, merge: Mapping[str, str]) -> TaskData:
    """Choose the utterances of another corpus that belong to the classes of a task, under a label map.

    Where dimensions are predicted, those rated on the same ones.

    Args:
        store, data: The store trained on and its task.
        other: The store tested on.
        merge: Labels of the other corpus, or patterns of them, that count as another, beside the corpus's usual ones.

    Raises:
        FitError: another encoder, the same corpus, or a class or a dimension that the other corpus lacks.
    """
    if other.fingerprint != store.fingerprint:
        raise FitError(
            f"The stores {store.path} and {other.path} were made with different encoders or options; "
            "extract both alike to train on one and test on the other."
        )
    if is_same_corpus(store, other):
        raise FitError(f"Both stores hold {other.corpus}; leave out --test-on, or test on another corpus.")
    if data.dimensions:
        return define_dimensions(other, data.dimensions)
    original = other.column("label").tolist()
    usual = expand_merge({**other.task["merge"], **merge}, original)
    labels = {usual.get(label, label) for label in original}
    missing = [label for label in data.classes if label not in labels]
    if missing:
        raise FitError(
            f"{other.corpus} has no utterances of the class {missing[0]!r} (it has {', '.join(sorted(labels))}; "
            f"{store.corpus} is trained on {', '.join(data.classes)}); "
            "map a label with --test-merge, or name the classes that both share with --classes."
        )
    return define_task(other, classes=data.classes, merge=usual)


def usual_labels(labels: Sequence[str], task: Mapping[str, str], classes: Sequence[str]) -> set[str]:
    """Return the classes of a corpus: its labels after those of its task were merged, less those outside the task."""
    merge = expand_merge(task, labels)
    found = {merge.get(label, label) for label in labels}
    return found & {*classes} if classes else found


def share_classes(told: Mapping[str, set[str]], remedy: str) -> list[str]:
    """Return the classes that all corpora have, by the classes of each, sorted; `remedy` is what to do without.

    Raises:
        FitError: fewer than two; all are listed.
    """
    shared = sorted(set.intersection(*told.values()))
    if len(shared) < 2:
        shown = "; ".join(f"{corpus} has {', '.join(sorted(labels))}" for corpus, labels in told.items())
        raise FitError(
            f"The corpora share {count_noun(len(shared), 'label')}, at least two are needed: {shown}; {remedy}."
        )
    return shared


def share_merge(merge: Mapping[str, str], others: Sequence[Source], names: Sequence[str]) -> list[Mapping[str, str]]:
    """Return a label map as each of several corpora takes it: with the labels, or patterns of them, that it has.

    A single corpus takes all of it.

    Raises:
        FitError: two corpora of one name by `name_other`, or a label that none of them has.
    """
    if twice := [name for name in names if names.count(name) > 1]:
        raise FitError(f"Two of the stores to test on hold {twice[0]}; name each corpus once.")
    if len(others) < 2:
        return [merge] * len(others)
    labels = [other.column("label").tolist() for other in others]
    for old in merge:
        if not any(match_labels(old, own) for own in labels):
            raise FitError(
                f"None of the corpora to test on ({', '.join(names)}) has the label {old!r} of --test-merge; map "
                "labels that they have."
            )
    return [{old: new for old, new in merge.items() if match_labels(old, own)} for own in labels]


def is_same_corpus(store: Source, other: Source) -> bool:
    """Tell whether a source holds another one's corpus: its name, and a recording of it, or that may be."""
    if other.corpus not in store.names:
        return False
    first, second = store.audio_digests(), other.audio_digests()
    return first is None or second is None or bool(set(first.tolist()) & set(second.tolist()))


def name_other(store: Source, other: Source) -> str:
    """Name the corpus tested on so that it is not taken for the one trained on, nor for another part of its corpus.

    A part is called by how its extraction chose it, where that is short and not how the store was chosen as well
    ("msp-podcast (partition=Test2)").
    """
    own, chosen = (source.extraction.get("selection", {}).get("where", ()) for source in (store, other))
    part = ", ".join(one for one in chosen if one not in own)
    if 0 < len(part) <= _LONGEST_PART:
        return f"{other.corpus} ({part})"
    return other.corpus if other.corpus not in store.names else f"{other.corpus} ({other.digest[:8]})"


def join_tasks(first: TaskData, second: TaskData, store: Source, other: Source) -> TaskData:
    """Lay the tasks of two stores with the same classes or dimensions end to end.

    Speakers are told apart by corpus, those of a part of one that is trained on are its own.
    """
    trained = first.speakers if len(store.names) > 1 else qualify(first.speakers, store.corpus)
    columns = ("rows", "ids", "labels", "sessions", "splits", "targets")
    joined: dict[str, Any] = {name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in columns}
    return replace(first, speakers=np.concatenate([trained, qualify(second.speakers, other.corpus)]), **joined)


def qualify(names: Names, corpus: str) -> Names:
    """Write the corpus before every name `[utterances]` that is known."""
    return np.array([f"{corpus}/{name}" if name else "" for name in names.tolist()], dtype=np.str_)


def plan_transfer(train: int, speakers: Names, other: str, balance: Balance, *, hold_out: bool) -> FoldPlan:
    """Plan the one fold by speakers `[utterances]`: the first `train` are trained and chosen on, all others tested.

    What is trained on is dealt into inner folds of equal shares of what `balance` counts.

    Raises:
        FitError: fewer than two speakers, or unknown ones, on the training set.
    """
    side = np.arange(train)
    if np.any(speakers[:train] == ""):
        raise FitError(
            "Choosing by speaker needs the speaker of every utterance trained on, found some without; "
            "add the column to the corpus or leave them out with --where."
        )
    found = choose_validations(other, side, speakers, balance)
    validations, selection = take_validations(found, hold_out=hold_out)
    fold = Fold(name=other, train=side, test=np.arange(train, len(speakers)), validations=validations, refit=True)
    known = bool(np.isin(speakers[train:], [name for name in set(speakers[:train].tolist()) if name]).any())
    return FoldPlan(kind=KIND, folds=(fold,), selection=selection, speaker_dependent=known, dealt_inside=found.dealt)
