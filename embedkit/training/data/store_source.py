"""A store as an experiment reads it, and the stores of one fine-tuning run, one for each fold."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from embedkit.corpora.manifest import SUFFIXES as MANIFESTS
from embedkit.errors import FitError, StoreError
from embedkit.heads.base import Pool
from embedkit.store.reader import Store, open_store
from embedkit.store.verify import require_undamaged
from embedkit.training.data.features import (
    CHUNK,
    MOST_HELD,
    Features,
    FrameFeatures,
    StreamedFeatures,
    UtteranceFeatures,
    cut_chunks,
    fits_in_memory,
)
from embedkit.training.data.folds import FoldPlan, Indices, Names, shift_fold
from embedkit.training.data.source import EmbeddingSource, Source

Statistic: TypeAlias = Literal["mean", "std"]

HEADS_BY_ENCODER = {"mfcc": "lstm", "logmel": "cnn", "vggish": "mlp", "egemaps-lld": "lstm", "compare-lld": "lstm"}
"""Default heads by an encoder's name or family, for stores that do not say what theirs is."""

DEVIATING = ("mfcc", "logmel", "egemaps-lld", "compare-lld")
"""Encoders by name whose deviations over frames tell more than their means; see benchmarks/README.md."""


def as_store(store: Any) -> Store:
    """Open a store that is given by its path.

    Raises:
        FitError: a corpus, or the path of one.
        StoreError: no store, or a damaged one.
    """
    if isinstance(store, Store):
        return store
    is_path = isinstance(store, str | os.PathLike)
    if not is_path or Path(store).is_dir() or Path(store).suffix in MANIFESTS:
        raise FitError(
            f"{store} is no store but a corpus, it seems; run embedkit extract {store} --encoder NAME first, or run "
            "the encoder in every epoch with --mode frozen --encoder NAME."
        )
    return open_store(store)


