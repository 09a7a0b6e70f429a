"""A corpus that trains in seconds, and a tiny checkpoint of every family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from embedkit.encoders.vggish import VggishShape
from tests.encoders.checkpoints import write_conv_checkpoint, write_whisper_checkpoint

SPEAKERS, CLASSES = 4, ("anger", "neutral")
ENCODERS = ["wav2vec2", "hubert", "hubert-large", "hubert-batch-norm", "wavlm", "data2vec-audio", "whisper"]
STILL: dict[str, Any] = {
    "layerdrop": 0.0,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0,
}
SMALL_VGGISH = VggishShape(channels=(4, 4, 8, 8), hidden=16, dimensions=8)
"""VGGish's network at a hundredth of its size."""


def write_noises(folder: Path) -> Path:
    """Write sixteen clips of two kinds of noise by four speakers, and their manifest."""
    generator = np.random.default_rng(0)
    rows = ["path,label,speaker"]
    for number in range(SPEAKERS * 4):
        label, speaker = CLASSES[number % 2], f"s{number // 4}"
        wave = generator.normal(size=int(generator.integers(3000, 6000))) * 0.1
        wave = np.cumsum(wave) * 0.1 if label == "anger" else wave
        soundfile.write(folder / f"{number:02}.wav", wave.astype(np.float32), 16_000)
        rows.append(f"{number:02}.wav,{label},{speaker}")
    path = folder / "noises.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def write_still_checkpoints(folder: Path) -> dict[str, Path]:
    """Write a checkpoint of every family, without dropout."""
    names = [name for name in ENCODERS if name != "whisper"]
    found = {name: write_conv_checkpoint(folder / name, name, **STILL) for name in names}
    return {**found, "whisper": write_whisper_checkpoint(folder / "whisper")}
