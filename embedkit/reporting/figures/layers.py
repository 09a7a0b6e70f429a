"""A metric over the layers of an encoder, from runs of single layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from embedkit.errors import ConfigError, RunError
from embedkit.registry import unknown_name
from embedkit.reporting.figures.charts import Axes, Draft, Spread, draw_lines
from embedkit.reporting.figures.panels import loss_order
from embedkit.reporting.figures.theme import Figure
from embedkit.reporting.labels import Row, label_parts
from embedkit.reporting.metrics import METRICS, SHOWN
from embedkit.reporting.protocol import describe_title, split_by_protocol
from embedkit.reporting.published import last_part


def draw_layers(rows: Iterable[Row], metric: str = "ua") -> dict[str, Figure]:
    """Draw a metric over an encoder's layers, one line per loss, from runs of `fit --layers each`.

    Args:
        rows: Rows of runs, as in `metrics.json`; those that are not of a single layer are left out.
        metric: "ua", "wa", "f1", "nll", "brier", "ece", "kl", "js" (calibrated where the runs say so), or "ccc" (the
            mean over the emotional attributes).

    Returns:
        Figures by name, one for each corpus, encoder, head and protocol.

    Raises:
        RunError: no run is of a single layer.
        ConfigError: an unknown metric.
    """
    if metric not in METRICS:
        raise ConfigError(unknown_name("metric", metric, METRICS))
    rows = list(rows)
    known = (name for name in SHOWN.get(metric, ()) if any(row.get(name) is not None for row in rows))
    metric = next(known, metric)
    single = [row for row in rows if row.get("layer") is not None and row.get(metric) is not None]
    single.sort(key=loss_order)
    if not single:
        raise RunError(f"No run of a single layer has {metric!r}; train some with embedkit fit --layers each.")
    shown = METRICS[metric]
    drafts: dict[str, Draft] = {}
    for group in split_by_protocol(single):
        heads = label_parts(group, "head")
        kinds = [(str(row["encoder"]), head) for row, head in zip(group, heads, strict=True)]
        for encoder, head in dict.fromkeys(kinds):
            own = [row for row, kind in zip(group, kinds, strict=True) if kind == (encoder, head)]
            name = f"layers-{own[0]['corpus']}-{last_part(encoder)}-{head}-{metric}"
            number = sum(other == name or other.startswith(f"{name}-") for other in drafts)
            guess = (chance := 100 / len(own[0]["classes"]), chance, "chance") if metric == "ua" else None
            drafts[name if not number else f"{name}-{number + 1}"] = Draft(
                title=f"{describe_title(own[0], metric)}: {last_part(encoder)}, {head}",
                series=_series(own, metric),
                guess=guess,
            )
    value = f"{shown.label} {shown.unit}".strip()
    return draw_lines(drafts, Axes(place="layer", value=value, decimals=shown.decimals))


def _series(rows: Sequence[Row], metric: str) -> dict[str, dict[int, Spread]]:
    factor = METRICS[metric].factor
    names = label_parts(rows, "loss")
    return {
        name: {
            int(row["layer"]): (factor * row[metric], factor * (row.get(f"{metric}_std") or 0.0))
            for row, own in sorted(zip(rows, names, strict=True), key=lambda pair: int(pair[0]["layer"]))
            if own == name
        }
        for name in dict.fromkeys(names)
    }
