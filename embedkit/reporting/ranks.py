"""Mean ranks of losses, and of encoders with their heads, over several corpora (Demšar 2006)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit
from scipy.stats import rankdata

from embedkit.reporting.grid import Cell, Grid, Line
from embedkit.reporting.labels import Row, place_rows
from embedkit.reporting.metrics import METRICS
from embedkit.wording import list_words

FloatArray: TypeAlias = NDArray[np.float64]
Scores: TypeAlias = Mapping[tuple[str, ...], Mapping[tuple[str, ...], float]]
"""Of one corpus: what is ranked together, and the score of each that is ranked."""

LEVEL = 0.95


def lay_out_ranks(groups: Sequence[Sequence[Row]], metric: str) -> list[Grid]:
    """Lay out mean ranks where two corpora or more share what is ranked; the demo corpus does not count.

    Args:
        groups: Rows of one protocol each; of several protocols of a corpus, the one with most runs counts.
        metric: What is ranked by.
    """
    chosen: dict[str, Sequence[Row]] = {}
    for group in sorted(groups, key=len, reverse=True):
        if not group[0].get("demo"):
            chosen.setdefault(str(group[0]["corpus"]), group)
    if len(chosen) < 2:
        return []
    lines, columns = zip(*(_collect(group, metric) for group in chosen.values()), strict=True)
    notes = [
        f"Ranks by {METRICS[metric].label} over {len(chosen)} corpora ({list_words(chosen)}), 1 is best, averaged "
        "within a corpus first (Demšar 2006). In brackets: 95 % t intervals over corpora, their variance pooled over "
        "what is ranked."
    ]
    if any(group[0].get("demo") for group in groups):
        notes.append("The demo corpus is synthetic and left out of the ranks.")
    grids = []
    if losses := rank_over_corpora(lines):
        own = [Line(labels=("all", ""), cells=tuple(losses.values()))]
        grids.append(("Mean ranks of losses", ("", ""), [loss for (loss,) in losses], own))
    if encoders := rank_over_corpora(columns):
        ranked = sorted(encoders.items(), key=lambda pair: pair[1].mean)
        own = [Line(labels=(encoder, head), cells=(cell,)) for (encoder, head), cell in ranked]
        grids.append(("Mean ranks of encoders with their heads", ("encoder", "head"), ["mean rank"], own))
    return [
        Grid(title=title, label_headers=headers, columns=tuple(names), lines=tuple(rows), notes=tuple(notes))
        for title, headers, names, rows in grids
    ]


def _collect(group: Sequence[Row], metric: str) -> tuple[Scores, Scores]:
    """Return the scores of losses by line, and of lines by loss; higher is better."""
    lines: dict[tuple[str, ...], dict[tuple[str, ...], float]] = defaultdict(dict)
    columns: dict[tuple[str, ...], dict[tuple[str, ...], float]] = defaultdict(dict)
    sign = -1 if METRICS[metric].lowest_is_best else 1
    for row, place in zip(group, place_rows(group), strict=True):
        # Fitted heads have one objective, and a layer is no system.
        if row.get(metric) is not None and not row.get("fitted") and row.get("layer") is None:
            lines[place.encoder, place.head][(place.loss,)] = sign * row[metric]
            columns[(place.loss,)][place.encoder, place.head] = sign * row[metric]
    return lines, columns


def rank_over_corpora(corpora: Sequence[Scores]) -> dict[tuple[str, ...], Cell]:
    """Rank what all corpora have within each line that is whole, average within corpora, then over them."""
    known = [{name for scores in lines.values() for name in scores} for lines in corpora]
    names = [name for lines in corpora[:1] for scores in lines.values() for name in scores]
    shared = [name for name in dict.fromkeys(names) if all(name in own for own in known)]
    means = []
    for lines in corpora:
        whole = [[scores[name] for name in shared] for scores in lines.values() if scores.keys() >= {*shared}]
        if len(shared) < 2 or not whole:
            return {}
        means.append(np.mean([rankdata(-np.round(scores, 6)) for scores in whole], axis=0))
    mean, half = mean_with_interval(np.array(means))
    return {
        name: Cell(mean=rank, interval=(max(1.0, rank - half), min(float(len(shared)), rank + half)), decimals=2)
        for name, rank in zip(shared, mean.tolist(), strict=True)
    }


def mean_with_interval(ranks: FloatArray) -> tuple[FloatArray, float]:
    """Average ranks over corpora, with half the width of a t interval.

    The variance is pooled over what is ranked, so that few corpora that agree in one rank do not make it certain: the
    residual of a two-way layout with (corpora - 1) x (ranked - 1) degrees of freedom.

    Shape:
        Input `[corpora, ranked]`, output `[ranked]`.
    """
    corpora, count = ranks.shape
    residual = float(((ranks - ranks.mean(0)) ** 2).sum())
    variance = residual / ((corpora - 1) * count * corpora)
    freedom = (corpora - 1) * (count - 1)
    return ranks.mean(0), float(stdtrit(freedom, (1 + LEVEL) / 2)) * float(np.sqrt(variance))
