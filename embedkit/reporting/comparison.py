"""Which runs differ: paired tests in families, from the predictions of runs that share a protocol.

The losses of an encoder and head are compared with cross-entropy, and the best of them with all others. Under each
loss, all encoders (with their heads) are compared with each other, and so are the heads of each encoder. Fitted heads
are compared with the trained one that was best on inner folds. Each of these is a family of its own, corrected after
Holm.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from embedkit.errors import RunError
from embedkit.evaluation.intervals import plain_interval
from embedkit.evaluation.significance import (
    FEWEST_SEEDS,
    FEWEST_SYSTEMS,
    SAMPLES,
    find_power,
    holm_adjust,
    is_exact,
    mean_concordance,
    smallest_p,
    swap_p_values,
    t_p_value,
    two_way_variance,
)
from embedkit.evaluation.speaker_model import FloatArray, Variance
from embedkit.reporting.labels import Place, Row, place_rows
from embedkit.reporting.metrics import Task, task_of
from embedkit.reporting.outcomes import Outcome, read_outcome
from embedkit.reporting.protocol import is_zero_shot, protocol_keys

LEVEL = 0.05
"""The share of families without any difference in which one is claimed all the same."""

GAIN = 0.03
"""The difference whose power is told."""

BASELINES: Mapping[Task, str] = {"classes": "ce", "dimensions": "ccc-regression"}
TESTED: Mapping[Task, str] = {"classes": "ua", "dimensions": "ccc"}

FamilyKind: TypeAlias = Literal["losses", "encoders", "heads", "probes", "best"]
Method: TypeAlias = Literal["swaps", "t", "none"]
Pair: TypeAlias = tuple[int, int]
Score: TypeAlias = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One run against another.

    Attributes:
        family: "losses": against cross-entropy; "encoders": against another encoder under the same loss; "heads":
            against another head of the same encoder under the same loss; "probes": of a fitted head against the trained
            one of its encoder that scored best on inner folds; "best": of the best loss of a row against the others.
        against: Where the other run stands in the table.
        metric: What was tested: "ua", or "ccc" (the mean over emotional attributes).
        difference: This run's score less the other's, averaged over seeds.
        ci: Its 95 % interval, not adjusted: by the t of the test, or for swaps by the model of speakers; None where
            nothing was tested.
        power: The share of studies like this one in which a true difference of `GAIN` is found, where no other of the
            family differs.
        p, p_adjusted: Of the test, and after Holm within the family.
        comparisons: How many tests the family holds.
        speakers: How many there are.
        seeds: How many of each run.
        systems: How many were trained under a seed: one for each fold.
        exact: Whether all swaps were tried.
        method: "swaps" where there are ten systems or more, else "t"; "none" where there are too few seeds for it.
    """

    family: FamilyKind
    against: Place
    metric: str
    difference: float
    ci: tuple[float, float] | None
    power: float | None
    p: float
    p_adjusted: float
    comparisons: int
    speakers: int
    seeds: int
    systems: int
    exact: bool
    method: Method

    @property
    def differs(self) -> bool:
        """Whether a difference was shown."""
        return self.p_adjusted <= LEVEL

    @property
    def smallest_p(self) -> float:
        """The minimum possible p with so few speakers, or seeds."""
        return {"swaps": smallest_p(self.speakers), "t": 0.0, "none": 1.0}[self.method]

    @property
    def smallest_p_adjusted(self) -> float:
        """The same after Holm: above `LEVEL`, nothing in this family can be shown."""
        return min(1.0, self.comparisons * self.smallest_p)

    @property
    def swaps(self) -> int:
        """How many swaps stand behind p."""
        if self.method != "swaps":
            return 0
        return 2**self.speakers if self.exact else SAMPLES


@dataclass(kw_only=True)
class Compared:
    """How one run compares: its differences, or why it has none with some runs of its table."""

    differences: list[Difference] = field(default_factory=list)
    left_out: str | None = None

    def to_fields(self) -> dict[str, Any]:
        """Return what is kept in the run's row: everything as JSON can hold it."""
        derived = ("differs", "smallest_p", "smallest_p_adjusted", "swaps")
        tests = [asdict(one) | {name: getattr(one, name) for name in derived} for one in self.differences]
        return {"tests": tests, "not_compared": self.left_out}


