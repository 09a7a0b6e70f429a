"""Synthetic stores that heads can learn from: two layers, the second one informative."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from embedkit.store import Store, StoreContent, UtteranceEmbedding, open_store, write_store
from embedkit.training.runs import RunRecord

LABELS = ("anger", "happiness", "sadness")


def write_synthetic_store(
    path: Path,
    *,
    speakers: int = 4,
    each: int = 15,
    noise: float = 1.0,
    framed: bool = False,
    seed: int = 0,
    shuffled: bool = False,
    labels: tuple[str, ...] = LABELS,
    encoder: str = "tiny",
    corpus: str = "synthetic",
    fingerprint: str = "f" * 64,
    options: Mapping[str, Any] | None = None,
    where: Sequence[str] = (),
    **changes: Any,
) -> Store:
    """Write `speakers` x `each` utterances; every class has a direction of its own in layer 1."""
    generator = np.random.default_rng(seed)
    count = speakers * each
    owners = np.repeat(np.arange(speakers), each)
    targets = np.arange(count) % len(labels)
    directions = 2.0 * np.eye(6)[: len(labels)]
    lengths = generator.integers(3, 9, count)
    shown = generator.permutation(targets) if shuffled else targets
    rows = []
    for target, owner, length in zip(shown, owners, lengths, strict=True):
        frames = generator.normal(scale=noise, size=(length, 2, 6))
        frames[:, 1] += directions[target] + 0.3 * owner
        frames = frames.astype("float32")
        rows.append(UtteranceEmbedding(frames.mean(0), frames.std(0), frames if framed else None))
    values: dict[str, Any] = {
        "corpus": corpus,
        "corpus_info": {"kind": "manifest", "root": "/corpus", "task": {"classes": [], "merge": {}}, "notes": []},
        "encoder": {"name": encoder, "layers": [0, 1], "dimensions": 6, "frame_rate": 50.0, "precision": "fp32"},
        "fingerprint": fingerprint,
        "columns": {
            "id": [f"u{number:04d}" for number in range(count)],
            "path": [f"u{number:04d}.wav" for number in range(count)],
            "label": [labels[target] for target in targets],
            "speaker": [f"s{owner:02d}" for owner in owners],
            "session": [f"session{owner // 2}" for owner in owners],
            "split": [("train", "train", "dev", "test")[owner % 4] for owner in owners],
            "text": [f"t{number % 5}" for number in range(count)],
            "valence": generator.uniform(1, 5, count),
        },
        "frame_dtype": "float32" if framed else None,
        "frame_counts": lengths.tolist() if framed else None,
        "failures": {},
        "extraction": {
            "options": {"frame_dtype": "float32" if framed else None, "max_seconds": None, **(options or {})},
            "selection": {"where": list(where), "limit": None},
        },
    }
    values["columns"].update(changes)
    write_store(path, StoreContent(**values), rows)
    return open_store(path)


def calibrated_shares(record: RunRecord, row: Mapping[str, str]) -> list[float]:
    """Return what a row of a run's predictions says after the temperature of its head, by hand."""
    (temperature,) = (
        choice["temperature"]
        for choice in record.config["choices"]
        if (choice["fold"], str(choice["seed"])) == (row["fold"], row["seed"])
    )
    powers = [float(row[f"p_{name}"]) ** (1 / temperature) for name in record.config["classes"]]
    return [power / sum(powers) for power in powers]
