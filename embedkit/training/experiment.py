"""One experiment of a study: data, a head and a loss under the options that all experiments share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import torch

from embedkit.augmentations.base import Augmentation
from embedkit.errors import FitError
from embedkit.heads import resolve_heads, widest_pool
from embedkit.losses.base import Loss
from embedkit.options.fit import BATCH, FitOptions
from embedkit.training.cross_validation import count_heads
from embedkit.training.data.attributes import require_fitting_loss
from embedkit.training.data.features import Features
from embedkit.training.data.joined_features import ByCorpus, JoinedFeatures
from embedkit.training.data.source import Source
from embedkit.training.data.task import require_frames
from embedkit.training.experiment_data import ExperimentData
from embedkit.training.fine_tuning import count_tuned
from embedkit.training.live.augmentation import build_augmentations
from embedkit.training.processes import Processes
from embedkit.training.search import Candidate, build_grid, head_settings
from embedkit.training.stacks.stack import TrainingConfig


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
        self.head, self.loss, self.device, self.layer = head, loss, device, layer
        variants = resolve_heads(head)
        self.head_name, self.level = variants[0].name, variants[0].cls.level
        self.head_options = head_settings(variants)
        self.pool, self.fitted = widest_pool(variants), variants[0].cls.fitted
        rates, decays = ((0.0,), (0.0,)) if self.fitted else (options.lr or (), options.weight_decay)
        self.grid: tuple[Candidate, ...] = build_grid(variants, rates, decays)
        if not self.fitted:
            require_fitting_loss(loss, store, options.targets)
        self.data = ExperimentData(store, other, options, loss, self.level, share=share, test_merge=test_merge or {})
        self.begun = store.begin_head(self.data.parts[0], options.map or {})
        if self.begun is not None:
            _require_published(head, store.default_head, loss)
        self.options = options.sized(len(self.data))

    @property
    def processes(self) -> Processes:
        """The processes that train together."""
        return self.data.store.processes

    @cached_property
    def augmentations(self) -> tuple[Augmentation, ...]:
        """What changes training clips, in order."""
        return build_augmentations(self.options.augment)

    @cached_property
    def features(self) -> Features:
        return self.load(self.layer)

    def load(self, layer: int | None) -> Features:
        """Load the embeddings that the head reads, of one layer or of all."""
        data, parts = self.data, []
        for store, part in zip(data.stores, data.parts, strict=True):
            for own in dict.fromkeys(store.for_folds(data.plan)):
                memory = self.options.memory_gb
                parts.append(
                    own.features(part.rows, self.level, self.device, pool=self.pool, layer=layer, memory_gb=memory)
                )
                if self.options.normalise == "speaker":
                    parts[-1].normalise_by(part.speakers)
        whole = parts[0] if len(parts) == 1 else JoinedFeatures(parts)
        return ByCorpus(whole, data.corpora, data.untrained) if data.by_corpus else whole

    def release(self) -> None:
        """Give back the memory of the embeddings."""
        self.__dict__.pop("features", None)

    @property
    def training_config(self) -> TrainingConfig:
        """How the heads are trained."""
        options = self.options
        return TrainingConfig(
            head=self.grid[0].head,
            classes=self.data.task.outputs + len(self.loss.ratings),
            epochs=1 if self.fitted else options.epochs or 1,
            batch_size=options.batch_size or BATCH,
            patience=options.patience,
            clip=options.clip,
            halving=bool(options.halving),
            initial=None if self.begun is None else self.begun.initial,
        )

    def count_heads(self) -> int:
        """Return how many heads are trained: candidates on inner folds, and what was chosen on whole training sets."""
        count = count_heads if not self.options.tuned else count_tuned
        return count(self.data.plan, len(self.grid), 1 if self.fitted else self.options.seeds)

    def check(self) -> None:
        """Find out before anything is trained what cannot be."""
        if self.level == "frame":
            for store in self.data.stores:
                require_frames(store, f"the head {self.head_name!r}")
        for augmentation in self.augmentations:
            augmentation.prepare(self.data.store.encoder["sampling_rate"])
        self.data.check()

    @property
    def leak(self) -> bool:
        """Whether what was trained on is tested, and the user wants it, or the published head knows it."""
        return (self.options.allow_leak and self.data.leaks) or (self.begun is not None and self.begun.leak)

    @property
    def notes(self) -> list[str]:
        """What is told before the training."""
        return [*self.data.notes, *(() if self.begun is None else self.begun.notes)]

    @property
    def title(self) -> str:
        """What experiments that differ in their loss alone have in common."""
        return self.name_with([] if self.layer is None else [self.layer])

    def name_with(self, layers: Sequence[int]) -> str:
        """Name experiments that differ in their loss and their layer, all of whose layers are given in order."""
        told = "" if not layers else f" layer {layers[0]}"
        if len(layers) > 1:
            told = f" layers {layers[0]} to {layers[-1]} one by one"
        store, other = self.data.store, self.data.other_name
        corpus = f"{store.corpus} tested on {other}" if other else store.corpus
        mode = "" if self.options.mode == "cached" else f" {self.options.mode}"
        return f"{corpus} {store.path.stem}{mode}{told}, {self.head}"

    def __str__(self) -> str:
        share = self.data.share
        told = "" if share == 1 else f", {100 * share:g} % of the training speakers"
        told += "" if self.options.normalise == "none" else ", TRANSDUCTIVE: normalised by speaker"
        told += ", TRANSDUCTIVE: standardised by corpus" if self.data.by_corpus and self.data.untrained else ""
        told += ", LEAK: tested on what was trained on" if self.leak else ""
        return f"{self.title}, {self.loss.spec}{told}"


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
