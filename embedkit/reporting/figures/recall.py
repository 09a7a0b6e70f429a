"""What is recognised: confusion matrices, recall of every class and of every speaker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedkit.evaluation.metrics import confusion_matrix, unweighted_average_recall
from embedkit.reporting.figures.charts import Axes, Draft, Spread, draw_dots, draw_matrix
from embedkit.reporting.figures.panels import Panel
from embedkit.reporting.figures.theme import Figure

if TYPE_CHECKING:
    from embedkit.reporting.predictions import Predictions
    from embedkit.training.runs import RunRecord

Read = Callable[["RunRecord"], "Predictions"]

MOST_SPEAKERS = 60
"""Rows of a figure: of more speakers, those with the lowest recall."""


def draw_confusions(panels: Sequence[Panel], read: Read) -> dict[str, Figure]:
    """Draw one matrix for each run that predicts classes: mean counts over its seeds."""
    charts = {}
    for panel in panels:
        for loss, record in panel.runs.items():
            found = read(record)
            if len(found.truth):
                counts = confusion_matrix(found.truth, found.predicted, len(found.classes)).mean(0)
                title = f"{panel.name}, {loss}"
                charts[f"confusion-{panel.file_name}-{loss}"] = draw_matrix(title, found.classes, counts)
    return charts


def draw_classes(panels: Sequence[Panel], read: Read) -> dict[str, Figure]:
    """Draw the recall of every class under every loss: mean and standard deviation over seeds."""

    def measure(found: Predictions) -> Mapping[str, NDArray[np.float64]]:
        hits = found.hits
        return {
            name: hits[:, found.truth == place].mean(1)
            for place, name in enumerate(found.classes)
            if np.any(found.truth == place)
        }

    return _draw(panels, read, measure, "classes", Axes(place="class", value="recall in %", bounds=(0, 100)))


def draw_speakers(panels: Sequence[Panel], read: Read) -> dict[str, Figure]:
    """Draw the UAR (UA) of every speaker under every loss, over the classes that the speaker has."""

    def measure(found: Predictions) -> Mapping[str, NDArray[np.float64]]:
        speakers = np.array(found.speakers)
        names = sorted(set(found.speakers) - {""})
        scores = {}
        for name in names:
            own = speakers == name
            scores[name] = unweighted_average_recall(found.truth[own], found.predicted[:, own], len(found.classes))
        return scores

    axes = Axes(place="speaker", value="UAR (UA) of the speaker in %", bounds=(0, 100))
    return _draw(panels, read, measure, "speakers", axes)


def _draw(
    panels: Sequence[Panel],
    read: Read,
    measure: Callable[[Predictions], Mapping[str, NDArray[np.float64]]],
    kind: str,
    axes: Axes,
) -> dict[str, Figure]:
    drafts = {}
    for panel in panels:
        found = {loss: read(record) for loss, record in panel.runs.items()}
        scores = {loss: measure(own) for loss, own in found.items() if len(own.truth)}
        names = list(dict.fromkeys(name for own in scores.values() for name in own))
        if len(names) > MOST_SPEAKERS:
            names.sort(key=lambda name: np.mean([own[name].mean() for own in scores.values() if name in own]))
        shown = names[:MOST_SPEAKERS]
        series = {loss: {name: _spread(own[name]) for name in shown if name in own} for loss, own in scores.items()}
        if names:
            drafts[f"{kind}-{panel.file_name}"] = Draft(title=panel.name, series=series, guess=panel.chance)
    return draw_dots(drafts, axes, "speaker" if kind == "speakers" else "label")


def _spread(values: NDArray[np.float64]) -> Spread:
    """Return mean and standard deviation over seeds, in percent."""
    return 100 * float(values.mean()), 100 * float(values.std(ddof=1)) if len(values) > 1 else 0.0