def compare_runs(rows: Sequence[Row], predictions: Sequence[Path | None]) -> list[Compared]:
    """Test the differences between runs of the same protocol.

    Args:
        rows: One mapping for each run, as in its `metrics.json`.
        predictions: The CSV of each run's predictions; None leaves it out.

    Returns:
        One entry for each run. Where all are compared with one (losses, probes, best), that one has no entry, and the
        best has all of its family.
    """
    compared = [Compared() for _ in rows]
    groups: dict[str, list[int]] = defaultdict(list)
    for index, key in enumerate(protocol_keys(rows)):
        groups[key].append(index)
    for group in groups.values():
        places = dict(zip(group, place_rows([rows[index] for index in group]), strict=True))
        outcomes = _read_outcomes(rows, {index: predictions[index] for index in group}, compared)
        for kind, pairs in _families(rows, places, outcomes):
            _test_family(kind, pairs, rows, places, outcomes, compared)
    return compared


def _read_outcomes(
    rows: Sequence[Row], predictions: Mapping[int, Path | None], compared: list[Compared]
) -> dict[int, Outcome]:
    """Read what can be compared, and say why the rest cannot."""
    # A published classifier is one system whatever the seed: no test here asks what luck of training it had.
    paths = {index: path for index, path in predictions.items() if path is not None and not is_zero_shot(rows[index])}
    outcomes: dict[int, Outcome] = {}
    for index, path in paths.items() if len(paths) > 1 else ():
        try:
            dimensions, fitted = rows[index].get("dimensions") or (), bool(rows[index].get("fitted"))
            outcomes[index] = read_outcome(path, dimensions, fitted=fitted)
        except RunError as error:
            compared[index].left_out = str(error)
    counts = Counter(outcome.pairing for outcome in outcomes.values()).most_common(1)
    for index, outcome in outcomes.items():
        if outcome.pairing != counts[0][0]:
            compared[index].left_out = "its utterances, labels, speakers or seeds are not those of the others"
    return outcomes


def _families(
    rows: Sequence[Row], places: Mapping[int, Place], outcomes: Mapping[int, Outcome]
) -> Iterator[tuple[FamilyKind, list[Pair]]]:
    """Yield the pairs of each family that are paired in fact."""
    lines: dict[tuple[str, str], list[int]] = defaultdict(list)
    columns: dict[str, list[int]] = defaultdict(list)
    for index in outcomes:
        place = places[index]
        lines[place.encoder, place.head].append(index)
        # The best of an encoder's layers is chosen on test data, and noise is no system: neither is ranked.
        if rows[index].get("layer") is None and rows[index].get("noise_snr") is None:
            columns[place.loss].append(index)

    def paired(pairs: Sequence[Pair]) -> list[Pair]:
        return [(one, other) for one, other in pairs if outcomes[one].pairing == outcomes[other].pairing]

    for line in lines.values():
        baseline = _baseline(rows, line)
        if baseline is not None:
            yield "losses", paired([(index, baseline) for index in line if index != baseline])
        best = max(line, key=lambda index: outcomes[index].score)
        yield "best", paired([(best, index) for index in line if index != best])
    for probes, rival in _rivals(rows, places, outcomes):
        yield "probes", paired([(index, rival) for index in probes])
    for column in columns.values():
        encoders: list[Pair] = []
        heads: dict[str, list[Pair]] = defaultdict(list)
        for one, other in combinations(column, 2):
            encoder = places[one].encoder
            (heads[encoder] if encoder == places[other].encoder else encoders).append((one, other))
        yield "encoders", paired(encoders)
        for pairs in heads.values():
            yield "heads", paired(pairs)


