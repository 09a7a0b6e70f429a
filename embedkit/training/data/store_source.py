"""A store as an experiment reads it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
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
from embedkit.training.data.folds import Indices, Names
from embedkit.training.data.source import EmbeddingSource

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
