"""Heads against naive computations, one utterance and one frame at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from embedkit.heads import resolve_head
from embedkit.heads.base import Classifier, Head, HeadInputs, HeadShape
from embedkit.heads.stack import slice_state

FRAMES, LAYERS, DIMENSIONS, CLASSES = 7, 3, 5, 4


def make(spec: str, classifier: Classifier = "affine", layers: int = LAYERS, dimensions: int = DIMENSIONS) -> Head:
    shape = HeadShape(groups=1, members=1, layers=layers, dimensions=dimensions, classes=CLASSES, classifier=classifier)
    resolved = resolve_head(spec)
    cls, options = resolved.cls, resolved.options
    head = cls(shape, options, [torch.Generator().manual_seed(4)]).double().eval()
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            if "layer_weights" in name:
                parameter.copy_(torch.tensor([0.3, -1.0, 0.8]))
    return head


def utterance(layers: int = LAYERS, dimensions: int = DIMENSIONS, frames: int = FRAMES) -> np.ndarray:
    return np.random.default_rng(7).normal(size=(frames, layers, dimensions))


def parameters(head: Head) -> dict[str, np.ndarray]:
    return {name: values.numpy() for name, values in slice_state(head, 0, 0).items()}


def softmax(values: np.ndarray) -> np.ndarray:
    e = np.exp(values)
    return e / e.sum()


def classify(p: dict[str, np.ndarray], vector: np.ndarray) -> np.ndarray:
    weight = p["classifier.weight"]
    if "classifier.bias" in p:
        return weight @ vector + p["classifier.bias"]
    return np.array([w @ vector / (np.linalg.norm(w) * np.linalg.norm(vector)) for w in weight])


def mixed(p: dict[str, np.ndarray], frames: np.ndarray) -> np.ndarray:
    if "mix.layer_weights" not in p:
        return frames[:, 0]
    return np.einsum("l,tld->td", softmax(p["mix.layer_weights"]), frames)


def on_frames(head: Head, frames: np.ndarray) -> np.ndarray:
    values = torch.from_numpy(frames)[None, None]
    padded = torch.nn.functional.pad(values, (0, 0, 0, 0, 0, 3))
    with torch.no_grad():
        return head(HeadInputs(values=padded, lengths=torch.full((1, 1), len(frames))))[0, 0, 0].numpy()


def on_mean(head: Head, frames: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return head(HeadInputs(values=torch.from_numpy(frames.mean(0))[None, None]))[0, 0, 0].numpy()


@pytest.mark.parametrize("classifier", ["affine", "cosine"])
@pytest.mark.parametrize("layers", [1, 3])
def test_linear_classifies_the_mixed_mean(classifier: Classifier, layers: int) -> None:
    head, frames = make("linear", classifier, layers), utterance(layers)
    p = parameters(head)
    np.testing.assert_allclose(on_mean(head, frames), classify(p, mixed(p, frames).mean(0)), rtol=1e-10)


@pytest.mark.parametrize("classifier", ["affine", "cosine"])
@pytest.mark.parametrize("layers", [1, 3])
def test_superb_on_layer_means_equals_superb_on_frames(classifier: Classifier, layers: int) -> None:
    head, frames = make("superb:hidden=6", classifier, layers), utterance(layers)
    p = parameters(head)
    projected = [p["projection.weight"] @ frame + p["projection.bias"] for frame in mixed(p, frames)]
    np.testing.assert_allclose(on_mean(head, frames), classify(p, np.mean(projected, 0)), rtol=1e-10)


def test_superb_has_the_published_sizes() -> None:
    head = make("superb", dimensions=768)
    sizes = {name: tuple(values.shape) for name, values in parameters(head).items()}
    assert sizes == {
        "mix.layer_weights": (3,),
        "projection.weight": (256, 768),
        "projection.bias": (256,),
        "classifier.weight": (4, 256),
        "classifier.bias": (4,),
    }


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("classifier", ["affine", "cosine"])
def test_mlp_is_a_chain_of_layers(activation: str, classifier: Classifier) -> None:
    head, frames = make(f"mlp:hidden=6,depth=2,activation={activation}", classifier), utterance()
    p = parameters(head)
    vector = mixed(p, frames).mean(0)
    for i in range(2):
        vector = p[f"hidden.{i}.weight"] @ vector + p[f"hidden.{i}.bias"]
        gate = [0.5 * (1 + math.erf(v / math.sqrt(2))) for v in vector] if activation == "gelu" else vector > 0
        vector = vector * np.array(gate)
    np.testing.assert_allclose(on_mean(head, frames), classify(p, vector), rtol=1e-9)


@pytest.mark.parametrize("layers", [1, 3])
def test_attentive_pools_weighted_statistics(layers: int) -> None:
    head, frames = make("attentive:hidden=6", "cosine", layers), utterance(layers)
    p = parameters(head)
    values = mixed(p, frames)
    energies = [p["context"] @ np.tanh(p["attention.weight"] @ frame + p["attention.bias"]) for frame in values]
    weights = softmax(np.array(energies))
    mean = sum(w * frame for w, frame in zip(weights, values, strict=True))
    variance = sum(w * (frame - mean) ** 2 for w, frame in zip(weights, values, strict=True))
    expected = classify(p, np.concatenate([mean, np.sqrt(variance)]))
    np.testing.assert_allclose(on_frames(head, frames), expected, rtol=1e-9)


def test_attentive_knows_no_deviation_in_one_frame() -> None:
    head, frames = make("attentive"), utterance(frames=1)
    p = parameters(head)
    expected = classify(p, np.concatenate([mixed(p, frames)[0], np.full(DIMENSIONS, 0.01)]))
    np.testing.assert_allclose(on_frames(head, frames), expected, rtol=1e-9)


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def naive_lstm(p: dict[str, np.ndarray], prefix: str, frames: np.ndarray) -> np.ndarray:
    size = p[f"{prefix}.hidden_weight"].shape[1]
    state, cell, outputs = np.zeros(size), np.zeros(size), []
    for frame in frames:
        gates = p[f"{prefix}.input_weight"] @ frame + p[f"{prefix}.hidden_weight"] @ state + p[f"{prefix}.bias"]
        take, keep, new, show = np.split(gates, 4)
        cell = sigmoid(keep) * cell + sigmoid(take) * np.tanh(new)
        state = sigmoid(show) * np.tanh(cell)
        outputs.append(state)
    return np.array(outputs)


@pytest.mark.parametrize("pooling", ["mean", "last", "attention"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("depth", "subsampling"), [(1, 1), (2, 1), (1, 2), (2, 3), (1, 50)])
def test_lstm_runs_over_own_frames_in_each_direction(
    pooling: str, bidirectional: bool, depth: int, subsampling: int
) -> None:
    head = make(
        f"lstm:hidden=3,depth={depth},pooling={pooling},bidirectional={bidirectional},subsampling={subsampling}"
    )
    frames, p = utterance(), parameters(head)
    values = mixed(p, frames)
    values = np.stack([values[start : start + subsampling].mean(0) for start in range(0, len(values), subsampling)])
    for i in range(depth):
        outputs = naive_lstm(p, f"layers.{i}.0", values)
        if bidirectional:
            backwards = naive_lstm(p, f"layers.{i}.1", values[::-1])[::-1]
            outputs = np.concatenate([outputs, backwards], 1)
        values = outputs
    if pooling == "mean":
        pooled = values.mean(0)
    elif pooling == "last":
        pooled = np.concatenate([values[-1, :3], values[0, 3:]])
    else:
        energies = [p["context"] @ np.tanh(p["attention.weight"] @ v + p["attention.bias"]) for v in values]
        pooled = softmax(np.array(energies)) @ values
    np.testing.assert_allclose(on_frames(head, frames), classify(p, pooled), rtol=1e-9)


def test_lstm_starts_with_orthogonal_gates_and_open_forget_gates() -> None:
    head = make("lstm:hidden=4")
    p = parameters(head)
    for gate in np.split(p["layers.0.1.hidden_weight"], 4):
        np.testing.assert_allclose(gate @ gate.T, np.eye(4), atol=1e-6)
    np.testing.assert_array_equal(p["layers.0.0.bias"][4:8], 1.0)


def naive_block(p: dict[str, np.ndarray], prefix: str, maps: np.ndarray) -> np.ndarray:
    """Convolve, pool, normalise, rectify maps `[channels, frames, bands]` of one utterance."""
    weight = p[f"{prefix}.weight"]
    channels, frames, bands = maps.shape
    padded = np.zeros((channels, frames + 2, bands + 2))
    padded[:, 1:-1, 1:-1] = maps
    convolved = np.zeros((len(weight), frames, bands))
    for t in range(frames):
        for f in range(bands):
            convolved[:, t, f] = (weight * padded[:, t : t + 3, f : f + 3]).sum((1, 2, 3))
    if prefix.endswith(".0"):
        pooled = convolved[:, : frames - 1 : 2, : bands - 1 : 2]
    else:
        pooled = np.array(
            [
                [[c[2 * t : 2 * t + 2, 2 * f : 2 * f + 2].max() for f in range(bands // 2)] for t in range(frames // 2)]
                for c in convolved
            ]
        )
    normal = (pooled - pooled.mean()) / np.sqrt(pooled.var() + 1e-5)
    return np.maximum(normal * p[f"{prefix}.scale"] + p[f"{prefix}.bias"], 0)


@pytest.mark.parametrize("frames", [4, 7, 10])
def test_cnn_sees_one_utterance_as_if_there_were_no_batch(frames: int) -> None:
    head = make("cnn:channels=2,blocks=2", layers=1, dimensions=9)
    values, p = utterance(1, 9, frames), parameters(head)
    maps = values[None, :, 0]
    for i in range(2):
        maps = naive_block(p, f"blocks.{i}", maps)
    pooled = np.concatenate([maps.mean(1), maps.max(1)]).ravel()
    np.testing.assert_allclose(on_frames(head, values), classify(p, pooled), rtol=1e-8)


def test_cnn_fills_a_short_utterance_up_with_zeros() -> None:
    head = make("cnn:channels=2,blocks=2", layers=1, dimensions=9)
    short = utterance(1, 9, 1)
    filled = np.concatenate([short, np.zeros((3, 1, 9))])
    np.testing.assert_allclose(on_frames(head, short), on_frames(head, filled), rtol=1e-12)
