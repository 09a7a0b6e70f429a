"""What a table shows of paired tests: a mark in each cell, and the lines below that say what the marks mean."""

from __future__ import annotations

import string
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, TypeAlias

from embedkit.evaluation.significance import FEWEST_SEEDS, FEWEST_SYSTEMS, RECOMMENDED_SEEDS
from embedkit.reporting.comparison import BASELINES, GAIN, LEVEL, FamilyKind
from embedkit.reporting.labels import Place, Row
from embedkit.reporting.metrics import METRICS, task_of
from embedkit.wording import count_noun, list_words

Test: TypeAlias = Mapping[str, Any]
Spot: TypeAlias = tuple[str, str, str]

BELOW, ABOVE, SAME = "<", ">", "~"
_SIGNS = {BELOW: "below", ABOVE: "above", SAME: "not significant (n.s.)"}
FAMILIES: tuple[FamilyKind, ...] = ("losses", "encoders", "heads", "probes")
"""The families whose results marks show; the star shows that of the best."""

AGAINST_ONE: tuple[FamilyKind, ...] = ("losses", "probes")
RANKED: tuple[FamilyKind, ...] = ("encoders", "heads")
"""The families whose results letters show."""


def mark_runs(rows: Sequence[Row], places: Sequence[Place], metric: str) -> list[str]:
    """Write the mark of each run of one protocol; nothing where it was not tested, or where nothing could be shown."""
    letters = _letters(rows, places, metric)
    marks = []
    for row, place in zip(rows, places, strict=True):
        baseline = [_sign(test) for test in _tests(row, metric, AGAINST_ONE) if can_be_shown(test)]
        marks.append(" ".join(filter(None, [*baseline, letters.get(_spot(place), "")])))
    return marks


def leads(row: Row, metric: str) -> bool:
    """Tell whether a run was shown to be better than every other loss of its line."""
    tests = _tests(row, metric, ("best",))
    marked = [test for test in _tests(row, metric, ("losses",)) if can_be_shown(test)]
    return bool(tests) and all(test["differs"] for test in (*tests, *marked))


def describe_tests(rows: Sequence[Row], places: Sequence[Place], metric: str) -> list[str]:
    """Write what marks mean, how was tested, what could not be shown, and which runs were left out."""
    tests = [test for row in rows for test in _tests(row, metric)]
    notes = [_legend(rows, tests, metric), _method(tests, metric), _power(tests), _hopeless(tests)]
    reasons: dict[str, list[str]] = defaultdict(list)
    for row, place in zip(rows, places, strict=True):
        if row.get("not_compared"):
            reasons[row["not_compared"]].append(f"{place.encoder}, {place.head}, {place.loss}")
    notes += [f"Not compared: {'; '.join(runs)}: {reason.rstrip('.')}." for reason, runs in reasons.items()]
    return [note for note in notes if note]


def _power(tests: Sequence[Test]) -> str:
    """Say how large a difference could have been missed."""
    found = [test["power"] for test in tests if can_be_shown(test) and test.get("power") is not None]
    if not found:
        return ""
    size = f"{GAIN}" if tests[0]["metric"] == "ccc" else f"{100 * GAIN:g} points"
    first = tests[0]
    return (
        f"Power: with these {count_noun(first['speakers'], 'speaker')} and {count_noun(first['seeds'], 'seed')} a "
        f"difference of {size} is found in {100 * median(found):.0f} % of all studies (median over the comparisons, "
        "after Holm)."
    )


def _legend(rows: Sequence[Row], tests: Sequence[Test], metric: str) -> str:
    meanings = []
    shown = {test["family"] for test in tests if can_be_shown(test)}
    signs = {_sign(test) for test in tests if test["family"] in AGAINST_ONE and can_be_shown(test)}
    words = ", ".join(f"{sign} {word}" for sign, word in _SIGNS.items() if sign in signs)
    if "losses" in shown:
        meanings.append(f"{words}, against {BASELINES[task_of(rows[0])]} in its row")
    if "probes" in shown:
        rivals = dict.fromkeys(
            f"{test['against']['head']} under {test['against']['loss']}" for test in tests if test["family"] == "probes"
        )
        meanings.append(
            f"{'' if 'losses' in shown else f'{words}, '}of fitted heads, against the trained head that was best on "
            f"inner folds ({list_words(rivals, 'or')})"
        )
    if shown & set(RANKED):
        meanings.append("differences between rows that share a letter under a loss are not significant (n.s.)")
    if not meanings:
        return ""
    return (
        f"Marks: {'; '.join(meanings)}. They are about systems trained in this way under any seed, on speakers like "
        "these; luck that all seeds share, as that of one training set, no test here sees."
    )


