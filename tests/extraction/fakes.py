"""A tiny encoder and a tiny corpus, so that extraction is tested in milliseconds."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import soundfile
import torch
from torch import Tensor

from embedkit.corpora.base import Corpus, Utterance
from embedkit.encoders.base import Encoder, LayerSink
from embedkit.extraction.request import ExtractionRequest

RATE = 1000
HOP = 20
RECEPTIVE = 30


class FakeEncoder(Encoder):
    """Frames of 30 samples every 20; layer k is a fixed projection of the frame, to the k-th power of a factor.

    Padding frames hold NaN: whoever reads them is found out.
    """

    name = "fake"
    sampling_rate = RATE
    frame_rate = RATE / HOP
    layers = (0, 1, 2)
    dimensions = 4
    smallest_input = RECEPTIVE
    reentrant = True

    def __init__(self, *, gain: float = 1.0, largest_input: int | None = None, equal_lengths: bool = False) -> None:
        self.gain = gain
        self.largest_input = largest_input
        self.equal_lengths = equal_lengths
        self.calls: list[list[int]] = []
        generator = torch.Generator().manual_seed(5)
        self._weights = torch.randn(RECEPTIVE, self.dimensions, generator=generator) * gain

    def identity(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "family": "fake",
            "source": "tests",
            "revision": None,
            "weights_digest": f"gain {self.gain}",
            "layers": list(self.layers),
            "sampling_rate": self.sampling_rate,
            "frame_rate": self.frame_rate,
            "dimensions": self.dimensions,
            "normalisation": "none",
            "window": "clip",
            "precision": "fp32",
            "versions": {"fake": "1"},
        }

    def frame_count(self, samples: int) -> int:
        return (max(samples, self.smallest_input) - RECEPTIVE) // HOP + 1

    def encode(self, waveforms: Sequence[Tensor], sink: LayerSink) -> None:
        self.calls.append([len(wave) for wave in waveforms])
        assert not self.equal_lengths or len({len(wave) for wave in waveforms}) == 1
        assert all(len(wave) >= self.smallest_input for wave in waveforms)
        assert self.largest_input is None or all(len(wave) <= self.largest_input for wave in waveforms)
        lengths = torch.tensor([self.frame_count(len(wave)) for wave in waveforms])
        for position in range(len(self.layers)):
            values = torch.full((len(waveforms), int(lengths.max()), self.dimensions), torch.nan)
            for index, wave in enumerate(waveforms):
                values[index, : lengths[index]] = self.one(wave, position)
            sink(position, values, lengths)

    def one(self, wave: Tensor, position: int) -> Tensor:
        """Return one clip's frames of one layer, computed alone."""
        frames = wave.unfold(0, RECEPTIVE, HOP)
        return (frames[:, :, None] * self._weights).sum(1) * 1.5**position


def write_clip(path: Path, seconds: float, seed: int, rate: int = RATE) -> None:
    """Write a noise clip, exact in 32-bit floats."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, max(1, round(seconds * rate))).astype("float32")
    soundfile.write(path, samples, rate, subtype="FLOAT")


def write_corpus(root: Path, count: int = 12) -> Corpus:
    """Write clips of 0.02 to 2.5 s and return them as a corpus of three speakers."""
    lengths = np.random.default_rng(1).uniform(0.05, 2.5, count)
    lengths[0] = 0.02
    for index, seconds in enumerate(lengths):
        write_clip(root / f"u{index:03}.wav", seconds, index)
    return corpus_at(root, count)


def corpus_at(root: Path, count: int) -> Corpus:
    """Return the corpus that `write_corpus` wrote."""
    utterances = tuple(
        Utterance(
            id=f"u{index:03}", path=f"u{index:03}.wav", label=("anger", "joy")[index % 2], speaker=f"s{index % 3}"
        )
        for index in range(count)
    )
    return Corpus(name="noise", kind="manifest", root=root, utterances=utterances)


def request_for(corpus: Corpus, out: Path, encoder: FakeEncoder | None = None, **changes: Any) -> ExtractionRequest:
    """Ask for an extraction with frames, in many small shards."""
    values: dict[str, Any] = {
        "corpus": corpus,
        "encoder": encoder or FakeEncoder(),
        "out": out,
        "levels": ("utterance", "frame"),
        "frame_dtype": "float32",
        "threads": 1,
        "batch_seconds": 4.0,
        "shard_seconds": 2.0,
        "workers": 2,
    }
    return ExtractionRequest(**{**values, **changes})


def datasets(path: Path) -> dict[str, bytes]:
    """Return the bytes of every dataset of a store."""
    found: dict[str, bytes] = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = np.asarray(item[...]).tobytes()

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


def load_fake(*, device: str, precision: str, gain: float = 1.0) -> FakeEncoder:
    """Load the tiny encoder as engines load one."""
    return FakeEncoder(gain=gain)


class DyingEncoder(FakeEncoder):
    """Kills its process in a later batch, as often as there are markers to remove."""

    def __init__(self, markers: Path, after: int) -> None:
        super().__init__()
        self.markers, self.after = markers, after

    def encode(self, waveforms: Sequence[Tensor], sink: LayerSink) -> None:
        if len(self.calls) >= self.after and self._take_marker():
            os.kill(os.getpid(), signal.SIGKILL)
        super().encode(waveforms, sink)

    def _take_marker(self) -> bool:
        for marker in self.markers.iterdir():
            with suppress(FileNotFoundError):
                marker.unlink()
                return True
        return False


def load_dying(*, device: str, precision: str, markers: Path, after: int) -> DyingEncoder:
    """Load an encoder that kills its process."""
    return DyingEncoder(markers, after)


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "audio")


def no_call(encoder: FakeEncoder) -> bool:
    return not encoder.calls


class Interrupting(FakeEncoder):
    """Stops the extraction in the n-th batch."""

    def __init__(self, after: int, error: BaseException) -> None:
        super().__init__()
        self.after, self.error = after, error

    def encode(self, waveforms: Any, sink: Any) -> None:
        if len(self.calls) == self.after:
            raise self.error
        super().encode(waveforms, sink)
