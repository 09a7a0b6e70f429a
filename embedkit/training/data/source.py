"""What an experiment reads: utterances with their columns, and for every fold their embeddings."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from embedkit.errors import FitError
from embedkit.heads.base import Pool
from embedkit.options.fit import FitOptions
from embedkit.training.data.features import Features
from embedkit.training.data.folds import FoldPlan, Indices, Names
from embedkit.training.processes import ALONE, Processes

if TYPE_CHECKING:
    from embedkit.training.data.task import TaskData
    from embedkit.training.live.fine_tuner import FineTuner
    from embedkit.training.live.published_head import BegunHead


class Source(ABC):
    """A store, the stores of one fine-tuning run, or a corpus that is encoded while heads train.

    Attributes:
        path: Where it lies; its stem names the encoder in tables and run folders.
        corpus: Name of the corpus.
        task: The corpus's standard task: `classes` and `merge`.
        encoder: Everything that determines the numbers.
        extraction: How they are made, with its `options`.
        trained_on: What the encoder was fine-tuned on; empty where it was not, or differs from fold to fold.
        fine_tuned: Whether an encoder has been trained on utterances of the corpus, or may have been.
        fingerprint: Digest of the encoder and of the options that matter.
        digest: Digest of everything that is read.
        layers: Numbers of the layers.
        has_frames: Whether heads may read frames.
        columns: Names of the columns.
        default_head: The head that is fitted unless another one is named.
        usual_pool: What heads on utterances read unless that is named.
        usual_folds: What folds rotate over unless that is named; None: as the columns suggest.
        processes: The processes that train together.
    """

    path: Path
    corpus: str
    task: dict[str, Any]
    encoder: Mapping[str, Any]
    extraction: Mapping[str, Any]
    trained_on: Mapping[str, Any]
    fine_tuned: bool
    fingerprint: str
    digest: str
    layers: tuple[int, ...]
    has_frames: bool
    columns: tuple[str, ...]
    default_head: str
    usual_pool: Pool = "mean"
    usual_folds: str | None = None
    processes: Processes = ALONE

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of utterances."""

    @abstractmethod
    def column(self, name: str) -> NDArray[Any]:
        """Return a column `[utterances]`.

        Raises:
            FitError, StoreError: there is no such column.
        """

    @abstractmethod
    def audio_digests(self) -> NDArray[np.str_] | None:
        """Return the digest of every utterance's decoded samples, `[utterances]`; empty where it is unknown.

        None where none is kept: in stores that are older than these digests.
        """

    @abstractmethod
    def audio_files(self) -> Names:
        """Return where the file of each utterance lies, `[utterances]`: absolute paths; empty where it is unknown."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the corpora it holds."""
        return (self.corpus,)

    def corpora_of(self, rows: Indices) -> Names:
        """Return the name of the corpus of each utterance, by their rows `[n]`."""
        return np.full(len(rows), self.corpus)

    def usual_classes(self, merge: Mapping[str, str]) -> list[str]:
        """Return the classes of the standard task, after labels were merged; none for all labels."""
        return list(self.task["classes"])

    def describe_labels(self, data: TaskData) -> list[str]:
        """Say what became of labels before a task was made of them, and which utterances it leaves out for theirs."""
        return []

    def divide(self, data: TaskData) -> Sequence[tuple[Source, TaskData]]:
        """Return the sources it is made of, and what each holds of a task, in the order of its utterances."""
        return [(self, data)]

    @abstractmethod
    def for_folds(self, plan: FoldPlan) -> Sequence[EmbeddingSource]:
        """Return what each fold of a plan reads: the same for all folds, or another encoder's embeddings for each.

        Raises:
            FitError: there is nothing for a fold.
        """

    @abstractmethod
    def require_undamaged(self) -> None:
        """Compare what is kept with its digests.

        Raises:
            StoreError: it is damaged.
        """

    def describe(self, plan: FoldPlan) -> dict[str, Any]:
        """Return what a run's configuration keeps of the source, ready for JSON."""
        return {
            "path": os.path.abspath(self.path),
            "fingerprint": self.fingerprint,
            "digest": self.digest,
            "encoder": self.encoder,
            "options": self.extraction.get("options", {}),
        }

    def fine_tuner(self, options: FitOptions) -> FineTuner:
        """Return what trains the encoder behind the embeddings.

        Raises:
            FitError: they are stored.
        """
        raise FitError(f"{self.path} holds embeddings, whose encoder cannot be trained; name its corpus instead.")

    def begin_head(self, data: TaskData, given: Mapping[str, str]) -> BegunHead | None:
        """Return what heads for utterances begin with; None where they are drawn.

        Args:
            data: The utterances.
            given: Which labels of a published head stand for which class or rating; empty: by their names.

        Raises:
            FitError, ConfigError: a published head and the classes, or ratings, have too little in common.
        """
        return None


class EmbeddingSource(Source):
    """A source whose folds all read the embeddings of one encoder."""

    @abstractmethod
    def features(
        self,
        rows: Indices,
        level: str,
        device: torch.device | str = "cpu",
        *,
        pool: Pool = "mean",
        layer: int | None = None,
        memory_gb: float | None = None,
    ) -> Features:
        """Return the embeddings of utterances `[n]`.

        Args:
            rows: Which utterances.
            level: "utterance" or "frame".
            device: Where gathered batches are put; an encoder that runs puts them where it is.
            pool: What heads on utterances read at most.
            layer: The number of the only layer to read; None for all.
            memory_gb: What is larger is read from disk by the mini-batch; None for a quarter of the machine's memory.

        Raises:
            FitError: frames or deviations that are not kept, or audio that cannot be used.
        """

    def for_folds(self, plan: FoldPlan) -> Sequence[EmbeddingSource]:
        return [self] * len(plan.folds)
