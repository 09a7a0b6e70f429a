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

_AGREEMENT = ("ccc", "ccc-regression")


def draw_curves(panels: Sequence[Panel]) -> dict[str, Figure]:
    """Draw validation score and training loss of what was chosen, from runs that keep them.

    Scores and losses of different units stand in figures of their own; epochs in which a margin grows are shaded.
    """
    drafts: dict[str, dict[str, Draft]] = defaultdict(dict)
    for panel in panels:
        series: dict[str, dict[str, Mapping[int, Spread]]] = defaultdict(dict)
        for loss, record in panel.runs.items():
            curves = record.load_curves() or {}
            score = f"dev-{curves.get('score')}"
            for kind, values in ((score, curves.get("dev")), (f"loss{_kind(record)}", curves.get("loss"))):
                points = _spread(np.array(values or [], dtype=np.float64) * (100 if kind == "dev-UA" else 1))
                series[kind] |= {loss: points} if points else {}
        for kind, own in series.items():
            if own:
                part = kind.partition("-")[0] if kind.startswith("dev") else kind
                drafts[kind][f"curves-{part}-{panel.file_name}"] = Draft(
                    title=f"{panel.name}, {'validation' if part == 'dev' else 'training'}",
                    series=own,
                    chance=panel.chance if kind == "dev-UA" else None,
                    spans={
                        f"{loss}: margin grows": end for loss in own if (end := _warm_up(panel.runs[loss])) is not None
                    },
                )
    figures: dict[str, Figure] = {}
    for kind in sorted(drafts):
        figures |= draw_lines(
            drafts[kind], _AXES.get(kind) or Axes(place="epoch", value=f"validation {kind[4:]}", decimals=3)
        )
    return figures


_AXES = {
    "dev-UA": Axes(place="epoch", value="validation UAR (UA) in %", bounds=(0, 100)),
    "loss": Axes(place="epoch", value="training loss in nats", decimals=3, log=True),
    "loss-ccc": Axes(place="epoch", value="training loss, 1 - CCC", decimals=3),
    "loss-own": Axes(place="epoch", value="training loss in its own unit", decimals=3),
}


def _kind(record: RunRecord) -> str:
    """Tell losses of different units apart."""
    name = record.config["loss"]
    return "-ccc" if name in _AGREEMENT else "" if name in LOSSES else "-own"


def _warm_up(record: RunRecord) -> float | None:
    """Return the first epoch with the full margin of a loss that has one; None where it is constant."""
    options = record.config.get("loss_options") or {}
    share = options.get("warmup")
    return 1 + share * record.config["budget"]["epochs"] if isinstance(share, int | float) and share > 0 else None


def draw_weights(panels: Sequence[Panel]) -> dict[str, Figure]:
    """Draw the share of every layer in the learned weighted sum of layers, over folds and seeds."""
    drafts = {}
    for panel in panels:
        series, layers = {}, []
        for loss, record in panel.runs.items():
            found = [
                value.flatten().double().softmax(0).numpy()
                for name, value in record.load_heads().items()
                if name.endswith("layer_weights")
            ]
            layers = record.config["store"]["encoder"]["layers"]
            if found:
                series[loss] = _spread(100 * np.stack(found), layers)
        if series:
            drafts[f"weights-{panel.file_name}"] = Draft(
                title=f"{panel.name}, weights of the layers", series=series, chance=(100 / len(layers), "equal weights")
            )
    return draw_lines(drafts, Axes(place="layer", value="weight in %", bounds=(0, 100)))


def _spread(values: NDArray[np.float64], places: Sequence[int] | None = None) -> dict[int, Spread]:
    """Take mean and standard deviation over the first dimension."""
    if not values.size:
        return {}
    deviations = values.std(0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1])
    found = zip(places or range(1, values.shape[1] + 1), values.mean(axis=0), deviations, strict=True)
    return {int(place): (float(mean), float(std)) for place, mean, std in found}
