"""What single annotators said of the utterances of a study: votes for classes, or how far their ratings lay apart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embedkit.corpora.votes import VOTES
from embedkit.errors import FitError
from embedkit.losses.base import Loss
from embedkit.training.data.attributes import first_text, is_numeric, read_ratings
from embedkit.training.data.folds import Indices
from embedkit.training.data.source import Source
from embedkit.training.data.task import TaskData
from embedkit.wording import count_noun, list_some, list_words

RATERS = "raters"
"""The column that says how many annotators an utterance had."""

ROUNDING = 0.005
"""How far a share of two decimals may lie from what it was."""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Annotators:
    """What is known of annotators, of every utterance; NaN where nothing is.

    Attributes:
        votes: How many named each class, or their shares, `[utterances, classes]`; those of no other class.
        spreads, raters: Of ratings, the standard deviation and the number, `[utterances, dimensions]`.
        notes: What is left out, in sentences.
        lack: Why there are no votes to learn, as a sentence; empty where there are some.
    """

    votes: FloatArray | None = None
    spreads: FloatArray | None = None
    raters: FloatArray | None = None
    notes: tuple[str, ...] = ()
    lack: str = ""

    def take(self, index: Indices) -> Annotators:
        """Keep some of the utterances, by their places `[n]`."""
        votes, spreads, raters = (None if one is None else one[index] for one in self.arrays)
        return replace(self, votes=votes, spreads=spreads, raters=raters)

    @property
    def arrays(self) -> tuple[FloatArray | None, ...]:
        """Votes `[utterances, classes]`, spreads and numbers of raters `[utterances, dimensions]`."""
        return self.votes, self.spreads, self.raters

    def mix(self, targets: NDArray[np.int64]) -> FloatArray:
        """Return class indices beside the shares of annotators, `[utterances, 1 + classes]`.

        An utterance on which nobody voted has all of its shares in its class.
        """
        assert self.votes is not None
        named = np.where(np.isnan(self.votes), np.eye(self.votes.shape[1])[targets], self.votes)
        return np.column_stack([targets, named / named.sum(1, keepdims=True)])


def require_votes(loss: Loss, annotators: Annotators) -> None:
    """Refuse a loss that learns votes of annotators where there are none.

    Raises:
        FitError: that.
    """
    if loss.soft and annotators.lack:
        raise FitError(f"The loss {loss.spec!r} needs votes of annotators: {annotators.lack}")


def read_annotators(stores: Sequence[Source], parts: Sequence[TaskData]) -> Annotators:
    """Read what annotators said of the utterances of all parts, of which the first is trained on, laid end to end.

    Several corpora that are pooled are read one by one, with the label map of each.
    """
    divided = [store.divide(data) for store, data in zip(stores, parts, strict=True)]
    pairs = [pair for own in divided for pair in own]
    found = [_read(store, data) for store, data in pairs]
    notes = [note for one in found for note in one.notes]
    trained = found[: len(divided[0])]
    silent = [store.corpus for (store, _), one in zip(pairs, trained, strict=False) if one.lack and not one.notes]
    lack = next((one.lack for one in trained if one.lack and one.notes), "")
    if silent and len(silent) == len(trained):
        lack = trained[0].lack
    elif silent:
        notes.append(
            f"There are no votes of annotators on {list_words(silent)}; there soft-ce learns the label, and KL and JS "
            "count nothing."
        )
    sizes = [len(data) for _, data in pairs]
    votes, spreads, raters = (_lay_out(own, sizes) for own in zip(*(one.arrays for one in found), strict=True))
    return Annotators(votes=votes, spreads=spreads, raters=raters, notes=tuple(notes), lack=lack)


def _lay_out(arrays: Sequence[FloatArray | None], sizes: Sequence[int]) -> FloatArray | None:
    """Lay arrays of all parts end to end, NaN for a part without; None where all are."""
    width = next((own.shape[1] for own in arrays if own is not None), None)
    if width is None:
        return None
    nothing = [np.full((size, width), np.nan) for size in sizes]
    return np.concatenate([none if own is None else own for own, none in zip(arrays, nothing, strict=True)])


def _read(store: Source, data: TaskData) -> Annotators:
    if data.dimensions:
        return _read_spreads(store, data)
    columns = [name for name in store.columns if name.startswith(VOTES) and name != VOTES]
    if not columns:
        return Annotators(
            lack=f"{store.path} has no columns {list_some([f'{VOTES}{name}' for name in data.classes], 3)}, the number "
            "of annotators who named a class; add them to the corpus and run embedkit extract again, or choose "
            "--loss ce."
        )
    try:
        return _sum_votes(store, data, columns)
    except FitError as error:
        return Annotators(lack=str(error), notes=(f"Votes of annotators are left out of the results: {error}",))


def _sum_votes(store: Source, data: TaskData, columns: Sequence[str]) -> Annotators:
    """Sum the votes of each class, under the same label map as its labels.

    Raises:
        FitError: votes that do not add up, or no column for a class.
    """
    named = [data.merge.get(name.removeprefix(VOTES), name.removeprefix(VOTES)) for name in columns]
    if lacking := [name for name in data.classes if name not in named]:
        raise FitError(
            f"{store.path} has columns {list_some(columns, 3)}, but none for {list_words(lacking)}; add "
            f"{list_words([f'{VOTES}{name}' for name in lacking])} to the corpus and run embedkit extract again, or "
            "leave out these classes with --classes."
        )
    given = _require_votes(store, data, columns)
    votes = given @ np.array([[name == one for one in data.classes] for name in named], dtype=np.float64)
    silent = ~(votes.sum(1) > 0)
    votes[silent] = np.nan
    dropped = float(np.nansum(given[:, [name not in data.classes for name in named]]))
    notes = []
    if dropped:
        others = [one for one, name in zip(columns, named, strict=True) if name not in data.classes]
        notes.append(
            f"Left out {dropped:,g} of {float(np.nansum(given)):,g} votes on {store.corpus}, for classes that take no "
            f"part ({list_some(others, 3)})."
        )
    if silent.any():
        notes.append(
            f"Nobody voted for a class that takes part on {count_noun(int(silent.sum()), 'utterance')} of "
            f"{store.corpus} ({list_some(data.ids[silent].tolist(), 3)}); there soft-ce learns the label, and KL and "
            "JS count nothing."
        )
    if silent.all():
        raise FitError(f"{store.path} has no vote for {list_words(data.classes, 'or')} on any utterance chosen.")
    return Annotators(votes=votes, notes=tuple(notes))


def _require_votes(store: Source, data: TaskData, columns: Sequence[str]) -> FloatArray:
    """Read columns of votes, `[utterances, columns]`: a number in each, or none in any where nobody voted.

    Votes of one utterance add up to its number of annotators, or shares to 1.
    """
    again = "correct it in the corpus and run embedkit extract again"
    for name in columns:
        if store.column(name).dtype.kind == "U" and (odd := first_text(store, name)) is not None:
            raise FitError(f"The column {name!r} of {store.path} holds {odd!r}, expected a number of votes; {again}.")
    given = np.stack([read_ratings(store, name)[data.rows] for name in columns], axis=1)
    known = np.isfinite(given)
    totals = np.where(known, given, 0.0).sum(1)
    slack = 1e-6 + ROUNDING * (given > 0).sum(1)
    counted = bool((totals > 1 + slack).any())
    wanted = np.round(totals) if counted else np.ones(len(totals))
    numeric = RATERS in store.columns and is_numeric(store, RATERS)
    raters = read_ratings(store, RATERS)[data.rows] if counted and numeric else np.full(len(totals), np.nan)
    partly = known.any(1) & ~known.all(1) | np.isinf(given).any(1)
    rated = known.any(1) | partly
    percent = np.full(len(totals), bool((np.abs(totals - 100) <= 100 * slack)[rated].all())) & np.isnan(raters)
    rules = (
        (partly, "expected a number in every column, or in none where nobody voted"),
        ((given < 0).any(1), "expected no number below 0"),
        (known.all(1) & (totals == 0), "expected a vote, or empty cells where nobody voted"),
        (np.abs(totals - raters) > slack, "but {raters:g} in the column raters"),
        (percent, "as on all, which is percent; expected shares of 1, or counts with a column raters"),
        (np.abs(totals - wanted) > slack, "expected whole numbers of annotators together, or shares of 1"),
    )
    for broken, told in rules:
        for row in np.flatnonzero(broken & rated)[:1]:
            cells = ", ".join(
                f"{name} {value:g}" for name, value in zip(columns, given[row], strict=True) if value != 0
            )
            raise FitError(
                f"The votes on {str(data.ids[row])!r} in {store.path} do not add up: {cells or 'all are 0'}, together "
                f"{totals[row]:g}, {told.format(raters=raters[row])}; {again}."
            )
    return given


def _read_spreads(store: Source, data: TaskData) -> Annotators:
    """Read how far ratings lay apart, and how many there were: `raters`, or the listeners of IEMOCAP by name."""
    names = [name for name in data.dimensions if f"{name}_spread" in store.columns]
    if not names:
        return Annotators()
    nothing = np.full(len(data), np.nan)
    spreads, raters = [], []
    for name in data.dimensions:
        spreads.append(read_ratings(store, f"{name}_spread")[data.rows] if name in names else nothing)
        single = [column for column in store.columns if re.fullmatch(rf"{re.escape(name)}_e\d+", column)]
        if RATERS in store.columns:
            raters.append(read_ratings(store, RATERS)[data.rows])
        elif single:
            raters.append(sum(np.isfinite(read_ratings(store, one)[data.rows]) for one in single) + np.zeros(len(data)))
        else:
            raters.append(nothing)
    return Annotators(spreads=np.stack(spreads, axis=1), raters=np.stack(raters, axis=1))
