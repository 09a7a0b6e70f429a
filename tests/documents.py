"""A small world that the pages' blocks run in; what the pages show is in `tests/pages.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import torch

from embedkit.corpora.demo import VERSION, write_demo_corpus
from embedkit.corpora.iemocap import DEMO_MARKER
from tests.encoders.checkpoints import write_conv_checkpoint, write_whisper_checkpoint
from tests.encoders.test_vggish import SMALL, random_state

RATE = 16000


def write_world(folder: Path) -> None:
    """Write everything that the pages name: tiny corpora in their layouts, recordings, the demo, checkpoints."""
    write_tiny_emodb(folder / "path/to/emodb")
    for name in ("path/to/EmoDB", "path/to/corpus", "data/emodb", "corpus"):
        _link(folder / name, folder / "path/to/emodb")
    _write_ravdess(folder / "path/to/ravdess")
    _write_recordings(folder)
    for name in ("path/to/noises", "path/to/rooms"):
        _link(folder / name, folder / "recordings")
    write_demo_corpus(folder / "cache" / f"demo-{VERSION}", turns=5)
    write_demo_corpus(folder / "path/to/IEMOCAP", turns=5)
    (folder / "path/to/IEMOCAP" / DEMO_MARKER).unlink()
    _link(folder / "path/to/IEMOCAP_full_release", folder / "path/to/IEMOCAP")
    for family in ("hubert", "wav2vec2"):
        write_conv_checkpoint(folder / "weights" / family, family, num_hidden_layers=1)
    write_whisper_checkpoint(folder / "weights/whisper-base")
    torch.save(random_state(SMALL), folder / "vggish.pth")


def write_tiny_emodb(folder: Path) -> None:
    """Write sixteen short tones in EmoDB's layout: four speakers, two texts, two emotions that differ in pitch."""
    generator = np.random.default_rng(0)
    (folder / "wav").mkdir(parents=True)
    for speaker in ("03", "08", "09", "10"):
        for letter, pitch in (("W", 400.0), ("T", 150.0)):
            for text in ("a01", "a02"):
                tone = _tone(pitch, generator)
                soundfile.write(folder / "wav" / f"{speaker}{text}{letter}a.wav", tone, RATE)


def _write_ravdess(folder: Path) -> None:
    generator = np.random.default_rng(1)
    for actor in range(1, 5):
        (folder / f"Actor_{actor:02d}").mkdir(parents=True)
        for emotion, pitch in (("05", 400.0), ("04", 150.0)):
            for take in ("01", "02"):
                name = f"03-01-{emotion}-01-01-{take}-{actor:02d}.wav"
                soundfile.write(folder / f"Actor_{actor:02d}" / name, _tone(pitch, generator), RATE)


def _write_recordings(folder: Path) -> None:
    """Write `my.wav`, `recordings/`, a list of them, a manifest, and files with a naming of their own."""
    generator = np.random.default_rng(2)
    (folder / "recordings").mkdir()
    (folder / "path/to/folder").mkdir()
    rows = ["path,label,speaker,session,split"]
    for number in range(12):
        label, pitch = (("anger", 400.0), ("sadness", 150.0))[number % 2]
        soundfile.write(folder / "recordings" / f"{number:02d}.wav", _tone(pitch, generator), RATE)
        split = ("train", "train", "dev", "test")[number // 3]
        rows.append(f"recordings/{number:02d}.wav,{label},s{number // 3},{number // 6},{split}")
    (folder / "corpus.csv").write_text("\n".join(rows) + "\n")
    (folder / "calls.csv").write_text("path,start,end\nrecordings/00.wav,0.1,0.4\nmy.wav,,\n")
    soundfile.write(folder / "my.wav", _tone(400.0, generator), RATE)
    for speaker in ("anna", "ben"):
        for letter in "ANS":
            soundfile.write(folder / "path/to/folder" / f"{speaker}_{letter}_01.wav", _tone(300.0, generator), RATE)


def _tone(pitch: float, generator: np.random.Generator) -> np.ndarray:
    time = np.arange(RATE // 2) / RATE
    tone = np.sin(2 * np.pi * pitch * generator.uniform(0.9, 1.1) * time)
    return 0.3 * tone + 0.01 * generator.standard_normal(len(time))


def _link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target, target_is_directory=True)
