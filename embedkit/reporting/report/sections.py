"""The figures of a report: which there are, under which headings, and the maps of all stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from embedkit.errors import RunError
from embedkit.progress import Tell
from embedkit.reporting.figures.calibration import draw_calibration
from embedkit.reporting.figures.forest import draw_shares
from embedkit.reporting.figures.layers import draw_layers
from embedkit.reporting.figures.learning import draw_curves, draw_weights
from embedkit.reporting.figures.maps import METHODS, build_map, draw_map
from embedkit.reporting.figures.panels import Panel, is_on_one_store, tested_stores
from embedkit.reporting.figures.recall import MOST_SPEAKERS, Read, draw_classes, draw_confusions, draw_speakers
from embedkit.reporting.figures.theme import Figure
from embedkit.reporting.metrics import METRICS, SCORES, task_of
from embedkit.reporting.published import last_part
from embedkit.reporting.report.board import Board, Drawn, Figures
from embedkit.reporting.report.clips import Clips
from embedkit.reporting.report.hardest import Tally

if TYPE_CHECKING:
    from embedkit.training.runs import RunRecord


def draw_openings(panels: Sequence[Panel], read: Read) -> tuple[list[Figure], dict[str, Figure]]:
    """Draw the matrix of the best run, which a study opens with, and the matrices that are folded."""
    matrices = draw_confusions(panels, read)
    scores = {
        f"confusion-{panel.file_name}-{loss}": record.metrics["ua"]
        for panel in panels
        for loss, record in panel.runs.items()
        if panel.classes
    }
    best = max(matrices, key=scores.__getitem__, default="")
    return [matrices.pop(best)] if best else [], matrices


def draw_sections(
    group: Sequence[RunRecord],
    panels: Sequence[Panel],
    families: Sequence[Sequence[RunRecord]],
    read: Read,
    matrices: Mapping[str, Figure],
    board: Board,
) -> list[Figures]:
    """Draw the figures of runs of one protocol that are folded; what has none is left out.

    Those by the number of training speakers stand with the runs on the largest share of them.
    """
    metric = SCORES[task_of(group[0].metrics)][0]
    sections: list[tuple[str, str, Mapping[str, Figure]]] = [
        ("Confusion matrices", "All others; means over seeds, in percent of the true class.", matrices),
        (
            "Recall of every class",
            "Dots are means over seeds, bars one standard deviation; the dashed line is chance.",
            draw_classes(panels, read),
        ),
        (
            "UAR (UA) of every speaker",
            "Mean recall over the classes that the speaker has; bars are one standard deviation over seeds. "
            f"At most {MOST_SPEAKERS} speakers are drawn, those with the lowest.",
            draw_speakers(panels, read),
        ),
        (
            "Calibration",
            "How often heads are right by how sure they are: means over seeds, bands one standard deviation; below the "
            "dashed line they are too sure. Calibrated is after one temperature for each fold and seed, found on inner "
            "folds. And the NLL of every loss, beside that of guessing.",
            draw_calibration(panels, read),
        ),
        (
            "Learning curves over speakers",
            "By the mean number of training speakers over folds. Bands are 95 % intervals over test speakers; how much "
            "hangs on which few speakers were trained on, they do not tell.",
            draw_shares([one for one in families if one[-1] in group]),
        ),
        (
            "Learning curves",
            "What was chosen, on the inner folds it was chosen on: means over folds, bands one standard deviation over "
            "seeds. Losses of different units have figures of their own; epochs in which a margin grows are shaded.",
            draw_curves(panels),
        ),
        (
            "Weights of the layers",
            "Shares of the encoder's layers in the learned weighted sum of layers; bands are one standard deviation "
            "over folds and seeds.",
            draw_weights(panels),
        ),
        (
            f"{METRICS[metric].label} by layer",
            "Heads on one layer alone; the best of them is chosen on test data and is no result of a system.",
            _draw_layers(group, metric),
        ),
    ]
    return [
        Figures(heading=heading, note=note, charts=[board.add({"": one}) for one in charts.values()])
        for heading, note, charts in sections
        if charts
    ]


def _draw_layers(group: Sequence[RunRecord], metric: str) -> dict[str, Figure]:
    rows = [record.metrics for record in group if record.metrics.get("layer") is not None]
    return draw_layers(rows, metric) if any(row.get(metric) is not None for row in rows) else {}


@dataclass(frozen=True, kw_only=True)
class Maps:
    """The maps of all stores, of which there is none and why, and what colours may mean."""

    drawn: Sequence[Drawn]
    gone: Sequence[str]
    coloured_by: Sequence[str]


def draw_maps(
    protocols: Sequence[tuple[Sequence[Panel], Tally]],
    read: Read,
    board: Board,
    clips: Clips | None,
    tell: Tell,
) -> Maps:
    """Draw the embeddings of every store that is still there, with the clips of their points.

    What is said of a point is said by the runs of the first protocol that tested it.
    """
    panels = [panel for own, _ in protocols for panel in own]
    drawn, gone = [], _name_others(panels)
    coloured: dict[str, None] = {}
    for panel, record in tested_stores(panels):
        tally = next(tally for own, tally in protocols if any(one is panel for one in own))
        encoder = last_part(panel.encoder)
        tell(f"map of {encoder}: t-SNE of {len(read(record).ids):,} utterances")
        try:
            found = build_map(record, read(record))
        except RunError as error:
            gone.append(f"There is no map of {encoder}. {error}")
            continue
        right = tuple(tally.tell(name, encoder) for name in found.columns["id"])
        if any(right):
            loss = next(loss for loss, one in panel.runs.items() if one is record)
            said = (
                f"Predicted: by {panel.head} under {loss}{_trained_on(record)}. Recognised: by all heads on {encoder}."
            )
            found = replace(found, columns={**found.columns, "right": right}, note=f"{found.note} {said}")
        coloured |= dict.fromkeys(found.coloured_by)
        variants = {f"{method}, {by}": draw_map(found, method, by) for method in METHODS for by in found.coloured_by}
        if clips is not None:
            own = clips.take(record, found.columns["id"])
            variants = {name: _with_clips(one, own) for name, one in variants.items()}
        drawn.append(board.add(variants, title=found.title, note=found.note))
    return Maps(drawn=drawn, gone=gone, coloured_by=list(coloured))


def _trained_on(record: RunRecord) -> str:
    """Say on which other corpus the run that tests a map's points was trained."""
    return f", trained on {record.metrics['corpus']}" if record.metrics.get("test_corpus") else ""


def _with_clips(figure: Figure, clips: Sequence[int | None]) -> Figure:
    return replace(figure, data=[{**row, "clip": clip} for row, clip in zip(figure.data, clips, strict=True)])


def _name_others(panels: Sequence[Panel]) -> list[str]:
    """Say of which encoders there are no embeddings to draw."""
    shown = {(record.metrics["encoder"], "frozen") for _, record in tested_stores(panels)}
    others = [record for panel in panels for record in panel.runs.values() if not is_on_one_store(record)]
    live = {(record.metrics["encoder"], record.config["mode"]): None for record in others}
    without = [f"{encoder} ({mode})" for encoder, mode in live if (encoder, mode) not in shown]
    return [
        f"There is no map of {', '.join(without)}: only runs on a store for all folds have embeddings to draw. "
        "`embedkit extract` writes one of the encoder, or of one that was trained and kept by --save-encoder."
    ][: len(without)]
