"""How long what a study lacks will take, measured on a few utterances and on two epochs of a few heads."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from embedkit.corpora import Corpus
from embedkit.devices import resolve_device
from embedkit.extraction.columns import corpus_columns, describe_corpus
from embedkit.store import Store, StoreContent, UtteranceEmbedding, open_store, write_store
from embedkit.training.cross_validation import count_heads, train_losses
from embedkit.training.data.features import Features, FrameFeatures, UtteranceFeatures
from embedkit.training.data.folds import Fold, Indices
from embedkit.training.experiment import Experiment

UTTERANCES = {"cpu": 8, "cuda": 256, "mps": 32}
"""How many are encoded to measure an encoder: some batches."""

MOST_UTTERANCES = {"utterance": 1500, "frame": 100}
"""Heads are measured on so many of a corpus's utterances."""

BACKWARD = 3
"""How much longer a pass takes that trains the encoder: the gradient costs twice the pass itself."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A few utterances of a corpus as an encoder makes them.

    Attributes:
        store: Their store.
        pace: Seconds that the encoder takes for an utterance; None where it was not measured.
    """

    store: Store
    pace: float | None


class RuntimeEstimator:
    """Measures; what it writes is gone afterwards.

    Args:
        folder: For the stores of a few utterances.
        extract: What runs an extraction.
        options: Of the extraction.
    """

    def __init__(self, folder: Path, extract: Callable[..., Store], options: Mapping[str, Any]) -> None:
        self.folder, self.extract, self.options = folder, extract, options
        self._samples: dict[tuple[str, str], Sample] = {}

    def sample(self, corpus: Corpus, encoder: str, level: str | None) -> Sample:
        """Encode a few utterances, once for each corpus and encoder.

        Raises:
            EmbedkitError: what extracting the corpus would raise.
        """
        key = corpus.name, encoder
        if key not in self._samples:
            used = resolve_device(self.options.get("device") or "auto").type
            store, marks = self._encode(corpus, encoder, level, UTTERANCES[used], f"{len(self._samples)}.h5")
            if len(marks) < 3:
                # The only batch waited for libraries, which all other utterances do not.
                _, marks = self._encode(corpus, encoder, level, UTTERANCES[used], f"{len(self._samples)}-again.h5")
            # Of several batches the first one, which waits too, is left out.
            (start, before), (end, done) = marks[1 if len(marks) > 2 else 0], marks[-1]
            each = float(np.mean(store.column("duration")))
            pace = (end - start) / (done - before) * each if done > before else None
            self._samples[key] = Sample(store=store, pace=pace if self.options.get("engine") != "ray" else None)
        return self._samples[key]

    def _encode(
        self, corpus: Corpus, encoder: str, level: str | None, limit: int, name: str
    ) -> tuple[Store, list[tuple[float, float]]]:
        marks: list[tuple[float, float]] = []
        store = self.extract(
            corpus,
            encoder=encoder,
            **{**self.options, "level": level, "where": (), "limit": limit, "engine": "local"},
            out=self.folder / name,
            progress=lambda done, _: marks.append((time.perf_counter(), done)),
            tell=lambda _: None,
        )
        return store, marks

    def outline(self, corpus: Corpus, store: Store, stem: str) -> Store:
        """Write a store like another, of all utterances with one number each: enough to plan folds on."""
        ids = sorted(utterance.id for utterance in corpus.utterances)
        framed = store.has_frames
        value = np.zeros((len(store.layers), 1), dtype=np.float32)
        row = UtteranceEmbedding(value, value, value[None] if framed else None)
        content = StoreContent(
            corpus=corpus.name,
            corpus_info=describe_corpus(corpus),
            encoder={**store.encoder, "dimensions": 1},
            fingerprint=store.fingerprint,
            columns=corpus_columns(corpus, ids),
            frame_dtype="float32" if framed else None,
            frame_counts=[1] * len(ids) if framed else None,
            extraction=store.extraction,
        )
        path = self.folder / corpus.name / f"{stem}.h5"
        path.parent.mkdir(exist_ok=True)
        write_store(path, content, (row for _ in ids))
        return open_store(path)


