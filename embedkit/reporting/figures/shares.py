"""Learning curves over speakers: a score against the number of training speakers, from runs on shares of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from embedkit.reporting.figures.charts import Axes, Draft, Spread, draw_lines
from embedkit.reporting.figures.forest import read_interval
from embedkit.reporting.figures.panels import plan_panels
from embedkit.reporting.figures.theme import Figure
from embedkit.reporting.metrics import METRICS, SCORES, task_of
from embedkit.reporting.protocol import describe_marks, protocol_keys
from embedkit.reporting.published import last_part

if TYPE_CHECKING:
    from embedkit.training.runs import RunRecord

_UNCOUNTED = ("split", "random")
"""Folds of which older runs do not say how many speakers they train on."""


def find_families(records: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """Group runs that differ in their share of the training speakers alone, where there are several; largest last."""
    families: dict[str, list[RunRecord]] = defaultdict(list)
    clean = [record for record in records if record.metrics.get("noise_snr") is None]
    whole = [record for record in clean if record.metrics.get("layer") is None and _count(record)]
    keys = protocol_keys([{**record.metrics, "train_share": None} for record in whole])
    for record, key in zip(whole, keys, strict=True):
        families[key].append(record)
    found = [sorted(own, key=_share) for own in families.values()]
    return [own for own in found if len({*map(_share, own)}) > 1]


def draw_shares(families: Sequence[Sequence[RunRecord]]) -> dict[str, Figure]:
    """Draw a score of every encoder, head and loss by the mean number of training speakers, with 95 % intervals."""
    figures: dict[str, Figure] = {}
    for metric in dict.fromkeys(_metric(own) for own in families):
        shown = METRICS[metric]
        drafts: dict[str, Draft] = {}
        for number, family in enumerate(families):
            if _metric(family) == metric:
                drafts |= _draft(family, metric, f"-{number + 1}" if number else "")
        value = f"{shown.label} {shown.unit}, 95 % interval by speaker".replace(" ,", ",")
        bounds = (0.0, shown.factor) if shown.task == "classes" else (-shown.factor, shown.factor)
        figures |= draw_lines(
            drafts, Axes(place="training speakers", value=value, decimals=shown.decimals, bounds=bounds)
        )
    return figures


def _draft(family: Sequence[RunRecord], metric: str, ending: str) -> dict[str, Draft]:
    factor = METRICS[metric].factor
    series: dict[str, dict[str, dict[float, Spread]]] = defaultdict(lambda: defaultdict(dict))
    intervals: dict[str, dict[str, dict[float, Spread | None]]] = defaultdict(lambda: defaultdict(dict))
    titles, chance = {}, None
    for panel in plan_panels(family):
        encoder = last_part(panel.encoder)
        name = f"shares-{panel.corpus}-{encoder}-{panel.head}{ending}"
        for loss, record in panel.runs.items():
            row, at = record.metrics, _count(record)
            titles[name] = (
                f"{panel.corpus}: {encoder}, {panel.head}{describe_marks(row)}, by the number of training speakers"
            )
            chance = panel.chance if metric == "ua" else None
            series[name][loss][at] = (factor * row[metric], factor * (row.get(f"{metric}_std") or 0.0))
            intervals[name][loss][at] = read_interval(row, metric)
    return {
        name: Draft(title=titles[name], series=own, intervals=intervals[name], guess=chance)
        for name, own in series.items()
        if len({at for points in own.values() for at in points}) > 1
    }


def _metric(records: Sequence[RunRecord]) -> str:
    return SCORES[task_of(records[0].metrics)][0]


def _share(record: RunRecord) -> float:
    return float(record.metrics.get("train_share") or 1.0)


def _count(record: RunRecord) -> float:
    """Return the mean number of training speakers over folds; 0 where it is unknown.

    Older runs do not keep it: where folds rotate over groups that share no speakers, each is trained on in all folds
    but one.
    """
    row = record.metrics
    if kept := row.get("train_speakers"):
        return round(float(np.mean(kept)), 1)
    folds = len(record.config.get("folds", {}).get("names") or ())
    crossed = row["folds"] in _UNCOUNTED or row["folds"].startswith("speaker+")
    if row.get("speaker_dependent") or row.get("test_corpus") or crossed or not folds:
        return 0.0
    return round((row.get("speakers") or 0) * (folds - 1) / folds, 1)
