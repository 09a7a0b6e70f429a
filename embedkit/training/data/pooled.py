"""Several corpora as one: their stores of one encoder end to end, and whose utterances are whose."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embedkit.corpora.texts import as_text, expand_merge
from embedkit.errors import FitError
from embedkit.heads.base import Pool
from embedkit.store.reader import Store
from embedkit.system import safe_name
from embedkit.training.data.cross_corpus import qualify, share_classes
from embedkit.training.data.features import Features, memory_for
from embedkit.training.data.folds import FoldPlan, Indices, Names
from embedkit.training.data.joined_features import join_features
from embedkit.training.data.source import EmbeddingSource, Source
from embedkit.training.data.store_source import StoreSource
from embedkit.training.data.task import TaskData, filter_rows
from embedkit.wording import count_noun, list_some

CORPUS = "corpus"
"""The column that says which corpus an utterance is of."""

QUALIFIED = ("id", "speaker", "session")
"""Columns whose values mean something within their corpus alone: `emodb/03`."""

SHOWN = 6
"""Labels that a sentence counts."""


class PooledSource(EmbeddingSource):
    """The embeddings of several corpora by one encoder, in the order of the corpora's names.

    Labels are as each corpus's usual task has them; ids, speakers and sessions carry the name of their corpus.

    Raises:
        FitError: stores of different encoders, of one corpus, or of an encoder that was fine-tuned.
    """

    fine_tuned = False

    def __init__(self, parts: Sequence[StoreSource]) -> None:
        self.parts = sorted(parts, key=lambda part: (part.corpus, part.digest))
        _require_poolable(self.parts)
        first = self.parts[0]
        self.ends = np.cumsum([len(part) for part in self.parts])
        self.corpus, stems = "+".join(self.names), {part.path.stem for part in self.parts}
        # Where a single store would lie: stores that are named after their corpora go by their encoder.
        name = stems.pop() if len(stems) == 1 else safe_name(str(first.encoder.get("name", "")), default="encoder")
        self.path = Path(self.corpus) / f"{name}.h5"
        self.task: dict[str, Any] = {"classes": [], "merge": {}}
        self.encoder, self.extraction, self.trained_on = first.encoder, first.extraction, {}
        self.fingerprint, self.layers = first.fingerprint, first.layers
        self.digest = hashlib.sha256(" ".join(part.digest for part in self.parts).encode()).hexdigest()
        self.has_frames = all(part.has_frames for part in self.parts)
        shared = (name for name in first.columns if all(name in part.columns for part in self.parts))
        self.columns = tuple(dict.fromkeys([*shared, CORPUS]))
        self.usual_pool, self.default_head = first.usual_pool, first.default_head

    def __len__(self) -> int:
        return int(self.ends[-1])

    def column(self, name: str) -> NDArray[Any]:
        if name == CORPUS:
            return self.corpora_of(np.arange(len(self)))
        found = [self._labels(part) if name == "label" else part.column(name) for part in self.parts]
        if name in QUALIFIED:
            found = [qualify(own, part.corpus) for own, part in zip(found, self.parts, strict=True)]
        if len({own.dtype.kind == "U" for own in found}) > 1:
            found = [np.array([as_text(value) for value in own.tolist()], dtype=np.str_) for own in found]
        return np.concatenate(found)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(part.corpus for part in self.parts)

    def corpora_of(self, rows: Indices) -> Names:
        return np.array(self.names, dtype=np.str_)[np.searchsorted(self.ends, rows, side="right")]

    def audio_digests(self) -> NDArray[np.str_] | None:
        known = [digests for part in self.parts if (digests := part.audio_digests()) is not None]
        return np.concatenate(known) if len(known) == len(self.parts) else None

    def audio_files(self) -> Names:
        return np.concatenate([part.audio_files() for part in self.parts])

    def usual_classes(self, merge: Mapping[str, str]) -> list[str]:
        """Name the classes that all corpora have, of those that each one's usual task takes.

        Raises:
            FitError: fewer than two.
        """
        told = {}
        for part in self.parts:
            labels = {merge.get(label, label) for label in self._labels(part).tolist()}
            usual = {merge.get(label, label) for label in part.task["classes"]} or labels
            told[part.corpus] = labels & usual
        return share_classes(told, "count labels as others with --merge, or name the classes with --classes")

    def divide(self, data: TaskData) -> Sequence[tuple[Source, TaskData]]:
        owners = np.searchsorted(self.ends, data.rows, side="right")
        found = []
        for place, part in enumerate(self.parts):
            own = data.take(np.flatnonzero(owners == place))
            usual = expand_merge(part.task["merge"], part.column("label").tolist())
            merge = {**data.merge, **{old: data.merge.get(new, new) for old, new in usual.items()}}
            found.append((part, replace(own, rows=own.rows - (self.ends[place] - len(part)), merge=merge)))
        return found

    def describe_labels(self, data: TaskData) -> list[str]:
        told = []
        rows = filter_rows(self, data.where)
        owners, labels = self.corpora_of(rows), self.column("label")[rows]
        for part in self.parts:
            merge = expand_merge(part.task["merge"], part.column("label").tolist())
            told += [f"{old} counted as {new} in {part.corpus}" for old, new in merge.items() if old != new]
            own = [data.merge.get(label, label) for label in labels[owners == part.corpus].tolist()]
            counts = Counter(label for label in own if label not in data.classes)
            if data.classes and counts:
                shown = list_some([f"{label} {count}" for label, count in counts.most_common()], SHOWN)
                noun = count_noun(counts.total(), "utterance")
                told.append(f"left out {noun} of {part.corpus} with other labels ({shown})")
            told += [f"{part.corpus} has no utterances of {name}" for name in data.classes if name not in own]
        return told

    def require_undamaged(self) -> None:
        for part in self.parts:
            part.require_undamaged()

    def describe(self, plan: FoldPlan) -> dict[str, Any]:
        return {**super().describe(plan), "stores": [part.describe(plan) for part in self.parts]}

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
        owners = np.searchsorted(self.ends, rows, side="right")
        assert bool(np.all(np.diff(owners) >= 0)), "rows are in order"
        found = []
        for place, part in enumerate(self.parts):
            own = rows[owners == place] - (self.ends[place] - len(part))
            share = memory_for(memory_gb) * len(part) / len(self)
            found.append(part.features(own, level, device, pool=pool, layer=layer, memory_gb=share))
        return join_features(found)

    def _labels(self, part: StoreSource) -> Names:
        labels = part.column("label").tolist()
        merge = expand_merge(part.task["merge"], labels)
        return np.array([merge.get(label, label) for label in labels], dtype=np.str_)


def pool_stores(stores: Sequence[Store]) -> PooledSource:
    """Make one source of stores of several corpora.

    Raises:
        FitError: a single store, or stores that cannot be pooled.
    """
    if len(stores) < 2:
        raise FitError(
            f"Found {count_noun(len(stores), 'store')} to pool, expected one for each of at least two corpora; name "
            "more, or leave out --pool."
        )
    return PooledSource([StoreSource(store) for store in stores])


def _require_poolable(parts: Sequence[StoreSource]) -> None:
    first = parts[0]
    for before, part in pairwise(parts):
        if part.corpus == before.corpus:
            raise FitError(
                f"Two of the stores to pool, {before.path} and {part.path}, hold {part.corpus}; name each corpus once."
            )
    for part in parts:
        if part.trained_on:
            raise FitError(
                f"The encoder of {part.path} was fine-tuned on {part.trained_on.get('corpus')}; such stores cannot be "
                "pooled: leave out --pool."
            )
        if (part.fingerprint, part.layers) != (first.fingerprint, first.layers):
            raise FitError(
                f"The stores {first.path} and {part.path} were made with different encoders or options"
                f"{_tell_difference(first, part)}; extract all corpora alike to pool them."
            )


def _tell_difference(first: StoreSource, part: StoreSource) -> str:
    for name in ("name", "layers", "precision"):
        values = [one.encoder.get(name) for one in (first, part)]
        if values[0] != values[1]:
            return f" ({name} {values[0]} and {values[1]})"
    return ""
