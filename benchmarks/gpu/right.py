"""Part 1: the numbers are those of the CPU, alike in every batch and in every run."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from common import Extraction
from torch import Tensor
from training import synthetic, train_data

from embedkit.encoders import load_encoder
from embedkit.losses import LOSSES
from gpu.work import SAMPLING_RATE, Bench

FAMILIES = ("wav2vec2", "hubert", "hubert-large", "wavlm", "whisper-base", "emotion2vec", "w2v-bert", "vggish-scratch")
SECONDS = (0.4, 1.1, 2.3, 3.7, 5.2, 8.0)


def run(bench: Bench) -> None:
    """Compare encoders, stores and heads."""
    rows = []
    for name in FAMILIES:
        with bench.report.trying(f"right, {name}"):
            rows.append(compare_encoder(bench, name))
    title = (
        "Relative errors, worst layer and clip: fp32 and reduced against the CPU's fp32; a batch against clips alone"
    )
    bench.report.table(title, rows)
    with bench.report.trying("right, the same store twice"):
        bench.report.table("The same extraction twice", [compare_stores(bench, one) for one in ("fp32", "bf16")])
    with bench.report.trying("right, heads"):
        bench.report.table("The same heads on the CPU and on the device, UA of cross-entropy", [compare_heads(bench)])


def compare_encoder(bench: Bench, name: str) -> dict[str, Any]:
    """Measure one family's errors."""
    source = name if name.startswith("vggish") else bench.encoder(name)
    waves = [speechlike(int(seconds * SAMPLING_RATE), seed) for seed, seconds in enumerate(SECONDS)]
    expected = encode_all(load_encoder(source), waves)
    row: dict[str, Any] = {"": name}
    for precision in ("fp32", "bf16", "fp16"):
        reduced = precision != "fp32"
        if reduced and (name.startswith("vggish") or (precision == "fp16" and bench.device == "cpu")):
            row[precision] = float("nan")
            continue
        encoder = load_encoder(source, device=bench.device, precision=precision)
        together = encode_all(encoder, waves)
        row[precision] = worst_error(together, expected)
        if not reduced:
            alone = [encode_all(encoder, [wave]) for wave in waves]
            joined = [[one[layer][0] for one in alone] for layer in range(len(together))]
            row["batch"] = worst_error(together, joined)
    return row


def compare_stores(bench: Bench, precision: str) -> dict[str, Any]:
    """Extract the same twice, frames as well, and compare the files."""
    corpus = bench.of_seconds(10 if bench.small else 300)
    extraction = Extraction(
        corpus, bench.encoder("hubert"), bench.work, precision, device=bench.device, level="both", batch_seconds=60
    )
    digests = []
    for _ in range(2):
        extraction.extract().close()
        digests.append(hashlib.sha256(extraction.out.read_bytes()).hexdigest())
    return {"": precision, "first": digests[0][:16], "second": digests[1][:16], "same": digests[0] == digests[1]}


def compare_heads(bench: Bench) -> dict[str, Any]:
    """Train the same heads on both."""
    data = synthetic(80, 4, 4, layers=3, dimensions=32) if bench.small else synthetic(535, 7, 10)
    losses = list(LOSSES.names_in_all)
    found = {
        device: train_data(data, 20, losses=losses, device=device, rates=(1e-3,), seeds=1)
        for device in ("cpu", bench.device)
    }
    return {"heads": found["cpu"].heads} | {f"UA % on {name}": 100 * one.ua for name, one in found.items()}


def encode_all(encoder: Any, waves: list[Tensor]) -> list[list[Tensor]]:
    """Return every layer's own frames, clip by clip, on the CPU."""
    layers: list[list[Tensor]] = []

    def sink(position: int, values: Tensor, lengths: Tensor) -> None:
        layers.append([row[:own].float().cpu() for row, own in zip(values, lengths.tolist(), strict=True)])

    encoder.encode(waves, sink)
    return layers


def worst_error(found: list[list[Tensor]], expected: list[list[Tensor]]) -> float:
    """Return the largest norm of a difference over the norm of what was expected."""
    pairs = [pair for one, other in zip(found, expected, strict=True) for pair in zip(one, other, strict=True)]
    return max(float((one - other).norm() / other.norm().clamp_min(1e-12)) for one, other in pairs)


def speechlike(samples: int, seed: int) -> Tensor:
    """Return noise with a slow envelope and an offset."""
    generator = torch.Generator().manual_seed(seed)
    envelope = 0.2 + torch.sin(torch.arange(samples) / 900.0 + seed).abs()
    return 0.3 * envelope * torch.randn(samples, generator=generator) + 0.02
