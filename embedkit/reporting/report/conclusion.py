"""The report's first paragraph: what the paired tests of a table come to, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from embedkit.reporting.comparison import BASELINES, TESTED, FamilyKind
from embedkit.reporting.labels import Place, Row, place_rows, shorten_names
from embedkit.reporting.marks import FAMILIES, RANKED, Test, can_be_shown
from embedkit.reporting.metrics import METRICS, task_of
from embedkit.reporting.protocol import is_zero_shot
from embedkit.training.runs import ZERO_SHOT
from embedkit.wording import count_noun, escape_all, list_words

Told: TypeAlias = tuple[str, str]
"""A verb, and the losses under which it holds."""

_WIDTH = 40


def conclude(rows: Sequence[Row]) -> str:
    """Write the conclusion from the rows of a table (`Table.rows`) of one protocol, which hold their tests.

    It says which configuration scores highest, what its encoder and head were shown to beat and what not, which losses
    differ from the one they are compared with, and where nothing could be shown however large.
    """
    rows = [escape_all(row) for row in rows if row.get("layer") is None and _score(row) is not None]
    if not rows:
        return "There are only runs of single layers here: they describe an encoder and are no results of a system."
    places = place_rows(rows)
    best, place = max(zip(rows, places, strict=True), key=lambda pair: _score(pair[0]) or 0.0)
    names = _Names(places)
    sentences = [_lead(best, names.configuration(place, place.loss), len(rows))]
    tests = [test for row in rows for test in row.get("tests") or () if test["family"] in FAMILIES]
    if not tests:
        if sum(not is_zero_shot(row) for row in rows) > 1:
            sentences.append("No differences were tested: no two runs have predictions of the same utterances.")
        return " ".join(sentences)
    own = [(one, there) for one, there in zip(rows, places, strict=True) if _line(there) == _line(place)]
    sentences += _beaten(own, names)
    sentences += _losses(rows, places, names)
    sentences += _probes(rows, places, names)
    sentences += _hopeless(tests)
    if left := sum(bool(row.get("not_compared")) for row in rows):
        sentences.append(f"{count_noun(left, 'run')} could not be compared; the notes below the table say why.")
    return " ".join(sentences)


class _Names:
    """What encoders, heads and both together are called where that is enough to tell them apart."""

    def __init__(self, places: Sequence[Place]) -> None:
        self.encoders = shorten_names([place.encoder for place in places], _WIDTH)
        self.heads = len({place.head for place in places}) > 1

    def line(self, encoder: str, head: str) -> str:
        return f"{self.encoders[encoder]} ({head})" if self.heads else self.encoders[encoder]

    def configuration(self, place: Place, loss: str) -> str:
        if loss == ZERO_SHOT:
            return f"{self.encoders[place.encoder]} as published, zero-shot,"
        return f"{self.encoders[place.encoder]} with the head {place.head} under {loss}"


def _lead(row: Row, name: str, count: int) -> str:
    key = TESTED[task_of(row)]
    metric = METRICS[key]
    unit = " %" if metric.unit == "in %" else ""
    score, ends = metric.factor * row[key], row.get(f"{key}_ci") or ()
    inside = f"95 % interval by speaker: {' to '.join(f'{metric.factor * end:.{metric.decimals}f}' for end in ends)}"
    chance = f"chance {100 / len(row['classes']):.1f}" if row.get("classes") and key == "ua" else ""
    aside = "; ".join(filter(None, [inside if ends else "", chance]))
    told = f"{score:.{metric.decimals}f}{unit}{f' ({aside})' if aside else ''}"
    return f"{name} has {'the highest' if count > 1 else 'a'} {metric.label}{',' if count > 1 else ' of'} {told}."


def _beaten(own: Sequence[tuple[Row, Place]], names: _Names) -> Iterator[str]:
    """Say how the best encoder and head compare with all others, under which losses."""
    verdicts: dict[tuple[str, str], dict[str, list[str]]] = {}
    for row, place in own:
        for test in _provable(row, RANKED):
            verdicts.setdefault(_line(test["against"]), {}).setdefault(_verdict(test), []).append(place.loss)
    alike: dict[tuple[Told, ...], list[str]] = {}
    for line, found in verdicts.items():
        count = sum(map(len, found.values()))
        told = tuple((verb, _under(found[verb], count, verb)) for verb in _VERBS if verb in found)
        alike.setdefault(told, []).append(names.line(*line))
    subject = names.line(*_line(own[0][1]))
    for parts, others in sorted(alike.items(), key=lambda pair: _VERBS.index(pair[0][0][0])):
        again = "it" if len(others) == 1 else "them"
        (verb, losses), *rest = parts
        clauses = [f"{verb} {list_words(others)}{losses}", *(f"{verb} {again}{losses}" for verb, losses in rest)]
        yield f"{subject} {list_words(clauses)}."


_BEATS, _LOSES, _SAME = "beats", "is beaten by", "does not differ significantly from"
_VERBS = (_BEATS, _LOSES, _SAME)


def _verdict(test: Test) -> str:
    return _SAME if not test["differs"] else _BEATS if test["difference"] > 0 else _LOSES


def _under(losses: Sequence[str], count: int, verb: str) -> str:
    if len(losses) < count or count == 1:
        return f" under {list_words(losses)}"
    return f" under {'any' if verb == _SAME else 'every'} loss"


def _provable(row: Row, families: Sequence[FamilyKind]) -> list[Test]:
    """Return the tests of a run that could have shown a difference."""
    tests = row.get("tests") or ()
    return [test for test in tests if test["family"] in families and can_be_shown(test)]


def _losses(rows: Sequence[Row], places: Sequence[Place], names: _Names) -> Iterator[str]:
    """Say which losses differ from the one they are compared with, for which encoders and heads."""
    tested = [(place, test) for row, place in zip(rows, places, strict=True) for test in _provable(row, ("losses",))]
    if not tested:
        return
    baseline = BASELINES[task_of(rows[0])]
    found: dict[tuple[str, str], list[str]] = {}
    for place, test in tested:
        if test["differs"]:
            which = "better" if test["difference"] > 0 else "worse"
            found.setdefault((place.loss, which), []).append(names.line(place.encoder, place.head))
    losses = dict.fromkeys(place.loss for place, _ in tested)
    lines = {_line(place) for place, _ in tested}
    if not found:
        yield (
            f"The losses do not differ significantly from {baseline}."
            if len(losses) > 1
            else f"{next(iter(losses))} does not differ significantly from {baseline}."
        )
        return
    for (loss, which), configurations in found.items():
        where = "" if len(lines) == 1 else f" with {list_words(configurations)}"
        yield f"{loss} is significantly {which} than {baseline}{where}."
    if len(found) < len(lines) * len(losses) and any(not test["differs"] for _, test in tested):
        yield f"No other difference from {baseline} is significant."


def _probes(rows: Sequence[Row], places: Sequence[Place], names: _Names) -> Iterator[str]:
    """Say how fitted heads compare with the trained one that was best on inner folds."""
    for row, place in zip(rows, places, strict=True):
        for test in _provable(row, ("probes",)):
            rival = names.configuration(Place(**test["against"]), test["against"]["loss"])
            yield f"{names.line(place.encoder, place.head)} {_verdict(test)} {rival}, the best on inner folds."


def _hopeless(tests: Sequence[Test]) -> Iterator[str]:
    """Say of which comparisons nothing could be shown, however large the difference."""
    lost = {test["family"]: test for test in tests if not can_be_shown(test)}
    if lost:
        first = next(iter(lost.values()))
        families = list_words(lost, "or")
        yield (
            f"With {count_noun(first['seeds'], 'seed')} no difference between {families} can be tested."
            if first["method"] == "none"
            else f"With {count_noun(first['speakers'], 'speaker')} no difference between {families} could be "
            "significant, however large."
        )


def _score(row: Row) -> float | None:
    score: float | None = row.get(TESTED[task_of(row)])
    return score


def _line(place: Place | Mapping[str, str]) -> tuple[str, str]:
    return (place.encoder, place.head) if isinstance(place, Place) else (place["encoder"], place["head"])
