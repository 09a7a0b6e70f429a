"""Time w2v-BERT 2.0 at its true size, random weights, against the loop that everybody writes: file by file, bare fp32.

python benchmarks/generic_encoders.py [seconds of audio] [repetitions] [layers]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers

from embedkit.encoders import load_encoder
from embedkit.encoders.base import Encoder
from embedkit.extraction.batches import batch_clips

BATCH_SECONDS = 12.0
RATE = 16_000


def utterances(seconds: float) -> list[torch.Tensor]:
    """Return noise of 1 to 6 s, the longest first, of so many seconds altogether."""
    generator = torch.Generator().manual_seed(0)
    lengths: list[float] = []
    while sum(lengths) < seconds:
        lengths.append(1.0 + 5.0 * float(torch.rand((), generator=generator)))
    return [0.1 * torch.randn(int(RATE * length), generator=generator) for length in sorted(lengths, reverse=True)]


def loop(folder: Path, clips: list[torch.Tensor]) -> Callable[[], None]:
    """Return what everybody writes: every file alone, the mean over the frames of every layer."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)

    def run() -> None:
        with torch.inference_mode():
            for clip in clips:
                inputs = extractor(clip.numpy(), sampling_rate=RATE, return_tensors="pt")
                states = model(**inputs, output_hidden_states=True).hidden_states
                torch.stack([state.mean(1) for state in states])

    return run


def batches(encoder: Encoder, clips: list[torch.Tensor]) -> Callable[[], None]:
    """Return what an extraction does: batches of clips of similar length, the mean over each clip's own frames."""

    def sink(position: int, values: torch.Tensor, lengths: torch.Tensor) -> None:
        for row, length in zip(values, lengths.tolist(), strict=True):
            row[:length].mean(0)

    def run() -> None:
        for batch in batch_clips(clips, len, BATCH_SECONDS * RATE):
            encoder.encode(batch, sink)

    return run


def main(seconds: float = 40.0, repetitions: int = 3, layers: int = 24) -> None:
    """Print medians of processor time for a second of audio, on one thread, and how many times faster than the loop."""
    torch.set_num_threads(1)
    clips = utterances(seconds)
    audio = sum(map(len, clips)) / RATE
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        transformers.Wav2Vec2BertModel(transformers.Wav2Vec2BertConfig(num_hidden_layers=layers)).save_pretrained(
            folder
        )
        transformers.SeamlessM4TFeatureExtractor(feature_size=80, num_mel_bins=80, stride=2).save_pretrained(folder)
        runs = {"bare transformers, file by file, fp32": loop(folder, clips)}
        for precision in ("fp32", "bf16"):
            started = time.perf_counter()
            encoder = load_encoder(str(folder), precision=precision)
            print(f"loaded in {precision}: {time.perf_counter() - started:.1f} s", flush=True)
            runs[f"embedkit, batches, {precision}"] = batches(encoder, clips)
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repetitions):
        for name, run in runs.items():
            started = time.process_time()
            run()
            taken[name].append(time.process_time() - started)
    plain, *_ = (statistics.median(values) for values in taken.values())
    for name, values in taken.items():
        median = statistics.median(values)
        print(f"{name:<40} {median / audio:6.3f} s a second of audio, {plain / median:4.2f} times the loop")


if __name__ == "__main__":
    main(*map(float, sys.argv[1:2]), *map(int, sys.argv[2:4]))
