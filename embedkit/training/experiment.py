"""One experiment of a study: a store, a head and a loss under the options that all experiments share."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embedkit.augmentations.base import Augmentation
from embedkit.corpora.texts import as_text
from embedkit.errors import FitError
from embedkit.heads import resolve_heads, widest_pool
from embedkit.losses.base import Loss
from embedkit.options.fit import BATCH, FitOptions
from embedkit.store.layout import digest_bytes
from embedkit.system import avoid_reserved
from embedkit.training.cross_validation import count_heads
from embedkit.training.data.annotators import read_annotators, require_votes
from embedkit.training.data.attributes import compare_scales, define_dimensions, read_second_task, require_fitting_loss
from embedkit.training.data.by_corpus import ByCorpus
from embedkit.training.data.cross_corpus import define_transfer, join_tasks, name_other, plan_transfer
from embedkit.training.data.dealing import Balance
from embedkit.training.data.features import Features
from embedkit.training.data.folds import (
    DEALT,
    Fold,
    FoldPlan,
    Indices,
    Names,
    default_folds,
    describe_folds,
    plan_folds,
)
from embedkit.training.data.joined_features import JoinedFeatures
from embedkit.training.data.leakage import find_leaks, require_unseen
from embedkit.training.data.overlaps import Stretches, find_stretches, require_apart
from embedkit.training.data.recordings import (
    drop_copies,
    find_copied,
    find_trained,
    number_recordings,
    recording_keys,
    require_untrained,
    sketch_recordings,
)
from embedkit.training.data.shares import count_speakers, note_raised, thin_plan
from embedkit.training.data.source import Source
from embedkit.training.data.task import TaskData, define_task, fold_column, require_frames
from embedkit.training.fine_tuning import count_tuned, plan_tuning
from embedkit.training.identity import record_options
from embedkit.training.live.augmentation import build_augmentations
from embedkit.training.processes import Processes
from embedkit.training.runs import RUN_FORMAT_VERSION, UNFINISHED, digest_of
from embedkit.training.search import Candidate, build_grid, head_settings
from embedkit.training.stacks.cache import ResultCache
from embedkit.training.stacks.stack import TrainingConfig
from embedkit.wording import count_noun

ALGORITHM, DEALT_ALGORITHM = 1, 2
"""Raised when training changes in a way that changes results, so that old runs are not taken for new ones; here for
runs with more groups than folds, which were dealt by their sorted names before."""


class Experiment:
    """One store (or one of its layers), one head, one loss."""

    def __init__(
        self,
        store: Source,
        head: str,
        loss: Loss,
        options: FitOptions,
        device: torch.device,
        layer: int | None = None,
        other: Source | None = None,
        share: float = 1.0,
        test_merge: Mapping[str, str] | None = None,
    ) -> None:
        self.store, self.head, self.loss, self.options, self.device = store, head, loss, options, device
        variants = resolve_heads(head)
        self.head_name, self.level = variants[0].name, variants[0].cls.level
        self.head_options = head_settings(variants)
        self.pool, self.fitted = widest_pool(variants), variants[0].cls.fitted
        rates, decays = ((0.0,), (0.0,)) if self.fitted else (options.lr or (), options.weight_decay)
        self.grid: tuple[Candidate, ...] = build_grid(variants, rates, decays)
        if not self.fitted:
            require_fitting_loss(loss, store, options.targets)
        if options.targets:
            data = define_dimensions(store, options.targets, where=options.where)
        else:
            data = define_task(store, classes=options.classes, merge=options.merge, where=options.where)
        self.runs, self.layer, self.other, self.share = options.runs, layer, other, share
        self.parts: tuple[TaskData, ...] = (data,)
        if other is not None:
            self.parts = (data, define_transfer(store, data, other, test_merge or {}))
        self.other_name = "" if other is None else name_other(store, other)
        self.copied: set[str] = set()
        """Corpora of which another one had a recording, before copies were dropped."""
        if options.duplicates == "drop":
            self.copied = find_copied(recording_keys(self.stores, self.parts), self._name_corpora())
            self.parts = drop_copies(self.stores, self.parts)
        self.data: TaskData = self.parts[0]
        self.ratings = read_second_task(loss, self.stores, self.parts)
        self.begun = store.begin_head(data, options.map or {})
        if self.begun is not None:
            _require_published(head, store.default_head, loss)
        if other is not None:
            self.data = join_tasks(self.parts[0], self.parts[1], store, other)
        self.annotators = read_annotators(self.stores, self.parts)
        require_votes(loss, self.annotators)
        self.data = dataclasses.replace(self.data, annotators=self.annotators)
        self.options = options.sized(len(self.data))

    @property
    def stores(self) -> list[Source]:
        """The store, and the one tested on where that is another."""
        return [self.store] if self.other is None else [self.store, self.other]

    @property
    def processes(self) -> Processes:
        """The processes that train together."""
        return self.store.processes

    @cached_property
    def plan(self) -> FoldPlan:
        """The folds that are trained and tested."""
        plan = self.whole_plan
        if self.share < 1:
            labels = None if self.data.dimensions else self.data.labels
            hold_out = self.options.tuned or self.level == "frame"
            plan = thin_plan(plan, self.share, self.data.speakers, labels, self.balance, hold_out=hold_out)
        return plan_tuning(plan) if self.options.tuned else plan

    @cached_property
    def whole_plan(self) -> FoldPlan:
        """The folds on all training speakers."""
        if self.other is not None:
            speakers, hold_out = self.data.speakers, self.level == "frame"
            return plan_transfer(len(self.parts[0]), speakers, self.other_name, self.balance, hold_out=hold_out)
        # An encoder that was trained has seen all but its own fold's test and development groups.
        held_out = self.store.fine_tuned or self.options.tuned
        usual = self.store.usual_folds or default_folds(self.data.sessions, self.data.speakers)
        kind = self.options.folds or usual
        return plan_folds(
            kind,
            labels=None if self.data.dimensions else self.data.labels,
            speakers=self.data.speakers,
            groups=fold_column(self.store, self.data, kind),
            splits=self.data.splits,
            hold_out=held_out or self.level == "frame",
            balance=self.balance,
        )

    @property
    def train_speakers(self) -> list[int]:
        """How many known speakers each fold trains on."""
        return count_speakers(self.plan.folds, self.data.speakers)

    @cached_property
    def balance(self) -> Balance:
        """What folds hold equal shares of: utterances, classes and, where there is such a column, genders."""
        labels = None if self.data.dimensions else self.data.labels
        known = all("gender" in store.columns for store in self.stores)
        genders = [
            np.array([as_text(value) for value in store.column("gender")[part.rows].tolist()], dtype=np.str_)
            for store, part in zip(self.stores, self.parts, strict=True)
            if known
        ]
        return Balance.measure(len(self.data), [labels, np.concatenate(genders) if known else None], self.recordings)

    @property
    def folds_apart(self) -> bool:
        """Whether each fold reads embeddings of its own."""
        return len(set(self.store.for_folds(self.plan))) > 1

    @cached_property
    def augmentations(self) -> tuple[Augmentation, ...]:
        """What changes training clips, in order."""
        return build_augmentations(self.options.augment)

    @cached_property
    def features(self) -> Features:
        return self.load(self.layer)

    def load(self, layer: int | None) -> Features:
        """Load the embeddings that the head reads, of one layer or of all."""
        parts = []
        for store, data in zip(self.stores, self.parts, strict=True):
            for own in dict.fromkeys(store.for_folds(self.plan)):
                memory = self.options.memory_gb
                parts.append(
                    own.features(data.rows, self.level, self.device, pool=self.pool, layer=layer, memory_gb=memory)
                )
                if self.options.normalise == "speaker":
                    parts[-1].normalise_by(data.speakers)
        whole = parts[0] if len(parts) == 1 else JoinedFeatures(parts)
        return ByCorpus(whole, self.corpora, self.untrained) if self.by_corpus else whole

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
        """What heads learn of every utterance: as `data` has it, or `[utterances, 1 + ratings]` or `1 + classes`."""
        if self.loss.soft:
            return self.annotators.mix(self.data.targets)
        return self.data.targets if self.ratings is None else np.column_stack([self.data.targets, self.ratings])

    @property
    def training_config(self) -> TrainingConfig:
        """How the heads are trained."""
        options = self.options
        return TrainingConfig(
            head=self.grid[0].head,
            classes=self.data.outputs + len(self.loss.ratings),
            epochs=1 if self.fitted else options.epochs or 1,
            batch_size=options.batch_size or BATCH,
            patience=options.patience,
            clip=options.clip,
            halving=bool(options.halving),
            initial=None if self.begun is None else self.begun.initial,
        )

    @cached_property
    def training(self) -> str | None:
        """Digest of what is trained and chosen on, which tests on several corpora share; None where folds rotate.

        Losses share it, too, whichever of them learns votes or ratings.
        """
        if self.other is None:
            return None
        (fold,) = self.plan.folds
        parts = [fold.train, *(part for pair in fold.validations for part in pair), self.data.targets[fold.train]]
        return digest_bytes(*(part.tobytes() for part in parts))

    def count_heads(self) -> int:
        """Return how many heads are trained: candidates on inner folds, and what was chosen on whole training sets."""
        count = count_heads if not self.options.tuned else count_tuned
        return count(self.plan, len(self.grid), 1 if self.fitted else self.options.seeds)

    def check(self) -> None:
        """Find out before anything is trained what cannot be."""
        if self.level == "frame":
            for store in self.stores:
                require_frames(store, f"the head {self.head_name!r}")
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
        unknown = int(np.sum(self.data.speakers == ""))
        if self.options.normalise == "speaker" and unknown:
            raise FitError(
                f"Normalising by speaker needs the speaker of every utterance, found {unknown} of {len(self.data)} "
                "without; add the column to the corpus, leave them out with --where, or leave out --normalise."
            )
        for augmentation in self.augmentations:
            augmentation.prepare(self.store.encoder["sampling_rate"])
        if not self.options.allow_leak:
            for source, data, fold in self._sources_of_folds():
                require_unseen(source, data, fold)
            for fold in self.plan.folds:
                require_untrained(self.data, self.recording_numbers, fold)
                require_apart(self.data, self.stretches, fold)

    def _sources_of_folds(self) -> Iterator[tuple[Source, TaskData, Fold]]:
        """Yield every fold with what it reads; a fold over two corpora as the part that lies in each."""
        for own, fold in zip(self.store.for_folds(self.plan), self.plan.folds, strict=True):
            if self.other is None:
                yield own, self.data, fold
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

    @property
    def left_out(self) -> list[str]:
        """Say of each corpus how many utterances are left out, and why: no rating, or copies of a recording."""
        names = " or ".join(filter(None, [", ".join(self.data.dimensions[:-1]), *self.data.dimensions[-1:]]))
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
        left_out = [f"{note[0].upper()}{note[1:]}." for note in self.left_out]
        left_out += self.annotators.notes
        left_out += () if self.begun is None else self.begun.notes
        if dimensions := self.data.dimensions:
            left_out += compare_scales(self.data.targets, self.corpora, dimensions)
        if self.share == 1:
            return left_out
        whole = count_speakers(self.whole_plan.folds, self.data.speakers)
        return [*left_out, *note_raised(self.share, self.train_speakers, whole)]

    @property
    def variant(self) -> dict[str, Any]:
        """What sets the run apart: a layer, fewer speakers, dimensions, test data that is seen, other corpora."""
        found: dict[str, Any] = {} if self.layer is None else {"layer": self.layer}
        if len(self.store.names) > 1:
            found |= {"pooled": list(self.store.names)}
        if self.share < 1:
            found |= {"train_share": self.share}
        if self.plan.dealt:
            found |= {"dealt": DEALT}
        if self.data.dimensions:
            found |= {"dimensions": list(self.data.dimensions)}
        if self.options.tuned:
            changes = [one.describe() for one in self.augmentations]
            found |= {"tuning": record_options(self.options)["tuning"] | {"augment": changes}}
        if self.options.normalise != "none":
            found |= {"normalise": self.options.normalise, "transductive": True}
        if self.by_corpus:
            found |= {"standardise_by": "corpus"} | ({"transductive": True} if self.untrained else {})
        if self.begun is not None:
            found |= {"init_head": dict(self.begun.kept)}
        if (self.options.allow_leak and self.leaks) or (self.begun is not None and self.begun.leak):
            found |= {"leak": True}
        if self.other is not None:
            found |= {"test_corpus": self.other_name, "test_merge": dict(self.parts[1].merge)}
        return found

    @property
    def digests(self) -> dict[str, str]:
        """The digests of the stores, as runs keep them."""
        own = {"store": self.store.digest}
        return own if self.other is None else {**own, "test_store": self.other.digest}

    @property
    def config(self) -> dict[str, Any]:
        """Everything that determines the run."""
        store = self.store
        return {
            "format": "embedkit-run",
            "format_version": RUN_FORMAT_VERSION,
            "algorithm": DEALT_ALGORITHM if self.plan.dealt or self.plan.dealt_inside else ALGORITHM,
            "corpus": store.corpus,
            "encoder": store.path.stem,
            "head": self.head_name,
            "head_options": self.head_options,
            "loss": self.loss.name,
            "loss_options": dataclasses.asdict(self.loss.options),
            "mode": self.options.mode,
            "folds": describe_folds(self.plan),
            "classes": list(self.data.classes),
            "merge": dict(self.data.merge),
            "where": list(self.data.where),
            "seeds": list(self.options.seed_numbers),
            "store_fingerprint": self.store.fingerprint,
            **record_options(self.options),
            **self.variant,
        }

    def release(self) -> None:
        """Give back the memory of the embeddings."""
        self.__dict__.pop("features", None)

    @property
    def data_config(self) -> dict[str, Any]:
        """Where the data lies that the run was trained on, changed by, and tested on where that is another store."""
        own: dict[str, Any] = {"store": self.store.describe(self.plan), "recordings": self.sketch}
        if self.options.tuned:
            own["augment"] = [one.spec for one in self.augmentations]
        return own if self.other is None else {**own, "test_store": self.other.describe(self.plan)}

    @cached_property
    def sketch(self) -> str:
        """What tells the recordings of the corpus from those of another one of its name."""
        digests = self.store.audio_digests()
        return "" if digests is None else sketch_recordings(digests)

    @property
    def folder(self) -> Path:
        config = self.config
        name = f"{_safe(self.loss.name)}-{digest_of(config)}"
        return self.runs / _safe(config["corpus"]) / _safe(config["encoder"]) / _safe(self.head_name) / name

    @property
    def cache(self) -> ResultCache:
        """Where finished heads, their encoders and checkpoints lie until the run is written."""
        return ResultCache(self.runs / UNFINISHED / digest_of([self.config, self.digests]), {}, self.processes)

    @property
    def title(self) -> str:
        """What experiments that differ in their loss alone have in common."""
        return self.name_with([] if self.layer is None else [self.layer])

    def name_with(self, layers: Sequence[int]) -> str:
        """Name experiments that differ in their loss and their layer, all of whose layers are given in order."""
        told = "" if not layers else f" layer {layers[0]}"
        if len(layers) > 1:
            told = f" layers {layers[0]} to {layers[-1]} one by one"
        corpus = f"{self.store.corpus} tested on {self.other_name}" if self.other_name else self.store.corpus
        mode = "" if self.options.mode == "cached" else f" {self.options.mode}"
        return f"{corpus} {self.store.path.stem}{mode}{told}, {self.head}"

    def __str__(self) -> str:
        told = "" if self.share == 1 else f", {100 * self.share:g} % of the training speakers"
        told += "" if self.options.normalise == "none" else ", TRANSDUCTIVE: normalised by speaker"
        told += ", TRANSDUCTIVE: standardised by corpus" if self.by_corpus and self.untrained else ""
        told += ", LEAK: tested on what was trained on" if self.variant.get("leak") else ""
        return f"{self.title}, {self.loss.spec}{told}"

    @property
    def unique_name(self) -> str:
        """Its name, and what the folder of its run ends with: runs may differ in options that a name leaves out."""
        return f"{self} ({digest_of(self.config)})"


def _require_published(head: str, published: str, loss: Loss) -> None:
    if head != published:
        raise FitError(
            f"The head {head!r} cannot begin with the published one, which is {published!r}; leave out --head or "
            "--init-head."
        )
    if loss.classifier != "affine" or loss.ratings:
        raise FitError(
            f"The loss {loss.spec!r} cannot begin with a published head, which gives logits or ratings alone; choose "
            "another loss (ce, ccc, focal), or leave out --init-head."
        )


def _safe(name: str) -> str:
    """Make one harmless path component of a name."""
    kept = "".join(letter if letter.isalnum() or letter in "-_+.@" else "-" for letter in name)
    return avoid_reserved(kept.strip(".")) or "unnamed"
