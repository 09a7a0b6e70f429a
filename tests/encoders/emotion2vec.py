"""Tiny emotion2vec checkpoints, and an independent forward pass in numpy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float64]

AUDIO = "modality_encoders.AUDIO."
KERNELS = (10, 3, 3, 3, 3, 2, 2)
STRIDES = (5, 2, 2, 2, 2, 2, 2)
SMALLEST = 400


def shapes(dimensions: int, heads: int, channels: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the published names of all weights of an encoder and their shapes."""
    yield f"{AUDIO}extra_tokens", (1, 10, dimensions)
    yield f"{AUDIO}alibi_scale", (1, 1, heads, 1, 1)
    for number, kernel in enumerate(KERNELS):
        yield f"{AUDIO}local_encoder.conv_layers.{number}.0.weight", (channels, channels if number else 1, kernel)
        yield from _affine(f"{AUDIO}local_encoder.conv_layers.{number}.2.1", channels)
    yield from _affine(f"{AUDIO}project_features.1", channels)
    yield from _affine(f"{AUDIO}project_features.2", dimensions, channels)
    for number in range(1, 6):
        yield from _affine(f"{AUDIO}relative_positional_encoder.{number}.0", dimensions, dimensions // 16, 19)
    yield from _affine(f"{AUDIO}context_encoder.norm", dimensions)
    for block in blocks():
        yield from _affine(f"{block}norm1", dimensions)
        yield from _affine(f"{block}attn.qkv", 3 * dimensions, dimensions)
        yield from _affine(f"{block}attn.proj", dimensions, dimensions)
        yield from _affine(f"{block}norm2", dimensions)
        yield from _affine(f"{block}mlp.fc1", 4 * dimensions, dimensions)
        yield from _affine(f"{block}mlp.fc2", dimensions, 4 * dimensions)


def blocks() -> list[str]:
    """Return how the names of the twelve blocks begin, in their order."""
    first = [f"{AUDIO}context_encoder.blocks.{number}." for number in range(4)]
    return first + [f"blocks.{number}." for number in range(8)]


def random_weights(
    dimensions: int = 48, heads: int = 6, channels: int = 24, *, seed: int = 0
) -> dict[str, torch.Tensor]:
    """Draw weights of an encoder; heads are no power of two, and one head's ALiBi scale is negative."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes(dimensions, heads, channels):
        noise = torch.randn(shape, generator=generator)
        if name.endswith("alibi_scale"):
            weights[name] = 1.0 + 0.5 * noise
            weights[name][0, 0, 1] = -0.3
        elif name.endswith("extra_tokens"):
            weights[name] = noise
        elif len(shape) == 1:
            weights[name] = 0.1 * noise if name.endswith("bias") else 1.0 + 0.2 * noise.abs()
        else:
            weights[name] = noise / math.prod(shape[1:]) ** 0.5
    return weights


def write_published(path: Path, weights: Mapping[str, torch.Tensor], *, prefix: str = "") -> Path:
    """Write a file as the authors do: the model among the rest of a pretraining, its decoder and moving average too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {f"{prefix}{name}": value for name, value in weights.items() if not name.startswith("proj.")}
    model = {
        **kept,
        f"{prefix}{AUDIO}decoder.blocks.0.0.weight": torch.zeros(4, 3, 7),
        f"{prefix}_ema": {name: torch.zeros(1) for name in weights},
        **{name: value for name, value in weights.items() if name.startswith("proj.")},
    }
    cfg = {"model": {"depth": 8, "modalities": ["AUDIO"]}}
    torch.save({"cfg": cfg, "model": model, "last_optimizer_state": {"state": {0: torch.zeros(3)}}}, path)
    return path


def reference_states(weights: Mapping[str, torch.Tensor], waveform: torch.Tensor) -> list[Array]:
    """Feed one clip `[samples]` through the encoder in float64; return layers 0 to 12, `[frames, dimensions]` each."""
    w = {name: value.double().numpy() for name, value in weights.items()}
    samples = waveform.double().numpy()
    values = ((samples - samples.mean()) / np.sqrt(samples.var() + 1e-5))[:, None]
    for number, stride in enumerate(STRIDES):
        layer = f"{AUDIO}local_encoder.conv_layers.{number}."
        values = _gelu(_norm(_convolve(values, w[f"{layer}0.weight"], stride), w, f"{layer}2.1"))
    features = _linear(_norm(values, w, f"{AUDIO}project_features.1"), w, f"{AUDIO}project_features.2")
    positions = features
    for number in range(1, 6):
        positions = _gelu(_standardise(_grouped(positions, w, f"{AUDIO}relative_positional_encoder.{number}.0")))
    hidden = np.concatenate([w[f"{AUDIO}extra_tokens"][0], features + positions])
    hidden = _norm(hidden, w, f"{AUDIO}context_encoder.norm")
    bias = _alibi(w[f"{AUDIO}alibi_scale"].ravel(), len(features))
    states = [hidden]
    for block in blocks():
        hidden = _norm(hidden + _attend(hidden, bias, w, f"{block}attn."), w, f"{block}norm1")
        inner = _gelu(_linear(hidden, w, f"{block}mlp.fc1"))
        hidden = _norm(hidden + _linear(inner, w, f"{block}mlp.fc2"), w, f"{block}norm2")
        states.append(hidden)
    return [state[10:] for state in states]


def _affine(name: str, *shape: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def _gelu(values: Array) -> Array:
    error = np.vectorize(math.erf, otypes=[np.float64])
    result: Array = 0.5 * values * (1.0 + error(values / math.sqrt(2.0)))
    return result


def _standardise(values: Array) -> Array:
    centred = values - values.mean(-1, keepdims=True)
    result: Array = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return result


def _norm(values: Array, w: Mapping[str, Array], name: str) -> Array:
    return _standardise(values) * w[f"{name}.weight"] + w[f"{name}.bias"]


def _linear(values: Array, w: Mapping[str, Array], name: str) -> Array:
    return values @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def _convolve(values: Array, kernel: Array, stride: int = 1) -> Array:
    """Convolve `[time, inputs]` with `[outputs, inputs, width]`."""
    windows = np.lib.stride_tricks.sliding_window_view(values, kernel.shape[2], axis=0)[::stride]
    return np.einsum("tiw,oiw->to", windows, kernel)


def _grouped(values: Array, w: Mapping[str, Array], name: str) -> Array:
    padded = np.pad(values, ((9, 9), (0, 0)))
    inputs, outputs = np.split(padded, 16, axis=1), np.split(w[f"{name}.weight"], 16)
    parts = [_convolve(group, kernel) for group, kernel in zip(inputs, outputs, strict=True)]
    return np.concatenate(parts, axis=1) + w[f"{name}.bias"]


def _alibi(scale: Array, frames: int) -> Array:
    """Return `[heads, 10 + frames, 10 + frames]`, nothing to and from the ten tokens."""
    bias = np.zeros((len(scale), 10 + frames, 10 + frames))
    place = np.arange(frames)
    for head, slope in enumerate(_slopes(len(scale))):
        bias[head, 10:, 10:] = -np.abs(place[:, None] - place) * slope * max(scale[head], 0.0)
    return bias


def _slopes(heads: int) -> list[float]:
    if heads & (heads - 1) == 0:
        return [2.0 ** (-8.0 * (head + 1) / heads) for head in range(heads)]
    lower = 1
    while 2 * lower < heads:
        lower *= 2
    return _slopes(lower) + _slopes(2 * lower)[0::2][: heads - lower]


def _attend(hidden: Array, bias: Array, w: Mapping[str, Array], name: str) -> Array:
    heads = len(bias)
    projected = _linear(hidden, w, f"{name}qkv").reshape(len(hidden), 3, heads, -1)
    query, key, value = projected.transpose(1, 2, 0, 3)
    scores = query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1]) + bias
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    return _linear((shares @ value).transpose(1, 0, 2).reshape(len(hidden), -1), w, f"{name}proj")
