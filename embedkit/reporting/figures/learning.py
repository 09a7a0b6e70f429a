"""How heads learned: training loss and validation score by epoch, and the weights they gave to layers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedkit.losses import LOSSES
from embedkit.reporting.figures.charts import Axes, Draft, Spread, draw_lines
from embedkit.reporting.figures.panels import Panel
from embedkit.reporting.figures.theme import Figure

if TYPE_CHECKING:
    from embedkit.training.runs import RunRecord

_AGREEMENT, _MIXED = ("ccc", "ccc-regression"), "ce+ccc"


def draw_curves(panels: Sequence[Panel]) -> dict[str, Figure]:
    """Draw validation score and training loss of what was chosen, from runs that keep them.

    Scores and losses of different units stand in figures of their own; epochs in which a margin grows are shaded.
    """
    drafts: dict[str, dict[str, Draft]] = defaultdict(dict)
    for panel in panels:
        series: dict[str, dict[str, Mapping[int, Spread]]] = defaultdict(dict)
        for loss, record in panel.runs.items():
            curves = record.load_curves() or {}
            for kind, part in ((f"dev-{curves.get('score')}", "dev"), (f"loss{_kind(record)}", "loss")):
                if curves.get(part):
                    series[kind][loss] = _spread(np.array(curves[part], np.float64) * (100 if kind == "dev-UA" else 1))
        for kind, own in series.items():
            part, what = (kind, "training loss") if kind.startswith("loss") else ("dev", "validation score")
            warm_ups = {f"{loss}: margin grows": _warm_up(panel.runs[loss]) for loss in own}
            drafts[kind][f"curves-{part}-{panel.file_name}"] = Draft(
                title=f"{panel.name}, {what}{_UNITS.get(kind, '')}",
                series=own,
                guess=panel.chance if kind == "dev-UA" else None,
                spans={words: end for words, end in warm_ups.items() if end},
            )
    figures: dict[str, Figure] = {}
    for kind in sorted(drafts):
        other = Axes(place="epoch", value=f"validation {kind[4:]}", decimals=3)
        figures |= draw_lines(drafts[kind], _AXES.get(kind, other))
    return figures


_AXES = {
    "dev-UA": Axes(place="epoch", value="validation UAR (UA) in %", bounds=(0, 100)),
    "loss": Axes(place="epoch", value="training loss in nats", decimals=3, log=True),
    "loss-ccc": Axes(place="epoch", value="training loss, 1 - CCC", decimals=3),
    "loss-own": Axes(place="epoch", value="training loss in its own unit", decimals=3),
}
_UNITS = {"loss": " in nats", "loss-ccc": " as 1 - CCC", "loss-own": " in its own unit"}


def _kind(record: RunRecord) -> str:
    """Tell losses of different units apart."""
    name = record.config["loss"]
    return "-ccc" if name in _AGREEMENT else "" if name in LOSSES and name != _MIXED else "-own"


def _warm_up(record: RunRecord) -> float:
    """Return the first epoch with the full margin of a loss that has one; 0 where it is constant."""
    share = (record.config.get("loss_options") or {}).get("warmup") or 0
    return 1 + share * record.config["budget"]["epochs"] if share else 0


def draw_weights(panels: Sequence[Panel]) -> dict[str, Figure]:
    """Draw the share of every layer in the learned weighted sum of layers, over folds and seeds."""
    drafts = {}
    for panel in panels:
        series, layers = {}, []
        for loss, record in panel.runs.items():
            found = [
                value.flatten().double().softmax(0).numpy()
                for name, value in ({} if record.is_zero_shot else record.load_heads()).items()
                if name.endswith("layer_weights")
            ]
            layers = record.config["store"]["encoder"]["layers"]
            if found:
                series[loss] = _spread(100 * np.stack(found), layers)
        if series:
            equal = 100 / len(layers)
            drafts[f"weights-{panel.file_name}"] = Draft(
                title=f"{panel.name}, weights of the layers", series=series, guess=(equal, equal, "equal weights")
            )
    return draw_lines(drafts, Axes(place="layer", value="weight in %", bounds=(0, 100)))


def _spread(values: NDArray[np.float64], places: Sequence[int] | None = None) -> dict[int, Spread]:
    """Take mean and standard deviation over the first dimension."""
    deviations = values.std(0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1])
    found = zip(places or range(1, values.shape[1] + 1), values.mean(axis=0), deviations, strict=True)
    return {int(place): (float(mean), float(std)) for place, mean, std in found}
