"""A small corpus that any encoder can tell apart, and runs on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile

import embedkit
from embedkit.training.runs import RunRecord

RATE = 16000


def write_tones(folder: Path) -> Path:
    """Write 24 clips of four speakers: tones of two pitches."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    rows = ["path,label,speaker,arousal,valence"]
    for number in range(24):
        label, pitch = (("low", 150), ("high", 900))[number % 2]
        time = np.arange(int(RATE * (0.3 + 0.05 * (number % 5)))) / RATE
        clip = 0.3 * np.sin(2 * np.pi * pitch * time) + 0.02 * generator.normal(size=len(time))
        soundfile.write(folder / f"{number:02d}.wav", clip, RATE)
        rows.append(f"{number:02d}.wav,{label},s{number // 6},{pitch / 100},{-3 if label == 'low' else 2}")
    (folder / "corpus.csv").write_text("\n".join(rows) + "\n")
    return folder


def fit_tones(corpus: Path, encoder: str, **options: Any) -> RunRecord:
    """Extract and fit beside the corpus; `extract` holds options of the extraction."""
    store = embedkit.extract(
        corpus / "corpus.csv",
        encoder=encoder,
        out=corpus.parent / "store.h5",
        progress=False,
        sources=options.pop("sources", None),
        **options.pop("extract", {}),
    )
    settings: dict[str, Any] = {"seeds": 2, "epochs": 6, "lr": (1e-2,), "batch_size": 8, **options}
    (record,) = embedkit.fit(store, folds="speaker", runs=corpus.parent / "runs", **settings)
    return record
