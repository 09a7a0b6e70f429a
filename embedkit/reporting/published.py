"""The study's published numbers, and what each of them was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
        "4 classes, 5,531 utterances, random 70/15/15 split (the same speakers on both sides), fine-tuned end to end, "
        "one seed. Its CCC loss is CE plus CCC on valence, arousal and dominance."
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
