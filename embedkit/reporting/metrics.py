"""The metrics a table can show: what they are called, in which unit, and which end is the better one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Metric:
    """How one metric of a run's row is shown.

    Attributes:
        label: Its name in titles.
        unit: Written after the name.
        factor: What the row's number is multiplied by.
        decimals: Digits after the point.
        lowest_is_best: True where less is better.
    """

    label: str
    unit: str = "in %"
    factor: float = 100.0
    decimals: int = 1
    lowest_is_best: bool = False


METRICS: Mapping[str, Metric] = {
    "ua": Metric(label="UA"),
    "wa": Metric(label="WA"),
    "f1": Metric(label="F1"),
    "nll": Metric(label="NLL", unit="in nats, less is better", factor=1.0, decimals=3, lowest_is_best=True),
    "ece": Metric(label="ECE", unit="in %, less is better", lowest_is_best=True),
}

SCORES = ("ua", "wa", "f1")
"""What every run has; runs of older versions lack the others."""

DEFINITIONS = (
    "WA: accuracy over all utterances. UA: recall averaged over the classes (UAR). F1: averaged over the classes "
    "(macro). Each is computed on the predictions of all test folds together, once per seed."
)

CALIBRATION = (
    "NLL: mean negative log-likelihood of the true class. ECE: expected calibration error, 15 bins of equal width by "
    "the highest probability (Guo et al. 2017). Both are of the probabilities as each loss defines them, as trained."
)