def _method(tests: Sequence[Test], metric: str) -> str:
    if not any(map(can_be_shown, tests)):
        return ""
    first = next(test for test in tests if can_be_shown(test))
    if first["method"] == "t":
        few = "" if first["seeds"] >= RECOMMENDED_SEEDS else f" ({RECOMMENDED_SEEDS} or more find more)"
        return (
            f"Tests of {METRICS[metric].label}: t of the variance over {count_noun(first['seeds'], 'seed')}{few} and "
            f"{count_noun(first['speakers'], 'speaker')}, {100 * LEVEL:g} % after Holm: "
            f"with {count_noun(first['systems'], 'trained system')} a seed, swaps would claim too much."
        )
    which = f"all {first['swaps']:,}" if first["exact"] else f"{first['swaps']:,} random"
    limits = {
        family: max((test["smallest_p_adjusted"] for test in tests if test["family"] == family), default=None)
        for family in FAMILIES
    }
    told = ", ".join(f"{_p(value)} ({family})" for family, value in limits.items() if value is not None)
    return (
        f"Tests of {METRICS[metric].label}: {which} swaps of predictions within {first['speakers']} speakers, "
        f"{100 * LEVEL:g} % after Holm; minimum possible p {_p(first['smallest_p'])}, after Holm {told}."
    )


def _hopeless(tests: Sequence[Test]) -> str:
    """Say where no difference could be shown however large."""
    hopeless = {test["family"]: test for test in tests if not can_be_shown(test)}
    lost = {family: hopeless[family] for family in FAMILIES if family in hopeless}
    if not lost:
        return ""
    first = next(iter(lost.values()))
    if first["method"] == "none":
        return (
            f"No marks: with fewer than {FEWEST_SYSTEMS} folds a test needs at least {FEWEST_SEEDS} seeds, better "
            f"{RECOMMENDED_SEEDS}, and 2 speakers; there are {count_noun(first['seeds'], 'seed')} and "
            f"{count_noun(first['speakers'], 'speaker')}."
        )
    parts = [
        f"{count_noun(test['comparisons'], 'comparison')} of {family} "
        f"(minimum possible p {_p(test['smallest_p'])}, after Holm {_p(test['smallest_p_adjusted'])})"
        for family, test in lost.items()
    ]
    hint = "; compare fewer runs at once" if first["smallest_p"] <= LEVEL else ""
    return (
        f"With {count_noun(first['speakers'], 'speaker')} nothing can be significant, however large "
        f"the difference, among {' or '.join(parts)}{hint}."
    )


def _letters(rows: Sequence[Row], places: Sequence[Place], metric: str) -> dict[Spot, str]:
    """Give runs under the same loss letters such that two share one where no difference was shown (Piepho 2004)."""
    columns: dict[str, list[tuple[Row, Place]]] = defaultdict(list)
    for row, place in zip(rows, places, strict=True):
        if any(can_be_shown(test) for test in _tests(row, metric, RANKED)):
            columns[place.loss].append((row, place))
    letters: dict[Spot, str] = {}
    for column in columns.values():
        ranked = sorted(column, key=lambda pair: -(pair[0][metric] or 0.0))
        order = [_spot(place) for _, place in ranked]
        others = {_spot(place): _tests(row, metric, RANKED) for row, place in ranked}
        groups: list[set[Spot]] = []
        for spot, tests in others.items():
            tested = {spot, *(_spot(test["against"]) for test in tests)}
            joined = [group for group in groups if group & tested]
            groups = [group for group in groups if not group & tested] + [tested.union(*joined)]
        for spot, tests in others.items():
            for test in tests:
                if test["differs"]:
                    groups = _split(groups, spot, _spot(test["against"]))
        # Runs of which nothing can be shown get no letter, though others were tested against them.
        groups.sort(key=lambda group: sorted(order.index(spot) for spot in group if spot in order))
        for spot in order:
            letters[spot] = "".join(_letter(number) for number, group in enumerate(groups) if spot in group)
    return letters


def _split(groups: Sequence[set[Spot]], one: Spot, other: Spot) -> list[set[Spot]]:
    """Take two that differ apart in every group, and drop groups that lie within another."""
    parts: list[set[Spot]] = []
    for group in groups:
        for part in [group - {one}, group - {other}] if {one, other} <= group else [group]:
            if part not in parts:
                parts.append(part)
    return [part for part in parts if not any(part < whole for whole in parts)]


def _letter(number: int) -> str:
    names = string.ascii_letters
    return names[number] if number < len(names) else f"({number + 1})"


def _spot(place: Place | Mapping[str, str]) -> Spot:
    if isinstance(place, Place):
        return place.encoder, place.head, place.loss
    return place["encoder"], place["head"], place["loss"]


def _sign(test: Test) -> str:
    if not test["differs"]:
        return SAME
    return ABOVE if test["difference"] > 0 else BELOW


def can_be_shown(test: Test) -> bool:
    """Tell whether a test could have shown a difference, had it been large enough."""
    return bool(test["smallest_p_adjusted"] <= LEVEL)


def _tests(row: Row, metric: str, families: Sequence[FamilyKind] = FAMILIES) -> list[Test]:
    return [test for test in row.get("tests") or () if test["metric"] == metric and test["family"] in families]


def _p(value: float) -> str:
    return f"{value:.2g}"
