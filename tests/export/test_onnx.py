"""ONNX files give the numbers of bare transformers and of the heads, for clips of any length."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from embedkit.encoders import load_encoder
from embedkit.encoders.base import Encoder
from embedkit.encoders.vggish import VggishEncoder, VggishNetwork, VggishShape
from embedkit.errors import EncoderError
from embedkit.export import onnx as writing
from embedkit.export.clip import ClipHeads, FrameHeads, encode_clip
from embedkit.export.ensemble import Ensemble
from embedkit.export.graphs import build_graph
from embedkit.export.onnx import run_onnx, write_onnx
from embedkit.export.predictor import Predictor
from embedkit.export.recurrent import use_onnx_lstm
from tests.cases import mark_cases
from tests.encoders.checkpoints import (
    bare_states,
    bare_whisper_states,
    speechlike,
    write_conv_checkpoint,
    write_whisper_checkpoint,
)
from tests.export.predictors import random_predictor

LENGTHS = (400, 719, 5000, 16000, 16001, 31999)


def score(predictor: Predictor, states: list[Tensor]) -> np.ndarray:
    """Ask the heads about layers `[frames, dimensions]`."""
    with torch.no_grad():
        heads = FrameHeads(predictor, Ensemble(predictor)).eval()
        return heads(torch.stack(states, dim=1)).numpy()


def written(encoder: Encoder, predictor: Predictor, path: Path) -> Path:
    heads = FrameHeads(predictor, Ensemble(predictor))
    module = ClipHeads(build_graph(encoder), encoder.smallest_input, heads).eval()
    size = {0: torch.export.Dim("samples", min=2)}
    write_onnx(module, torch.zeros(16000), path, names=("waveform", "probabilities"), dynamic=size, metadata={})
    return path


@pytest.mark.parametrize("family", mark_cases(["wav2vec2", "hubert-large", "wavlm"], {"wav2vec2"}.__contains__))
def test_waveforms_are_scored_as_bare_transformers_would_encode_them(tmp_path: Path, family: str) -> None:
    folder = write_conv_checkpoint(tmp_path / "weights", family, num_hidden_layers=2)
    predictor = random_predictor(["linear", "linear"], layers=3)
    path = written(load_encoder(str(folder)), predictor, tmp_path / "model.onnx")
    clips = [speechlike(samples, 5) for samples in LENGTHS]
    found = run_onnx(path, [clip.numpy() for clip in clips])
    for clip, own in zip(clips, found, strict=True):
        np.testing.assert_allclose(own, score(predictor, bare_states(folder, clip)), atol=2e-6)
    (short,) = run_onnx(path, [clips[0][:90].numpy()])
    padded = torch.nn.functional.pad(clips[0][:90], (0, 310))
    np.testing.assert_allclose(short, score(predictor, bare_states(folder, padded)), atol=2e-6)


@pytest.mark.parametrize("window", mark_cases(["clip", 2.0], {2.0}.__contains__))
def test_whispers_spectrum_and_window_are_in_the_graph(tmp_path: Path, window: str | float) -> None:
    folder = write_whisper_checkpoint(tmp_path / "weights")
    predictor = random_predictor(["superb"])
    path = written(load_encoder(str(folder), window=window), predictor, tmp_path / "model.onnx")
    clips = [speechlike(samples, 6) for samples in LENGTHS]
    for clip, own in zip(clips, run_onnx(path, [clip.numpy() for clip in clips]), strict=True):
        frames = math.ceil(len(clip) / 320)
        states = bare_whisper_states(folder, clip, frames if window == "clip" else 100)
        np.testing.assert_allclose(own, score(predictor, [state[:frames] for state in states]), atol=2e-6)
    with pytest.raises(Exception, match=r"broadcast|Broadcast"):
        run_onnx(path, [np.zeros(16000 * (3 if window == 2.0 else 4), np.float32)])


def test_vggishs_spectrum_is_in_the_graph(tmp_path: Path) -> None:
    shape = VggishShape(channels=(4, 6, 8, 8), hidden=24, dimensions=64)
    torch.manual_seed(0)
    weights = tmp_path / "vggish.pth"
    torch.save(VggishNetwork(shape).state_dict(), weights)
    encoder = VggishEncoder("vggish", weights, shape=shape)
    predictor = random_predictor(["mlp"], layers=1)
    path = written(encoder, predictor, tmp_path / "model.onnx")
    for samples in (900, 15600, 15359 + 15600, 15360 + 15600, 50000):
        clip = speechlike(samples, 7)
        (own,) = run_onnx(path, [clip.numpy()])
        np.testing.assert_allclose(own, score(predictor, [encode_clip(encoder, clip)[:, 0]]), atol=2e-5)


@pytest.mark.parametrize(
    ("head", "loss"),
    mark_cases(
        [
            ("mlp:depth=2", "aam"),
            ("attentive:hidden=8", "supcon"),
            ("cnn:channels=4,blocks=2", "ce"),
            ("lstm:hidden=8,pooling=last,depth=2", "aam"),
        ],
        lambda head, loss: not head.startswith("cnn"),
    ),
)
def test_heads_alone_score_frames_of_any_number(tmp_path: Path, head: str, loss: str) -> None:
    predictor = random_predictor([head], loss=loss, layers=2, dimensions=16)
    module: Any = FrameHeads(predictor, Ensemble(predictor)).eval()
    frames = [torch.randn(count, 2, 16, generator=torch.Generator().manual_seed(count)) for count in (1, 2, 7, 16, 61)]
    expected = [module(own).numpy() for own in frames]
    use_onnx_lstm(module)
    size = {0: torch.export.Dim("frames", min=2)}
    path = tmp_path / "head.onnx"
    write_onnx(module, frames[-1], path, names=("frames", "probabilities"), dynamic=size, metadata={"a": "é"})
    for own, wanted in zip(run_onnx(path, [own.numpy() for own in frames]), expected, strict=True):
        np.testing.assert_allclose(own, wanted, atol=1e-6)
    assert onnx.load(path).metadata_props[0].value == "é"


def test_ratings_of_a_single_layer_are_in_their_unit(tmp_path: Path) -> None:
    predictor = random_predictor(["linear"], loss="ccc-regression", ratings=True, layer=2)
    module = FrameHeads(predictor, Ensemble(predictor)).eval()
    frames = torch.randn(9, 4, 64)
    path = tmp_path / "head.onnx"
    write_onnx(module, frames, path, names=("frames", "ratings"), dynamic={}, metadata={})
    (found,) = run_onnx(path, [frames.numpy()])
    one = frames[:, 2].mean(0)
    by_hand = []
    for number in (0, 1):
        mean, scale = (predictor.tensors[f"{number}/{name}"][0] for name in ("mean", "scale"))
        weight, bias = (predictor.tensors[f"{number}/0/classifier.{name}"] for name in ("weight", "bias"))
        scores = weight @ ((one - mean) * scale) + bias
        by_hand.append(scores * torch.tensor([0.5, 1.5, 2.0]) + torch.tensor([3.0, 2.0, -1.0]))
    np.testing.assert_allclose(found, torch.stack(by_hand).mean(0).numpy(), atol=1e-5)


def test_large_weights_lie_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "LARGEST_FILE", 10)
    predictor = random_predictor(["linear"])
    module = FrameHeads(predictor, Ensemble(predictor)).eval()
    frames = torch.randn(9, 4, 64)
    write_onnx(module, frames, tmp_path / "m.onnx", names=("frames", "p"), dynamic={}, metadata={})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in (tmp_path / "m.onnx", tmp_path / "m.onnx.data"):
        path.rename(moved / path.name)
    (found,) = run_onnx(moved / "m.onnx", [frames.numpy()])
    np.testing.assert_allclose(found, module(frames).numpy(), atol=1e-6)


def test_an_encoder_that_computes_outside_of_torch_is_refused() -> None:
    with pytest.raises(EncoderError, match=r"'mfcc' \(acoustic\) cannot be written as ONNX.*--format folder"):
        build_graph(load_encoder("mfcc"))
