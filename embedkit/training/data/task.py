"""Which utterances of a store take part in a study, under which labels, and their embeddings."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embedkit.corpora.base import Corpus, Utterance
from embedkit.corpora.selection import select
from embedkit.errors import FitError, StoreError
from embedkit.registry import unknown_name
from embedkit.store.layout import MEASURED_COLUMNS, STANDARD_COLUMNS
from embedkit.store.reader import Store
from embedkit.training.data.features import CHUNK, Features, FrameFeatures, StreamedFeatures, UtteranceFeatures
from embedkit.training.data.folds import CROSSED, Indices, Names
from embedkit.training.data.source import Source

_FIELDS = ("id", "path", "label", "speaker", "session", "split")


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """The labelled utterances of a study; all arrays have one entry per utterance taking part.

    Attributes:
        rows: Their rows in the store.
        ids, labels, speakers, sessions, splits: Their columns; labels after merging.
        classes: The classes, sorted as asked for (alphabetically where nothing was asked); none for dimensions.
        targets: Class index of each utterance, or its ratings, float64 `[utterances, dimensions]`.
        merge, where: How labels were merged and utterances filtered.
        dimensions: The columns of ratings that are predicted in place of classes.
        unrated: Utterances left out because a rating is missing.
    """

    rows: Indices
    ids: Names
    labels: Names
    speakers: Names
    sessions: Names
    splits: Names
    classes: tuple[str, ...]
    targets: NDArray[Any]
    merge: Mapping[str, str]
    where: tuple[str, ...]
    dimensions: tuple[str, ...] = ()
    unrated: int = 0

    @property
    def outputs(self) -> int:
        """Numbers that a head gives for an utterance."""
        return len(self.dimensions or self.classes)

    @property
    def score_name(self) -> str:
        """What the score is called that everything is chosen by."""
        return "CCC" if self.dimensions else "UA"

    def __len__(self) -> int:
        return len(self.rows)


def define_task(
    store: Source,
    *,
    classes: Sequence[str] | None = None,
    merge: Mapping[str, str] | None = None,
    where: Sequence[str] = (),
) -> TaskData:
    """Choose utterances and labels: the corpus's standard task, unless classes or merged labels are given.

    Args:
        store: Where the utterances come from.
        classes: Labels that take part, after merging; None for the standard ones (all labels where there are none).
        merge: Labels that count as another; None for the standard ones.
        where: `COLUMN=VALUE` filters, all of which must hold.

    Raises:
        FitError: an unknown label, fewer than two classes left.
        ConfigError, CorpusError, UnknownNameError: a filter that cannot be read or leaves nothing.
    """
    rows = filter_rows(store, where)
    merge = dict(store.task["merge"] if merge is None else merge)
    original = store.labels[rows]
    _require_labels([*merge], store.labels, store)
    labels = np.array([merge.get(label, label) for label in original.tolist()], dtype=np.str_)
    wanted = list(classes if classes is not None else store.task["classes"]) or sorted({*labels.tolist()})
    if len(set(wanted)) < len(wanted):
        raise FitError(f"The classes {', '.join(wanted)} hold one twice; name each once.")
    if classes is not None:
        _require_labels(wanted, np.array([*store.labels.tolist(), *merge.values()]), store)
    taking_part = np.isin(labels, wanted)
    rows, labels = rows[taking_part], labels[taking_part]
    present = [label for label in wanted if label in set(labels.tolist())]
    if len(present) < 2:
        raise FitError(
            f"The utterances chosen from {store.path} hold {len(present)} class ({', '.join(present) or 'none'}), "
            "at least two are needed; check --classes, --where and the corpus's labels."
        )
    place = {label: number for number, label in enumerate(present)}
    return TaskData(
        rows=rows,
        ids=store.ids[rows],
        labels=labels,
        speakers=store.speakers[rows],
        sessions=store.sessions[rows],
        splits=store.splits[rows],
        classes=tuple(present),
        targets=np.array([place[label] for label in labels.tolist()], dtype=np.int64),
        merge=merge,
        where=tuple(where),
    )


def take_all(store: Source) -> TaskData:
    """Take every utterance as it is, to be scored without a task."""
    return TaskData(
        rows=np.arange(len(store)),
        ids=store.ids,
        labels=store.labels,
        speakers=store.speakers,
        sessions=store.sessions,
        splits=store.splits,
        classes=(),
        targets=np.zeros(len(store), dtype=np.int64),
        merge={},
        where=(),
    )


def fold_column(store: Source, data: TaskData, kind: str) -> Names | None:
    """Return the column that folds rotate over; None for the kinds that need none.

    Raises:
        FitError: the store has no such column.
    """
    if kind in ("speaker", "split", "random"):
        return None
    column = kind.removeprefix(CROSSED)
    if column not in store.columns:
        own = [name for name in store.columns if name not in (*STANDARD_COLUMNS, *MEASURED_COLUMNS)]
        kinds = ["speaker", "session", "split", "random"]
        raise FitError(unknown_name("fold column", column, [*kinds, *own, *(f"{CROSSED}{name}" for name in own)]))
    return np.array([str(value) for value in store.column(column)[data.rows].tolist()], dtype=np.str_)


def load_features(
    store: Store,
    data: TaskData,
    level: str,
    device: torch.device | str = "cpu",
    *,
    layer: int | None = None,
    memory_gb: float | None = None,
) -> Features:
    """Load the embeddings a head reads: utterance means into memory, frames from memory or from disk.

    Args:
        layer: The number of the only layer to read; None for all.
        memory_gb: What is larger is read from disk by the mini-batch; None for a quarter of the machine's memory.

    Raises:
        FitError: the head needs frames and the store keeps none.
    """
    place = slice(None) if layer is None else slice(store.layers.index(layer), store.layers.index(layer) + 1)
    load = _load_means if level == "utterance" else _load_frames
    return load(store, data, place, device, memory_gb)


def _load_means(
    store: Store, data: TaskData, place: slice, device: torch.device | str, memory_gb: float | None
) -> UtteranceFeatures:
    values = store.mean_values
    if fits_in_memory(values.nbytes, memory_gb):
        return UtteranceFeatures(_means(store)[data.rows][:, place], device)
    for start in range(0, len(values), CHUNK):
        _require_finite(store, values[start : start + CHUNK])
    return StreamedFeatures(values, data.rows, device, place)


def _load_frames(
    store: Store, data: TaskData, place: slice, device: torch.device | str, memory_gb: float | None
) -> FrameFeatures:
    require_frames(store, "this head")
    offsets = store.frame_offsets
    values = store.frame_values
    if fits_in_memory(values.nbytes, memory_gb):
        values = np.array(values)
    return FrameFeatures(
        values,
        starts=offsets[data.rows],
        lengths=np.diff(offsets)[data.rows],
        means=_means(store)[data.rows][:, place],
        deviations=np.asarray(store.std(layer="all"))[data.rows][:, place],
        device=device,
        layers=place,
    )


def require_frames(store: Source, reader: str) -> None:
    """Refuse a store without frames with the option that would have kept them."""
    if not store.has_frames:
        raise FitError(
            f"{reader[0].upper()}{reader[1:]} reads frames, but {store.path} keeps utterance means only; "
            "extract with --level both, or choose --head linear, superb or mlp."
        )


def _means(store: Store) -> NDArray[np.float32]:
    means: NDArray[np.float32] = store.mean(layer="all")
    _require_finite(store, means)
    return means


def _require_finite(store: Store, values: NDArray[np.floating[Any]]) -> None:
    if not np.isfinite(values).all():
        raise StoreError(f"The store {store.path} holds values that are not finite; run embedkit verify on it.")


def fits_in_memory(size: int, memory_gb: float | None) -> bool:
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return size < (physical / 4 if memory_gb is None else memory_gb * 1e9)


def filter_rows(store: Source, where: Sequence[str]) -> Indices:
    """Return the rows of a store for which every `COLUMN=VALUE` filter holds.

    Raises:
        ConfigError, CorpusError, UnknownNameError: a filter that cannot be read or leaves nothing.
    """
    if not where:
        return np.arange(len(store))
    further = [name for name in store.columns if name not in _FIELDS]
    columns = {name: store.column(name).tolist() for name in (*_FIELDS, *further)}
    utterances = [
        Utterance(
            **{name: columns[name][row] for name in _FIELDS},
            columns={name: _plain(columns[name][row]) for name in further},
        )
        for row in range(len(store))
    ]
    corpus = Corpus(name=store.corpus, kind="store", root=store.path.parent, utterances=tuple(utterances))
    kept = {utterance.id for utterance in select(corpus, where).utterances}
    return np.flatnonzero([name in kept for name in columns["id"]])


def _plain(value: str | float) -> str | float:
    return value if isinstance(value, str) else float(value)


def _require_labels(wanted: Sequence[str], labels: Names, store: Source) -> None:
    known = sorted(set(labels.tolist()))
    for label in wanted:
        if label not in known:
            raise FitError(unknown_name(f"label of {store.corpus}", label, known))
