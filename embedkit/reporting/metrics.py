"""The metrics a table can show: what they are called, in which unit, and which end is the better one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from embedkit.reporting.grid import Cell

Task: TypeAlias = Literal["classes", "dimensions"]
TASKS: Mapping[Task, str] = {"classes": "classes", "dimensions": "emotional attributes"}
"""What users call them."""

Spread: TypeAlias = Literal["interval", "seeds"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """How one metric of a run's row is shown.

    Attributes:
        label: Its name in titles.
        unit: Written after the name.
        factor: What the row's number is multiplied by.
        decimals: Digits after the point.
        lowest_is_best: True where lower is better.
        task: What runs predict that have it.
    """

    label: str
    unit: str = "in %"
    factor: float = 100.0
    decimals: int = 1
    lowest_is_best: bool = False
    task: Task = "classes"


def _believed(name: str, calibrated: bool, label: str, unit: str) -> tuple[str, Metric]:
    factor, decimals = (100.0, 1) if unit.startswith("in %") else (1.0, 3)
    key, told = (f"{name}_calibrated", "calibrated") if calibrated else (name, "uncalibrated")
    return key, Metric(label=f"{told} {label}", unit=unit, factor=factor, decimals=decimals, lowest_is_best=True)


METRICS: Mapping[str, Metric] = {
    "ua": Metric(label="UAR"),
    "wa": Metric(label="accuracy (WA)"),
    "f1": Metric(label="macro-F1"),
    **dict(
        _believed(name, calibrated, label, unit)
        for name, label, unit in (
            ("nll", "NLL", "in nats, lower is better"),
            ("brier", "Brier score", "from 0 to 2, lower is better"),
            ("adaptive_ece", "ECE", "in %, lower is better"),
        )
        for calibrated in (True, False)
    ),
    **dict(
        _believed(name, calibrated, label, unit)
        for name, label, unit in (
            ("kl", "KL divergence from the annotators", "in nats, lower is better"),
            ("js", "Jensen-Shannon distance to the annotators", "from 0 to 1, lower is better"),
        )
        for calibrated in (True, False)
    ),
    "ece": Metric(label="uncalibrated ECE (bins of equal width)", unit="in %, lower is better", lowest_is_best=True),
    "ccc": Metric(label="CCC", unit="", factor=1.0, decimals=3, task="dimensions"),
    "rmse": Metric(
        label="RMSE",
        unit="in the unit of the ratings, lower is better",
        factor=1.0,
        decimals=3,
        lowest_is_best=True,
        task="dimensions",
    ),
}
"""The first of each task is what everything is chosen by, and what is shown where no metric is asked for."""

SCORES: Mapping[Task, tuple[str, ...]] = {"classes": ("ua", "wa", "f1"), "dimensions": ("ccc",)}
"""What every run has; runs of older versions lack the others."""


SHOWN: Mapping[str, tuple[str, ...]] = {
    "nll": ("nll_calibrated", "nll"),
    "brier": ("brier_calibrated", "brier"),
    "ece": ("adaptive_ece_calibrated", "adaptive_ece", "ece"),
    "kl": ("kl_calibrated", "kl"),
    "js": ("js_calibrated", "js"),
}
"""What is shown where these are asked for: losses are compared after temperature scaling, and as trained beside."""


def task_of(row: Mapping[str, Any]) -> Task:
    """Tell what a run predicts."""
    return "dimensions" if row.get("dimensions") else "classes"


def metrics_of(task: Task) -> list[str]:
    """Name what can be asked for of runs that predict classes or emotional attributes."""
    inner = {name for names in SHOWN.values() for name in names}
    own = [name for name, metric in METRICS.items() if metric.task == task and name not in inner]
    return own if task == "dimensions" else [*own, *SHOWN]


def read_cell(
    row: Mapping[str, Any], key: str, how: Metric, spread: Spread, mark: str = "", *, best: bool = False
) -> Cell | None:
    """Read one number of a run's row with its interval over speakers, or its deviation over seeds; None without it."""
    mean, std, ends = row.get(key), row.get(f"{key}_std"), row.get(f"{key}_ci")
    if mean is None or not math.isfinite(mean):
        return None
    known = spread == "seeds" and std is not None and math.isfinite(std) and row["seeds"] > 1
    return Cell(
        mean=how.factor * mean,
        std=how.factor * std if known and std is not None else None,
        interval=(how.factor * ends[0], how.factor * ends[1]) if spread == "interval" and ends else None,
        decimals=how.decimals,
        mark=mark,
        best=best,
    )


def choose_spread(rows: Sequence[Mapping[str, Any]], keys: Sequence[str], wanted: Spread) -> Spread:
    """Tell what stands beside the numbers of a table: deviations where no run has an interval of them."""
    return wanted if any(row.get(f"{key}_ci") for row in rows for key in keys) else "seeds"


DEFINITIONS = (
    "WA: accuracy over all utterances. UAR (also written UA): unweighted average recall, the recall averaged over the "
    "classes. F1: averaged over the classes (macro-F1). Each is computed on the predictions of all test folds "
    "together, once per seed."
)

CALIBRATION = (
    "NLL: mean negative log-likelihood of the true class. Brier score: squared distance of the probabilities from the "
    "truth. ECE: expected calibration error, 15 bins by the highest probability that hold equally many utterances, or "
    "are of equal width (Guo et al. 2017). Uncalibrated, they compare the scales that losses give their scores more "
    "than the losses; calibrated is after one temperature for each fold and seed, found on its inner folds."
)

DISTANCES = (
    "KL: Kullback-Leibler divergence of the probabilities from the annotators' shares, the sum of p log(p / q) with p "
    "the annotators'. Jensen-Shannon distance: the root of the Jensen-Shannon divergence to base 2. Both are means "
    "over what annotators voted on; calibrated is after the temperature that suits the labels. One annotator has no "
    "KL, which is infinite where a single vote rules out what another named; a system that spreads its probabilities "
    "can have a smaller Jensen-Shannon distance than any single vote."
)

AGREEMENT = (
    "CCC: concordance correlation coefficient of predictions and ratings (Lin 1989); mean: over the emotional "
    "attributes. RMSE: root mean squared error. Both are computed for each attribute on the predictions of all test "
    "folds together, once per seed. They are not accuracies: never compare them with UAR (UA) or WA."
)
