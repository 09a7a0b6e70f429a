"""Encoders of one layer: a clip to listen to, and what they give for some."""

from __future__ import annotations

import numpy as np
import torch

from embedkit.encoders.base import Encoder


def speechlike(samples: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(samples) / 16_000
    tone = 0.2 * torch.sin(2 * torch.pi * 150 * time) * torch.sin(2 * torch.pi * 3 * time)
    return tone + 0.02 * torch.randn(samples, generator=generator)


def encode(encoder: Encoder, waveforms: list[torch.Tensor]) -> list[np.ndarray]:
    layers = []
    encoder.encode(waveforms, lambda *layer: layers.append(layer))
    ((position, values, lengths),) = layers
    assert position == 0
    assert values.dtype == torch.float32
    assert values.shape == (len(waveforms), int(lengths.max()), encoder.dimensions)
    return [row[:length].numpy() for row, length in zip(values, lengths.tolist(), strict=True)]