class StoreSource(EmbeddingSource):
    """The embeddings of a store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.path, self.corpus, self.task, self.columns = store.path, store.corpus, store.task, store.columns
        self.encoder, self.extraction, self.trained_on = store.encoder, store.extraction, store.trained_on
        self.fingerprint, self.digest, self.fine_tuned = store.fingerprint, store.digest, bool(store.trained_on)
        self.layers, self.has_frames = store.layers, store.has_frames
        names = [str(self.encoder.get(key)) for key in ("name", "family")]
        self.usual_pool = "mean+std" if any(name in DEVIATING for name in names) else "mean"
        known = [HEADS_BY_ENCODER[name] for name in names if name in HEADS_BY_ENCODER]
        self.default_head = str(self.extraction.get("default_head", [*known, "linear"][0]))

    def __len__(self) -> int:
        return len(self.store)

    def column(self, name: str) -> NDArray[Any]:
        return self.store.column(name)

    def audio_digests(self) -> NDArray[np.str_] | None:
        return self.column("audio_digest") if "audio_digest" in self.columns else None

    def audio_files(self) -> Names:
        root = self.store.corpus_info["root"]
        if not root or "path" not in self.columns:
            return np.full(len(self), "")
        return np.array([os.path.normpath(os.path.join(root, path)) for path in self.column("path").tolist()])

    def require_undamaged(self) -> None:
        require_undamaged(self.store)

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
        """Load the embeddings of rows `[n]`: utterance means into memory, frames from memory or from disk."""
        place = slice(None) if layer is None else slice(self.layers.index(layer), self.layers.index(layer) + 1)
        if level == "utterance":
            return self._load_pooled(rows, place, device, pool, memory_gb)
        offsets, values = self.store.frame_offsets, self.store.frame_values
        return FrameFeatures(
            np.array(values) if fits_in_memory(values.nbytes, memory_gb) else values,
            starts=offsets[rows],
            lengths=np.diff(offsets)[rows],
            means=self._load(rows, place, ["mean"]),
            deviations=self._load(rows, place, ["std"]),
            device=device,
            layers=place,
        )

    def _load_pooled(
        self, rows: Indices, place: slice, device: torch.device | str, pool: Pool, memory_gb: float | None
    ) -> UtteranceFeatures:
        names: list[Statistic] = ["mean", "std"] if pool == "mean+std" else ["mean"]
        shape = (len(self.layers[place]), self.store.dimensions * len(names))
        if fits_in_memory(4 * len(rows) * math.prod(shape), memory_gb, MOST_HELD):
            return UtteranceFeatures(self._load(rows, place, names), device, means=self.store.dimensions)
        for chunk in cut_chunks(rows):
            self._take(chunk, place, names)
        take = partial(self._take, place=place, names=names)
        return StreamedFeatures(take, rows, shape, device, means=self.store.dimensions)

    def _load(self, rows: Indices, place: slice, names: Sequence[Statistic]) -> NDArray[np.float32]:
        """Read rows into one array, without holding any of them twice."""
        values = np.empty((len(rows), len(self.layers[place]), self.store.dimensions * len(names)), dtype=np.float32)
        for start in range(0, len(rows), CHUNK):
            values[start : start + CHUNK] = self._take(rows[start : start + CHUNK], place, names)
        return values

    def _take(self, rows: Indices, place: slice, names: Sequence[Statistic]) -> NDArray[np.float32]:
        """Read the statistics of rows side by side, `[n, layers, dimensions]`."""
        parts = [self.store.take(name, rows)[:, place] for name in names]
        values = np.ascontiguousarray(parts[0]) if len(parts) == 1 else np.concatenate(parts, axis=-1)
        if not np.isfinite(values).all():
            raise StoreError(f"The store {self.path} holds values that are not finite; run embedkit verify on it.")
        return values


class FoldStores(StoreSource):
    """Stores of the same utterances whose encoders were trained on the other folds of one study.

    Args:
        stores: All of one run and seed.

    Raises:
        FitError: two stores of one fold, or stores that do not hold the same utterances.
    """

    def __init__(self, stores: Sequence[Store]) -> None:
        stores = sorted(stores, key=lambda store: int(store.trained_on["fold_number"]))
        names = [str(store.trained_on["fold"]) for store in stores]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise FitError(f"Two of the stores belong to the fold {twice!r} of one run; name one for each fold.")
        for store in stores[1:]:
            _require_alike(stores[0], store)
        self.stores = {name: StoreSource(store) for name, store in zip(names, stores, strict=True)}
        # What all have alike is read from the first one.
        super().__init__(stores[0])
        seen, self.trained_on, self.fine_tuned = stores[0].trained_on, {}, True
        self.usual_folds = str(seen["folds"])
        # Where a single store would lie, named after the study.
        self.path = self.path.with_name(f"{seen['base']}-{seen['study']}-seed-{seen['seed']}.h5")
        self.fingerprint, self.digest = (
            hashlib.sha256(" ".join(parts).encode()).hexdigest()
            for parts in ([store.fingerprint for store in stores], [store.digest for store in stores])
        )

    def for_folds(self, plan: FoldPlan) -> list[StoreSource]:
        missing = [fold.name for fold in plan.folds if fold.name not in self.stores]
        if missing:
            raise FitError(
                f"There is no store of the fold {missing[0]!r} by {plan.kind} among those of {self.path.stem} (there "
                f"are {', '.join(self.stores)}); extract with the encoders of all folds, and leave --folds to the run."
            )
        return [self.stores[fold.name] for fold in plan.folds]

    def describe(self, plan: FoldPlan) -> dict[str, Any]:
        return {**super().describe(plan), "encoders": [store.encoder for store in self.for_folds(plan)]}

    def require_undamaged(self) -> None:
        for store in self.stores.values():
            store.require_undamaged()


def _require_alike(first: Store, store: Store) -> None:
    alike = np.array_equal(store.ids, first.ids) and np.array_equal(store.labels, first.labels)
    shapes = [
        {"layers": one.layers, "dimensions": one.dimensions, "levels": one.levels, "frame dtype": one.frame_dtype}
        for one in (first, store)
    ]
    differing = [name for name, value in shapes[0].items() if shapes[1][name] != value]
    if differing or not alike:
        raise FitError(
            f"{first.path} and {store.path} belong to one run but differ in their "
            f"{differing[0] if differing else 'utterances'}; extract the corpus with the encoders of all folds alike."
        )


def spread_folds(plan: FoldPlan, utterances: int) -> FoldPlan:
    """Move every fold into its own store's rows of `JoinedFeatures`."""
    folds = tuple(shift_fold(fold, place * utterances, fold.name) for place, fold in enumerate(plan.folds))
    return replace(plan, folds=folds)


def group_stores(stores: Sequence[Store]) -> list[Source]:
    """Make sources of stores: one of those of one fine-tuning run and seed together, one of every other store."""
    grouped: dict[Any, list[Store]] = {}
    for place, store in enumerate(stores):
        seen = store.trained_on
        study = (store.corpus, seen.get("study"), seen.get("seed")) if seen.get("study") else place
        grouped.setdefault(study, []).append(store)
    return [FoldStores(own) if len(own) > 1 else StoreSource(own[0]) for own in grouped.values()]
