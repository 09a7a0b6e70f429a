"""Published numbers on IEMOCAP, and what each of them was: the study's, SUPERB's and EmoBox's."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from embedkit.encoders.published import PUBLISHED
from embedkit.reporting.grid import Cell, Grid, Line

LOSSES = ("ce", "label-smoothing", "focal", "aam", "ccc")

ACCURACIES: Mapping[str, tuple[float, ...]] = {
    "LSTM": (56.10, 56.37, 52.66, 47.34, 58.23),
    "VGGish": (57.54, 57.00, 56.19, 27.73, 55.65),
    "wav2vec 2.0": (74.46, 72.17, 72.29, 61.33, 74.22),
    "HuBERT": (81.30, 80.09, 81.41, 78.66, 63.80),
}
"""Percent as published, one number for each of `LOSSES`; what they measure differs from cell to cell (`NOTES`)."""

CLASSES: Mapping[str, int] = {"LSTM": 4, "VGGish": 4, "wav2vec 2.0": 4, "HuBERT": 2}

NOTES: Mapping[str, str] = {
    "LSTM": (
        "39 acoustic features (13 MFCC, deltas, delta-deltas), 128 frames, random 70/10/20 split. Its CCC loss is the "
        "CCC between class probabilities and one-hot labels, and that cell is a validation accuracy (test: 58.99)."
    ),
    "VGGish": (
        "a VGG-style network trained from scratch on log-mel images, not the pretrained VGGish. The AAM cell was "
        "scored on a layer that the AAM loss never trains. Its CCC loss is 0.5 CE + 0.5 CCC on the expected "
        "class index."
    ),
    "wav2vec 2.0": (
        "4 classes, 5,531 utterances, random 70/15/15 split (the same speakers in training and test sets), fine-tuned "
        "end to end, one seed. Its CCC loss is CE plus CCC on valence, arousal and dominance."
    ),
    "HuBERT": (
        "two classes (improvised or scripted; the emotion was looked for in the file name and not found), random "
        "split. The CCC cell is a CCC (0.638), not an accuracy. Focal beats CE by one utterance of 909."
    ),
}

SUMMARY = (
    "Published accuracies (%) of the study on IEMOCAP. No two rows are comparable, with each other or with the "
    "numbers above, and none is a target."
)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A benchmark that published scores of frozen encoders on IEMOCAP with four classes.

    Attributes:
        name: What it is called.
        protocol: How the scores were made.
        scores: UA, WA and F1 in percent (None where not given) of encoders by their names here.
    """

    name: str
    protocol: str
    scores: Mapping[str, tuple[float | None, float | None, float | None]]


SOURCES = (
    Source(
        name="SUPERB",
        protocol=(
            "Yang et al. 2021: accuracy; frozen encoder, weighted sum of its layers, linear head; session folds, but "
            "chosen on a random share of the training speakers"
        ),
        scores={
            "wav2vec2": (None, 63.43, None),
            "hubert": (None, 64.92, None),
            "wavlm": (None, 67.98, None),
            "hubert-large": (None, 67.62, None),
            "wavlm-large": (None, 70.03, None),
        },
    ),
    Source(
        name="EmoBox",
        protocol="Ma et al. 2024: frozen encoder; session folds",
        scores={
            "wav2vec2": (58.27, 57.73, 57.83),
            "hubert": (63.87, 63.10, 63.45),
            "hubert-large": (67.42, 66.69, 67.24),
            "wavlm-large": (69.47, 69.07, 69.29),
            "whisper-large-v3": (73.54, 72.86, 73.11),
        },
    ),
)

_ENCODERS: Mapping[str, str] = {
    **{source.partition("@")[0].rpartition("/")[2]: name for name, source in PUBLISHED.items()},
    **{name: name for name in PUBLISHED},
    "hubert-base": "hubert",
}
"""Names of published weights, in small letters, by the last part of what a run calls its encoder."""


