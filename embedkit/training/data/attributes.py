"""Which utterances of a store have ratings on dimensions, such as valence and arousal, that heads can learn."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embedkit.corpora.texts import read_number
from embedkit.errors import FitError
from embedkit.losses.base import Loss
from embedkit.store.layout import MEASURED_COLUMNS, STANDARD_COLUMNS
from embedkit.training.data.folds import Names
from embedkit.training.data.source import Source
from embedkit.training.data.task import TaskData, filter_rows, take_columns
from embedkit.wording import list_words

DEFAULT_LOSS = "ccc-regression"

OVERLAP = 0.7
"""What corpora have in common of the range of all their ratings; less is told, such as 1 to 5 of 1 to 7."""

_KEYS = ("std", "ci", "dev", "by_fold")
"""What follows a score's name in a run's row."""


def define_dimensions(store: Source, dimensions: Sequence[str], *, where: Sequence[str] = ()) -> TaskData:
    """Choose the utterances that are rated on all of some dimensions, whatever their label.

    Args:
        store: Where the utterances come from.
        dimensions: Columns of numbers, or of texts that are all numbers ("2.5") or say that one is missing ("", "nan").
        where: `COLUMN=VALUE` filters, all of which must hold.

    Raises:
        FitError: a column that is missing or holds no numbers, or fewer than two utterances that are rated.
        ConfigError, CorpusError, UnknownNameError: a filter that cannot be read or leaves nothing.
    """
    _require_columns(store, dimensions, "The targets need")
    rows = filter_rows(store, where)
    ratings = np.stack([read_ratings(store, name)[rows] for name in dimensions], axis=1)
    rated = np.isfinite(ratings).all(axis=1)
    if rated.sum() < 2:
        raise FitError(
            f"Of the {len(rows)} utterances chosen from {store.path}, {int(rated.sum())} have a number in each of "
            f"{', '.join(dimensions)}, at least two are needed; check --targets and --where."
        )
    rows = rows[rated]
    return TaskData(
        **take_columns(store, rows),
        classes=(),
        targets=ratings[rated],
        merge={},
        where=tuple(where),
        dimensions=tuple(dimensions),
        unrated=int(np.sum(~rated)),
    )


def find_rating_columns(store: Source) -> list[str]:
    """Name the columns of numbers that come from the corpus, sorted."""
    usual = (*STANDARD_COLUMNS, *MEASURED_COLUMNS)
    return sorted(name for name in store.columns if name not in usual and is_numeric(store, name))


def require_fitting_loss(loss: Loss, store: Source, dimensions: Sequence[str]) -> None:
    """Refuse a loss that cannot train what is asked for.

    Raises:
        FitError: a loss on classes where dimensions are to be predicted, or the other way round.
    """
    if dimensions and "dimensions" not in loss.tasks:
        raise FitError(
            f"The loss {loss.spec!r} tells classes apart, but --targets names emotional attributes to predict; "
            f"choose --loss {DEFAULT_LOSS}, or leave out --targets."
        )
    if not dimensions and "classes" not in loss.tasks:
        raise FitError(
            f"The loss {loss.spec!r} predicts emotional attributes; name columns of numbers with --targets "
            f"({_told(store)})."
        )


def read_second_task(loss: Loss, stores: Sequence[Source], parts: Sequence[TaskData]) -> NDArray[np.float64] | None:
    """Read the ratings that a loss has heads learn beside classes, `[utterances of all parts, ratings]`; else None.

    NaN where one is missing, and in all parts but the first, which are tested alone.

    Raises:
        FitError: a column that is missing or holds no numbers, or that holds none on the utterances taking part.
    """
    if not loss.ratings:
        return None
    store, data = stores[0], parts[0]
    _require_columns(store, loss.ratings, f"The loss {loss.spec!r} needs")
    own = np.stack([read_ratings(store, name)[data.rows] for name in loss.ratings], axis=1)
    for name, column in zip(loss.ratings, own.T, strict=True):
        if not np.isfinite(column).any():
            raise FitError(
                f"The loss {loss.spec!r} needs ratings, but none of {len(data)} utterances chosen from {store.path} "
                f"has a number in {name}; name other columns, {loss.name}:ratings=A+B, or choose another loss."
            )
    untold = np.full((sum(map(len, parts[1:])), len(loss.ratings)), np.nan)
    return np.concatenate([np.where(np.isfinite(own), own, np.nan), untold])


def _require_columns(store: Source, dimensions: Sequence[str], needed_by: str) -> None:
    if len(set(dimensions)) < len(dimensions):
        raise FitError(f"{needed_by} {', '.join(dimensions)}, which hold one twice; name each once.")
    for name in dimensions:
        if name in store.columns and is_numeric(store, name):
            continue
        nearest = difflib.get_close_matches(name, find_rating_columns(store), n=1)
        hint = f", did you mean {nearest[0]!r}?" if nearest else "."
        what = "holds texts" if name in store.columns else "is none of its columns"
        odd = first_text(store, name) if name in store.columns else None
        told = "" if odd is None or nearest else f" {odd!r} is no number."
        raise FitError(f"{needed_by} columns of numbers, but {name!r} {what}: {_told(store)}{hint}{told}")
    taken = {*_KEYS, *(f"{name}_{end}" for name in dimensions for end in _KEYS)}
    for name in dimensions:
        if name in taken:
            raise FitError(
                f"The target {name!r} would be mistaken for a result, such as the standard deviation of another one; "
                "rename the column."
            )


def _told(store: Source) -> str:
    names = find_rating_columns(store)
    return f"{store.corpus} has {', '.join(names)}" if names else f"{store.corpus} has no column of numbers"


def read_ratings(store: Source, name: str) -> NDArray[np.float64]:
    """Read a column of numbers, or of texts that are, `[utterances]`; NaN where one is missing."""
    column = store.column(name)
    if column.dtype.kind != "U":
        return column.astype(np.float64)
    return np.array([read_number(text) for text in column.tolist()], dtype=np.float64)


def first_text(store: Source, name: str) -> str | None:
    """Return a text that is no number; None where there is none."""
    return next((str(text) for text in store.column(name).tolist() if read_number(str(text)) is None), None)


def is_numeric(store: Source, name: str) -> bool:
    """Tell whether a column holds numbers, or texts that are, and nothing else."""
    column = store.column(name)
    if column.dtype.kind in "iuf":
        return True
    numbers = [read_number(text) for text in np.unique(column).tolist()] if column.dtype.kind == "U" else []
    return None not in numbers and any(number == number for number in numbers)


def compare_scales(ratings: NDArray[np.float64], corpora: Names, dimensions: Sequence[str]) -> list[str]:
    """Say of ratings `[utterances, dimensions]` where those of two corpora can hardly be on one scale."""
    notes = []
    for name, values in zip(dimensions, ratings.T, strict=True):
        ends = {
            one: (values[corpora == one].min(), values[corpora == one].max()) for one in dict.fromkeys(corpora.tolist())
        }
        lows, highs = zip(*ends.values(), strict=True)
        if min(highs) - max(lows) < OVERLAP * (max(highs) - min(lows)):
            shown = list_words(f"from {low:.3g} to {high:.3g} in {one}" for one, (low, high) in ends.items())
            notes.append(
                f"Ratings of {name} range {shown}: CCC punishes a difference in scale as it does any other; write them "
                "on one scale, if they are not."
            )
    return notes