@contextmanager
def open_estimator(extract: Callable[..., Store], options: Mapping[str, Any]) -> Iterator[RuntimeEstimator]:
    """Measure in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="embedkit-") as folder:
        yield RuntimeEstimator(Path(folder), extract, options)


def training_seconds(experiments: Sequence[Experiment], store: Store, threads: int) -> float:
    """Estimate how long heads take on stored embeddings, from one epoch and two of some of them.

    The embeddings are random, of the store's shape, so that nothing has to be extracted for it.

    Args:
        experiments: They differ in their loss and their layer alone.
        store: Embeddings of that encoder, of any utterances.
        threads: Stacks trained side by side.
    """
    experiment = experiments[0]
    step = max(1, len(experiment.data) // MOST_UTTERANCES[experiment.level])
    folds = experiment.data.plan.folds[: 1 if experiment.level == "frame" else None]
    plan = replace(experiment.data.plan, folds=tuple(_thin(fold, step) for fold in folds))
    features = _random_features(experiment, store)

    def train(epochs: int) -> None:
        config = replace(experiment.training_config, epochs=epochs, patience=None)
        train_losses(
            features,
            experiment.data.targets,
            plan,
            config,
            [experiment.loss],
            grid=experiment.grid,
            seeds=(0,),
            threads=threads,
        )

    if experiment.fitted:
        return len(experiments) * len(experiment.data.plan.folds) / len(plan.folds) * step * _timed(lambda: train(1))
    # The first time also waits for libraries and processes.
    train(1)
    once, twice = _timed(lambda: train(1)), _timed(lambda: train(2))
    epoch = max(twice - once, 0.0)
    heads = sum(one.count_heads() for one in experiments) / count_heads(plan, len(experiment.grid), 1)
    return heads * (max(once - epoch, 0.0) + epoch * step * (experiment.options.epochs or 1))


def tuning_seconds(experiments: Sequence[Experiment], pace: float) -> float:
    """Estimate how long encoders take to train with their heads, from the time of an utterance's pass."""
    return sum(
        BACKWARD * pace * experiment.count_heads() * (experiment.options.epochs or 1) * len(experiment.data)
        for experiment in experiments
    )


def _timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def _thin(fold: Fold, step: int) -> Fold:
    pairs = tuple((train[::step], validate[::step]) for train, validate in fold.validations)
    return replace(fold, train=fold.train[::step], test=fold.test[::step], validations=pairs)


class _RandomMeans(UtteranceFeatures):
    """A thousand random means that stand for any number of utterances."""

    def __init__(self, count: int, layers: int, dimensions: int, means: int, device: torch.device) -> None:
        values = np.random.default_rng(0).standard_normal((min(count, 1000), layers, dimensions), dtype=np.float32)
        super().__init__(values, device, means)
        self.count = count

    def __len__(self) -> int:
        return self.count

    def read(self, index: Indices) -> Tensor:
        return super().read(index % len(self.values))


def _random_features(experiment: Experiment, store: Store) -> Features:
    layers, count = len(store.layers) if experiment.layer is None else 1, len(experiment.data)
    if experiment.level == "utterance":
        read = 2 if experiment.pool == "mean+std" else 1
        return _RandomMeans(count, layers, read * store.dimensions, store.dimensions, experiment.device)
    lengths = np.resize(np.diff(store.frame_offsets), count)
    shape = (layers, store.dimensions)
    return FrameFeatures(
        np.random.default_rng(0).standard_normal((int(lengths.max()), *shape), dtype=np.float32),
        starts=np.zeros(count, dtype=np.int64),
        lengths=lengths,
        means=np.broadcast_to(np.zeros((1, *shape), dtype=np.float32), (count, *shape)),
        deviations=np.broadcast_to(np.ones((1, *shape), dtype=np.float32), (count, *shape)),
        device=experiment.device,
    )