def lay_out_published(rows: Sequence[Mapping[str, Any]], metrics: Collection[str]) -> list[Grid]:
    """Set published numbers in tables of their own, none marked as best, each with its protocol in a footnote.

    Args:
        rows: The runs shown, for which counterparts are looked for.
        metrics: What is shown of them.
    """
    return [_study(rows, metrics), *_elsewhere(rows)]


def _study(rows: Sequence[Mapping[str, Any]], metrics: Collection[str]) -> Grid:
    ours: dict[str, dict[str, None]] = {}
    for row in rows:
        system = published_system(row)
        if system is not None:
            ours.setdefault(system, {})[f"{last_part(row['encoder'])} with {row['head']}"] = None
    lines = tuple(
        Line(
            labels=(f"{system} [{number}]", str(CLASSES[system])),
            cells=tuple(Cell(mean=value, decimals=2) for value in values),
        )
        for number, (system, values) in enumerate(ACCURACIES.items(), start=1)
    )
    notes = [SUMMARY]
    if set(metrics) != {"wa"}:
        notes.append("They are accuracies: the tables of WA (--metric wa) are the nearest counterpart.")
    pairs = "; ".join(f"{system}: {', '.join(names)}" for system, names in ours.items())
    notes.append(f"Nearest here: {pairs}." if pairs else "No run here has an encoder of the study.")
    footnotes = (f"[{number}] {system}: {NOTES[system]}" for number, system in enumerate(ACCURACIES, start=1))
    return Grid(
        title="Published by the study (accuracy in %)",
        label_headers=("system", "classes"),
        columns=LOSSES,
        lines=lines,
        notes=(*notes, *footnotes),
    )


def _elsewhere(rows: Sequence[Mapping[str, Any]]) -> list[Grid]:
    """Set what benchmarks published of the encoders shown; nothing where none has published any."""
    names = dict.fromkeys(published_encoder(str(row["encoder"])) for row in rows)
    found = [(name, source) for name in names if name for source in SOURCES if name in source.scores]
    if not found:
        return []
    used = [source for source in SOURCES if source in [own for _, own in found]]
    numbers = {source.name: number for number, source in enumerate(used, start=1)}
    lines = tuple(
        Line(
            labels=(name, f"{source.name} [{numbers[source.name]}]"),
            cells=tuple(value if value is None else Cell(mean=value, decimals=2) for value in source.scores[name]),
        )
        for name, source in found
    )
    other = "" if any(row["corpus"] == "iemocap" for row in rows) else "; the runs above are of another corpus"
    return [
        Grid(
            title="Published by others of the same encoders: IEMOCAP, 4 classes (in %)",
            label_headers=("encoder", "source"),
            columns=("UAR", "WA", "F1"),
            lines=lines,
            notes=(
                f"Protocols differ between sources and from the runs above, so no best is marked{other}.",
                *(f"[{numbers[source.name]}] {source.name}, {source.protocol}." for source in used),
            ),
        )
    ]


def published_encoder(name: str) -> str | None:
    """Return the name here of the published weights that an encoder's name, id or folder stands for, if any."""
    return _ENCODERS.get(last_part(name).partition("@")[0].lower())


def published_system(row: Mapping[str, Any]) -> str | None:
    """Return which of the study's systems a run corresponds to, if any."""
    encoder = last_part(row["encoder"]).lower()
    same = {("mfcc", "lstm"): "LSTM", ("logmel", "cnn"): "VGGish"}
    if (encoder, row["head"]) in same:
        return same[encoder, row["head"]]
    prefixes = {"vggish": "VGGish", "wav2vec2": "wav2vec 2.0", "hubert": "HuBERT"}
    return next((system for prefix, system in prefixes.items() if encoder.startswith(prefix)), None)


def last_part(name: str) -> str:
    """Return the last part of a path or of a Hugging Face id."""
    return name.rstrip("/").rpartition("/")[2]
