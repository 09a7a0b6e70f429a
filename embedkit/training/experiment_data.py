"""What an experiment trains and tests on: utterances of one or two sources, their targets, and the folds they make."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedkit.corpora.texts import as_text
from embedkit.errors import FitError
from embedkit.losses.base import Loss
from embedkit.options.fit import FitOptions
from embedkit.store.layout import digest_bytes
from embedkit.training.data.annotators import read_annotators, require_votes
from embedkit.training.data.attributes import compare_scales, define_dimensions, read_second_task
from embedkit.training.data.cross_corpus import define_transfer, join_tasks, name_other, plan_transfer
from embedkit.training.data.dealing import Balance
from embedkit.training.data.folds import Fold, FoldPlan, Indices, Names, default_folds, plan_folds
from embedkit.training.data.leakage import find_leaks, require_unseen
from embedkit.training.data.recordings import (
    Stretches,
    drop_copies,
    find_copied,
    find_stretches,
    find_trained,
    number_recordings,
    recording_keys,
    require_apart,
    require_untrained,
    sketch_recordings,
)
from embedkit.training.data.shares import count_speakers, note_raised, thin_plan
from embedkit.training.data.source import Source
from embedkit.training.data.task import TaskData, define_task, fold_column
from embedkit.training.fine_tuning import plan_tuning
from embedkit.wording import count_noun


class ExperimentData:
    """The utterances of a store, and of the one tested on where that is another.

    Args:
        store: What is trained on.
        other: What is tested on where that is another corpus.
        options: Of the fit.
        loss: May learn ratings or votes beside labels.
        level: What heads read: `utterance` or `frame`.
        share: Of the training speakers.
        test_merge: Labels of the other corpus that count as another one.
    """

    def __init__(
        self,
        store: Source,
        other: Source | None,
        options: FitOptions,
        loss: Loss,
        level: str,
        *,
        share: float,
        test_merge: Mapping[str, str],
    ) -> None:
        self.store, self.other, self.options, self.loss = store, other, options, loss
        self.level, self.share = level, share
        if options.targets:
            task = define_dimensions(store, options.targets, where=options.where)
        else:
            task = define_task(store, classes=options.classes, merge=options.merge, where=options.where)
        self.parts: tuple[TaskData, ...] = (task,)
        if other is not None:
            self.parts = (task, define_transfer(store, task, other, test_merge))
        self.other_name = "" if other is None else name_other(store, other)
        self.copied: set[str] = set()
        """Corpora of which another one had a recording, before copies were dropped."""
        if options.duplicates == "drop":
            self.copied = find_copied(recording_keys(self.stores, self.parts), self._name_corpora())
            self.parts = drop_copies(self.stores, self.parts)
        self.ratings = read_second_task(loss, self.stores, self.parts)
        self.task: TaskData = self.parts[0]
        if other is not None:
            self.task = join_tasks(self.parts[0], self.parts[1], store, other)
        self.annotators = read_annotators(self.stores, self.parts)
        require_votes(loss, self.annotators)
        self.task = dataclasses.replace(self.task, annotators=self.annotators)

    def __len__(self) -> int:
        return len(self.task)

    @property
    def stores(self) -> list[Source]:
        """The store, and the one tested on where that is another."""
        return [self.store] if self.other is None else [self.store, self.other]

    @property
    def digests(self) -> dict[str, str]:
        """The digests of the stores, as runs keep them."""
        own = {"store": self.store.digest}
        return own if self.other is None else {**own, "test_store": self.other.digest}

    @cached_property
    def plan(self) -> FoldPlan:
        """The folds that are trained and tested."""
        plan = self.whole_plan
        if self.share < 1:
            hold_out = self.options.tuned or self.level == "frame"
            plan = thin_plan(plan, self.share, self.task.speakers, self._labels, self.balance, hold_out=hold_out)
        return plan_tuning(plan) if self.options.tuned else plan

    @cached_property
    def whole_plan(self) -> FoldPlan:
        """The folds on all training speakers."""
        if self.other is not None:
            speakers, hold_out = self.task.speakers, self.level == "frame"
            return plan_transfer(len(self.parts[0]), speakers, self.other_name, self.balance, hold_out=hold_out)
        # An encoder that was trained has seen all but its own fold's test and development groups.
        held_out = self.store.fine_tuned or self.options.tuned
        usual = self.store.usual_folds or default_folds(self.task.sessions, self.task.speakers)
        kind = self.options.folds or usual
        return plan_folds(
            kind,
            labels=self._labels,
            speakers=self.task.speakers,
            groups=fold_column(self.store, self.task, kind),
            splits=self.task.splits,
            hold_out=held_out or self.level == "frame",
            balance=self.balance,
        )

    @property
    def _labels(self) -> NDArray[Any] | None:
        return None if self.task.dimensions else self.task.labels

    @cached_property
    def balance(self) -> Balance:
        """What folds hold equal shares of: utterances, classes and, where there is such a column, genders."""
        known = all("gender" in store.columns for store in self.stores)
        genders = [
            np.array([as_text(value) for value in store.column("gender")[part.rows].tolist()], dtype=np.str_)
            for store, part in zip(self.stores, self.parts, strict=True)
            if known
        ]
        return Balance.measure(len(self), [self._labels, np.concatenate(genders) if known else None], self.recordings)

    @property
    def train_speakers(self) -> list[int]:
        """How many known speakers each fold trains on."""
        return count_speakers(self.plan.folds, self.task.speakers)

    @property
    def folds_apart(self) -> bool:
        """Whether each fold reads embeddings of its own."""
        return len(set(self.store.for_folds(self.plan))) > 1

    @property
    def by_corpus(self) -> bool:
        """Whether each corpus is standardised by statistics of its own."""
        return self.options.standardise_by == "corpus"

    @cached_property
    def corpora(self) -> Names:
        """The corpus of each utterance, `[utterances]`."""
        return self._name_corpora()

    def _name_corpora(self) -> Names:
        names = [self.store.corpora_of(self.parts[0].rows)]
        return np.concatenate([*names, *(np.full(len(part), self.other_name) for part in self.parts[1:])])

    @cached_property
    def untrained(self) -> set[str]:
        """The corpora that some fold tests and trains on nothing of."""
        found = (set(self.corpora[fold.test]) - set(self.corpora[fold.train]) for fold in self.plan.folds)
        return {str(name) for own in found for name in own}

    @property
    def targets(self) -> NDArray[Any]:
        """What heads learn of every utterance: as the task has it, or `[utterances, 1 + ratings]` or `1 + classes`."""
        if self.loss.soft:
            return self.annotators.mix(self.task.targets)
        return self.task.targets if self.ratings is None else np.column_stack([self.task.targets, self.ratings])

    @cached_property
    def training(self) -> str | None:
        """Digest of what is trained and chosen on, which tests on several corpora share; None where folds rotate.

        Losses share it, too, whichever of them learns votes or ratings.
        """
        if self.other is None:
            return None
        (fold,) = self.plan.folds
        parts = [fold.train, *(part for pair in fold.validations for part in pair), self.task.targets[fold.train]]
        return digest_bytes(*(part.tobytes() for part in parts))

    def check(self) -> None:
        """Find out before anything is trained what cannot be tested."""
        if self.share < 1 and self.store.fine_tuned:
            raise FitError(
                f"The encoder of {self.store.path} was trained on all training speakers, so heads on a share of them "
                "say nothing about fewer speakers; leave out --train-share, or give it to --mode finetune."
            )
        if self.by_corpus and len(set(self.corpora.tolist())) < 2:
            raise FitError(
                f"There is one corpus to standardise by, {self.store.corpus}; leave out --standardise-by, or add "
                "another one with --pool or --test-on."
            )
        unknown = int(np.sum(self.task.speakers == ""))
        if self.options.normalise == "speaker" and unknown:
            raise FitError(
                f"Normalising by speaker needs the speaker of every utterance, found {unknown} of {len(self)} "
                "without; add the column to the corpus, leave them out with --where, or leave out --normalise."
            )
        if not self.options.allow_leak:
            for source, task, fold in self._sources_of_folds():
                require_unseen(source, task, fold)
            for fold in self.plan.folds:
                require_untrained(self.task, self.recording_numbers, fold)
                require_apart(self.task, self.stretches, fold)

    def _sources_of_folds(self) -> Iterator[tuple[Source, TaskData, Fold]]:
        """Yield every fold with what it reads; a fold over two corpora as the part that lies in each."""
        for own, fold in zip(self.store.for_folds(self.plan), self.plan.folds, strict=True):
            if self.other is None:
                yield own, self.task, fold
                continue
            yield own, self.parts[0], dataclasses.replace(fold, test=fold.test[:0])
            yield (
                self.other,
                self.parts[1],
                dataclasses.replace(fold, test=fold.test - len(self.parts[0]), validations=()),
            )

    @cached_property
    def recordings(self) -> Names:
        """What is equal for utterances of one recording, `[utterances]`."""
        return recording_keys(self.stores, self.parts)

    @cached_property
    def recording_numbers(self) -> Indices:
        """The same as numbers, `[utterances]`."""
        return number_recordings(self.recordings)

    @cached_property
    def stretches(self) -> Stretches:
        """Where utterances lie in their files."""
        return find_stretches(self.stores, self.parts)

    @property
    def leaks(self) -> bool:
        """Whether something is tested that was trained on: recordings, or speakers that the encoder knows."""
        return any(find_leaks(*read) for read in self._sources_of_folds()) or bool(self.leaked)

    @cached_property
    def leaked(self) -> set[str]:
        """The corpora that are tested on recordings which are trained on."""
        folds = self.plan.folds
        tested = [find_trained(self.recording_numbers, fold) for fold in folds]
        tested += [self.stretches.find_trained(fold) for fold in folds]
        return set(self.corpora[np.concatenate(tested)].tolist())

    @cached_property
    def sketch(self) -> str:
        """What tells the recordings of the corpus from those of another one of its name."""
        digests = self.store.audio_digests()
        return "" if digests is None else sketch_recordings(digests)

    @property
    def left_out(self) -> list[str]:
        """Say of each corpus how many utterances are left out, and why: no rating, or copies of a recording."""
        names = " or ".join(filter(None, [", ".join(self.task.dimensions[:-1]), *self.task.dimensions[-1:]]))
        return self.store.describe_labels(self.parts[0]) + [
            f"left out {count_noun(count, 'utterance')} of {store.corpus} {reason}"
            for store, part in zip(self.stores, self.parts, strict=True)
            for count, reason in (
                (part.unrated, f"without a number in {names}"),
                (part.copies, "that repeat a recording"),
            )
            if count
        ]

    @property
    def notes(self) -> list[str]:
        """What is told before the training: who is left out, and where more speakers are trained on than asked for."""
        told = [f"{note[0].upper()}{note[1:]}." for note in self.left_out] + list(self.annotators.notes)
        if dimensions := self.task.dimensions:
            told += compare_scales(self.task.targets, self.corpora, dimensions)
        if self.share < 1:
            whole = count_speakers(self.whole_plan.folds, self.task.speakers)
            told += note_raised(self.share, self.train_speakers, whole)
        return told
