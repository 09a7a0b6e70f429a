"""Which utterances take part in a study, and under which labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedkit.corpora.base import Corpus, Utterance
from embedkit.corpora.selection import select
from embedkit.corpora.texts import as_text, expand_merge, find_doubtful, looking_like
from embedkit.errors import FitError
from embedkit.registry import unknown_name
from embedkit.store.layout import MEASURED_COLUMNS, STANDARD_COLUMNS
from embedkit.training.data.folds import CROSSED, Indices, Names
from embedkit.training.data.source import Source
from embedkit.wording import list_words

if TYPE_CHECKING:
    from embedkit.training.data.annotators import Annotators

LARGEST_EXACT = 2.0**53
"""Above this, neighbouring whole numbers are one float."""

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
        copies: Utterances left out because their recording is in already.
        annotators: What single annotators said; None where nobody asked.
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
    copies: int = 0
    annotators: Annotators | None = None

    def take(self, index: Indices) -> TaskData:
        """Keep some of the utterances, by their places `[utterances kept]`."""
        arrays = ("rows", "ids", "labels", "speakers", "sessions", "splits", "targets")
        annotators = self.annotators and self.annotators.take(index)
        return replace(self, annotators=annotators, **{name: getattr(self, name)[index] for name in arrays})

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
        merge: Labels, or patterns of labels, that count as another; None for the standard ones.
        where: `COLUMN=VALUE` filters, all of which must hold.

    Raises:
        FitError: an unknown label, fewer than two classes left.
        ConfigError, CorpusError, UnknownNameError: a filter that cannot be read or leaves nothing.
    """
    rows = filter_rows(store, where)
    original = store.column("label")
    merge = expand_merge(store.task["merge"] if merge is None else merge, original.tolist())
    _require_labels([*merge], original, store)
    labels = np.array([merge.get(label, label) for label in original[rows].tolist()], dtype=np.str_)
    wanted = list(classes if classes is not None else store.usual_classes(merge)) or sorted({*labels.tolist()})
    if len(set(wanted)) < len(wanted):
        raise FitError(f"The classes {', '.join(wanted)} hold one twice; name each once.")
    if classes is not None:
        _require_labels(wanted, np.array([*original.tolist(), *merge.values()]), store)
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
        **{**take_columns(store, rows), "labels": labels},
        classes=tuple(present),
        targets=np.array([place[label] for label in labels.tolist()], dtype=np.int64),
        merge=merge,
        where=tuple(where),
    )


def take_columns(store: Source, rows: Indices) -> dict[str, Any]:
    """Return rows and their columns, `[utterances]` each, as `TaskData` calls them."""
    columns = ("id", "label", "speaker", "session", "split")
    return {"rows": rows, **{f"{name}s": store.column(name)[rows] for name in columns}}


def fold_column(store: Source, data: TaskData, kind: str) -> Names | None:
    """Return the column `[utterances]` that folds rotate over; None for the kinds that need none.

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
    values = store.column(column)
    if values.dtype.kind == "f" and np.any(np.abs(values) > LARGEST_EXACT):
        raise FitError(
            f"The column {column!r} of {store.path} was kept as numbers too large to be told apart; extract the corpus "
            "again, which keeps them as texts."
        )
    return np.array([str(value) for value in values[data.rows].tolist()], dtype=np.str_)


def require_frames(store: Source, reader: str) -> None:
    """Refuse a store without frames with the option that would have kept them."""
    if not store.has_frames:
        raise FitError(
            f"{reader[0].upper()}{reader[1:]} reads frames, but {store.path} keeps utterance means only; "
            "extract with --level both, or choose --head linear, superb or mlp."
        )


def filter_rows(store: Source, where: Sequence[str]) -> Indices:
    """Return the rows `[n]` of a store for which every `COLUMN=VALUE` filter holds.

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


def find_doubtful_names(store: Source, data: TaskData, folds: str) -> list[str]:
    """Say which labels, speakers, sessions and fold columns are written in several ways, or as missing values.

    Labels that take no part count where they look like one that does.
    """
    kind = folds.removeprefix(CROSSED)
    columns = {"speaker": data.speakers.tolist(), "session": data.sessions.tolist()}
    if kind in store.columns and kind not in columns:
        columns[kind] = [as_text(value) for value in store.column(kind)[data.rows].tolist()]
    if not data.dimensions:
        labels = store.column("label")[filter_rows(store, data.where)].tolist()
        every = [data.merge.get(label, label) for label in labels]
        columns = {"label": looking_like(every, data.classes), **columns}
    return [sentence for name, values in columns.items() for sentence in find_doubtful(name, values)]


def find_lonely_classes(data: TaskData) -> list[str]:
    """Say which classes a single speaker has: nothing shows how these vary between speakers."""
    owners = zip(data.labels.tolist(), data.speakers.tolist(), strict=True)
    counts = Counter(label for label, speaker in set(owners) if speaker)
    lonely = [repr(name) for name in data.classes if counts[name] == 1]
    return [
        f"A single speaker has {name}: folds by speaker test what no head has learned, and intervals assume that "
        "speakers differ in it as in other classes."
        for name in filter(None, [list_words(lonely)])
    ]


def _plain(value: str | float) -> str | float:
    return value if isinstance(value, str) else float(value)


def _require_labels(wanted: Sequence[str], labels: Names, store: Source) -> None:
    known = sorted(set(labels.tolist()))
    for label in wanted:
        if label not in known:
            raise FitError(unknown_name(f"label of {store.corpus}", label, known))
