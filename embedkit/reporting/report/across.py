"""What the cross-corpus matrices come to, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from embedkit.reporting.cross import OTHERS, Matrix
from embedkit.reporting.labels import Row
from embedkit.reporting.metrics import METRICS, SCORES, Metric, task_of
from embedkit.wording import count_noun, list_words

Scores: TypeAlias = Mapping[tuple[str, str], float]
"""By what was trained on and tested, in the metric's unit."""

_MOST = 5


def choose_matrix(matrices: Sequence[Matrix]) -> Matrix:
    """Return the matrix with the highest mean over pairs of corpora, of those that have the same pairs."""
    return max(_rivals(matrices), key=_mean)


def conclude_across(matrices: Sequence[Matrix]) -> str:
    """Say how well the best configuration does on corpora it was not trained on, and what serves each one best.

    Nothing is said to be significant: the rows of a matrix are not tested against each other.
    """
    best = choose_matrix(matrices)
    if not (pairs := _pairs(best)):
        return "No corpus was tested by heads that were trained on another one alone."
    others = [one for one in _rivals(matrices) if one is not best]
    parts = [_lead(best, pairs, bool(others)), *_compare(others), *_sources(best, pairs)]
    return " ".join([*parts, "Rows of the matrix were not tested against each other."])


def _lead(best: Matrix, pairs: Scores, compared: bool) -> str:
    key, how, row = _key(best), _metric(best), _first_row(best)
    mean = f"{_write(_mean(best), how)}{' %' if how.unit == 'in %' else ''}"
    if len(pairs) == 1:
        told = f"has a {how.label} of {mean} on a corpus that it was not trained on"
    else:
        has = f"has the highest mean {how.label}," if compared else f"has a mean {how.label} of"
        ends = " to ".join(_write(end(pairs.values()), how) for end in (min, max))
        told = f"{has} {mean}, on corpora that it was not trained on ({ends} over {len(pairs)} pairs)"
    guess = 1 / len(row["classes"]) if key == "ua" else 0.0
    known = [found for pair in pairs if (found := best.entries[pair].scores.get(f"{key}_ci"))]
    above = sum(found[0] > guess for found in known)
    lie = f"{above} lie{'s' * (above == 1)} above chance, {_write(how.factor * guess, how)}"
    sure = f"; of {count_noun(len(known), '95 % interval')} by speaker {lie}" if known else ""
    return f"{best.title} {told}{sure}."


def _compare(others: Sequence[Matrix]) -> Iterator[str]:
    """Say what the means of other configurations are, the highest first."""
    means = sorted(((_mean(one), one) for one in others), key=lambda one: -one[0])
    if means:
        told = list_words([f"{one.title} {_write(mean, _metric(one))}" for mean, one in means[:_MOST]])
        yield f"Others have {told}{f'; {len(means) - _MOST} more have less' if len(means) > _MOST else ''}."


def _sources(best: Matrix, pairs: Scores) -> Iterator[str]:
    """Say which corpus serves each other one best, and how its own speakers and all other corpora together do."""
    how = _metric(best)
    tested = sorted({other for _, other in pairs})
    top = {name: max((pair for pair in pairs if pair[1] == name), key=pairs.__getitem__) for name in tested}
    if len(pairs) > len(tested):
        told = list_words([f"{top[name][0]} for {name} ({_write(pairs[top[name]], how)})" for name in tested])
        yield f"The best single corpus to train on is {told}."
    others = dict.fromkeys(one.trained for one in best.entries.values() if one.of_others)
    named = [(name, name.replace(OTHERS, "all other corpora", 1)) for name in others]
    for source, words in (*named, (None, "other speakers of the tested corpus")):
        own = {name: value for name in tested if (value := _read(best, source or name, name)) is not None}
        if own:
            told = list_words([f"{_write(value, how)} on {name}" for name, value in own.items()])
            more = [name for name, value in own.items() if value > pairs[top[name]]]
            where = f"more on {list_words(more)}" if more else "on none more"
            yield f"Trained on {words} it has {told}, {where} than from the best other corpus."


def _rivals(matrices: Sequence[Matrix]) -> list[Matrix]:
    """Return the matrices that can be compared, those of one task and the same pairs: the largest group of them."""
    groups: dict[tuple[object, ...], list[Matrix]] = {}
    for one in matrices:
        row = _first_row(one)
        predicted = tuple(sorted(row.get("dimensions") or row["classes"]))
        groups.setdefault((predicted, frozenset(_pairs(one)), row["seeds"]), []).append(one)
    return max(groups.values(), key=lambda group: (len(_pairs(group[0])), len(group)))


def _pairs(matrix: Matrix) -> Scores:
    """Return the scores of corpora by heads that were trained on another one alone."""
    pairs = [pair for pair, one in matrix.entries.items() if not (one.seen or one.of_others)]
    return {pair: value for pair in sorted(pairs) if (value := _read(matrix, *pair)) is not None}


def _mean(matrix: Matrix) -> float:
    return float(np.mean(list(_pairs(matrix).values()) or [-np.inf]))


def _read(matrix: Matrix, trained: str, tested: str) -> float | None:
    """Return a score in its unit; None where there is none, or what was tested was trained on."""
    entry = matrix.entries.get((trained, tested))
    value = entry.scores.get(_key(matrix)) if entry and not entry.leaks else None
    return None if value is None else _metric(matrix).factor * float(value)


def _first_row(matrix: Matrix) -> Row:
    return next(iter(matrix.entries.values())).row


def _key(matrix: Matrix) -> str:
    return SCORES[task_of(_first_row(matrix))][0]


def _metric(matrix: Matrix) -> Metric:
    return METRICS[_key(matrix)]


def _write(value: float, how: Metric) -> str:
    return f"{value:.{how.decimals}f}"