def _rivals(
    rows: Sequence[Row], places: Mapping[int, Place], outcomes: Mapping[int, Outcome]
) -> Iterator[tuple[list[int], int]]:
    """Find the fitted heads of each encoder and the trained one that scored best where it was chosen, not on tests."""
    encoders: dict[str, list[int]] = defaultdict(list)
    for index in outcomes:
        if rows[index].get("layer") is None:
            encoders[places[index].encoder].append(index)
    for runs in encoders.values():
        probes = [index for index in runs if outcomes[index].fitted]
        scored = {index: rows[index].get("ua_dev") for index in runs if not outcomes[index].fitted}
        known = {index: score for index, score in scored.items() if score is not None}
        if probes and known:
            yield probes, max(known, key=known.__getitem__)


def _baseline(rows: Sequence[Row], line: Sequence[int]) -> int | None:
    """Find the run under the loss that others are compared with; without settings where there are several."""
    candidates = [index for index in line if rows[index]["loss"] == BASELINES[task_of(rows[index])]]
    return min(candidates, key=lambda index: any((rows[index].get("loss_options") or {}).values()), default=None)


def _test_family(
    kind: FamilyKind,
    pairs: Sequence[Pair],
    rows: Sequence[Row],
    places: Mapping[int, Place],
    outcomes: Mapping[int, Outcome],
    compared: list[Compared],
) -> None:
    """Test the pairs of a family together, and note the result with each run."""
    if not pairs:
        return
    metric = TESTED[task_of(rows[pairs[0][0]])]
    score = mean_concordance if metric == "ccc" else None
    methods = [_choose_method(outcomes[one], outcomes[other]) for one, other in pairs]
    differences = [outcomes[one].score - outcomes[other].score for one, other in pairs]
    variances = [
        _find_variance(outcomes[one], outcomes[other], method, score)
        for (one, other), method in zip(pairs, methods, strict=True)
    ]
    p_values = np.array(
        [1.0 if own is None else t_p_value(found, own) for found, own in zip(differences, variances, strict=True)]
    )
    by_pairing: dict[str, list[int]] = defaultdict(list)
    for number, (one, _) in enumerate(pairs):
        if methods[number] == "swaps":
            by_pairing[outcomes[one].pairing].append(number)
    for numbers in by_pairing.values():
        first, second = (
            np.stack([outcomes[pairs[number][side]].parts for number in numbers], axis=1) for side in (0, 1)
        )
        p_values[numbers] = swap_p_values(first, second, score)
    adjusted = holm_adjust(p_values)
    for number, ((one, other), method, variance) in enumerate(zip(pairs, methods, variances, strict=True)):
        speakers = len(outcomes[one].parts)
        for this, that, sign in ((one, other, 1), (other, one, -1))[: 2 if kind in ("encoders", "heads") else 1]:
            difference = sign * differences[number]
            compared[this].differences.append(
                Difference(
                    family=kind,
                    against=places[that],
                    metric=metric,
                    difference=difference,
                    ci=plain_interval(difference, variance) if variance else None,
                    power=find_power(GAIN, variance, LEVEL / len(pairs)) if variance else None,
                    p=float(p_values[number]),
                    p_adjusted=float(adjusted[number]),
                    comparisons=len(pairs),
                    speakers=speakers,
                    seeds=len(outcomes[one].by_seed),
                    systems=min(outcomes[one].systems, outcomes[other].systems),
                    exact=method == "swaps" and is_exact(speakers),
                    method=method,
                )
            )


def _find_variance(own: Outcome, rest: Outcome, method: Method, score: Score | None) -> Variance | None:
    """Estimate the variance of a difference as its test sees it; None where there is none."""
    if method == "none" or len(own.parts) < 2:
        return None
    if method == "swaps":
        return own.swapped_variance(rest)
    return two_way_variance(own.parts, rest.parts, (own.luck, rest.luck), score)


def _choose_method(one: Outcome, other: Outcome) -> Method:
    if min(one.systems, other.systems) >= FEWEST_SYSTEMS:
        return "swaps"
    seeds = min((len(own.luck) for own in (one, other) if not own.fitted), default=FEWEST_SEEDS)
    return "t" if seeds >= FEWEST_SEEDS and len(one.parts) > 1 else "none"
