"""On a GPU everything is as on the CPU: encoders, stores, heads, and the gradients of encoders in training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

import embedkit
from embedkit.encoders import load_encoder
from embedkit.losses import LOSSES
from embedkit.options.fit import FitOptions
from embedkit.training.data.features import Standardiser
from embedkit.training.live.features import LiveFeatures
from embedkit.training.live.fine_tuner import FineTuner
from tests.encoders.checkpoints import (
    collect,
    relative_error,
    speechlike,
    write_conv_checkpoint,
    write_whisper_checkpoint,
)
from tests.training.stores import write_synthetic_store

DEVICE = "cuda"
FAMILIES = (
    "wav2vec2",
    "wav2vec2-large",
    "hubert",
    "hubert-large",
    "hubert-batch-norm",
    "wavlm",
    "wavlm-large",
    "whisper",
    "vggish-scratch",
)
SAMPLES = (4000, 16_000, 17_777, 35_000)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a tiny checkpoint of every family."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for family in FAMILIES[:-2]:
        write_conv_checkpoint(folder / family, family)
    write_whisper_checkpoint(folder / "whisper")
    return folder


@pytest.fixture(scope="module")
def waves() -> list[Tensor]:
    """Return clips of unequal lengths."""
    return [speechlike(samples, seed) for seed, samples in enumerate(SAMPLES)]


def load(checkpoints: Path, family: str, **options: Any) -> Any:
    return load_encoder(family if family.startswith("vggish") else str(checkpoints / family), **options)


def worst(found: Sequence[Sequence[Tensor]], expected: Sequence[Sequence[Tensor]]) -> float:
    """Return the largest relative error over clips and layers."""
    pairs = [pair for one, other in zip(found, expected, strict=True) for pair in zip(one, other, strict=True)]
    return max(relative_error(one.cpu(), other.cpu()) for one, other in pairs)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_encoder_gives_what_it_gives_on_the_cpu(family: str, checkpoints: Path, waves: list[Tensor]) -> None:
    expected = collect(load(checkpoints, family), waves)
    found = collect(load(checkpoints, family, device=DEVICE), waves)
    assert all(layer.device.type == DEVICE for clip in found for layer in clip)
    assert worst(found, expected) < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_a_clip_never_depends_on_its_batch(family: str, checkpoints: Path, waves: list[Tensor]) -> None:
    encoder = load(checkpoints, family, device=DEVICE)
    alone = [collect(encoder, [wave])[0] for wave in waves]
    assert worst(collect(encoder, waves), alone) < 1e-5


@pytest.mark.parametrize("family", FAMILIES[:-1])
@pytest.mark.parametrize(("precision", "error"), [("bf16", 5e-2), ("fp16", 1e-2)])
def test_a_reduced_precision_is_near(
    family: str, precision: str, error: float, checkpoints: Path, waves: list[Tensor]
) -> None:
    expected = collect(load(checkpoints, family), waves)
    found = worst(collect(load(checkpoints, family, device=DEVICE, precision=precision), waves), expected)
    assert 1e-5 < found < error


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("family", ["hubert", "hubert-large", "wavlm", "whisper"])
def test_the_same_extraction_gives_the_same_file(
    family: str, precision: str, checkpoints: Path, waves: list[Tensor], tmp_path: Path
) -> None:
    rows = ["path,label,speaker"]
    for number, wave in enumerate(waves * 3):
        soundfile.write(tmp_path / f"{number}.wav", wave.numpy(), 16_000)
        rows.append(f"{number}.wav,c{number % 2},s{number % 3}")
    (tmp_path / "corpus.csv").write_text("\n".join(rows) + "\n")
    settings: dict[str, Any] = {"level": "both", "batch_seconds": 5, "device": DEVICE, "precision": precision}
    found = []
    for name in ("first", "second"):
        out = tmp_path / name / "store.h5"
        encoder = str(checkpoints / family)
        embedkit.extract(tmp_path / "corpus.csv", encoder=encoder, out=out, progress=False, **settings).close()
        found.append(out.read_bytes())
    assert found[0] == found[1]


# cuDNN packs the weights of every LSTM anew, and says so.
@pytest.mark.filterwarnings("ignore:RNN module weights are not part")
@pytest.mark.parametrize("head", ["linear", "mlp", "attentive", "lstm", "cnn"])
def test_heads_learn_what_they_learn_on_the_cpu(head: str, tmp_path: Path) -> None:
    store = write_synthetic_store(tmp_path / "store.h5", framed=True)
    settings: dict[str, Any] = {"head": [head], "seeds": 2, "epochs": 6, "lr": (1e-2,), "batch_size": 16}
    found = [
        embedkit.fit(store, list(LOSSES.names_in_all), folds="speaker", runs=tmp_path / name, device=name, **settings)
        for name in ("cpu", DEVICE)
    ]
    assert len(found[0]) == len(list(LOSSES.names_in_all))
    for one, other in zip(*found, strict=True):
        assert one.metrics["ua"] == pytest.approx(other.metrics["ua"], abs=0.03)


def test_dropout_is_computed_again_as_it_was(tmp_path: Path) -> None:
    dropout = {"hidden_dropout": 0.3, "attention_dropout": 0.3, "activation_dropout": 0.3, "layerdrop": 0.0}
    folder = write_conv_checkpoint(tmp_path / "hubert", "hubert", **dropout)
    encoder = load_encoder(str(folder), device=DEVICE, trainable=True)
    tuner = FineTuner(encoder, FitOptions(mode="finetune").resolve())
    wave = speechlike(16_000, 0)
    features = LiveFeatures(encoder, lambda row: wave, np.array([len(wave)]), "utterance", threads=1)
    features.tuned = tuner
    features.train(True)
    size = (1, len(encoder.layers), encoder.dimensions)
    plain = Standardiser(mean=torch.zeros(size, device=DEVICE), scale=torch.ones(size, device=DEVICE))
    gradients = []
    for parts in (1, 2):
        tuner.parts = parts
        torch.manual_seed(0)
        features.gather(np.zeros((1, 1), dtype=np.int64), plain).values.square().sum().backward()
        gradients.append(
            torch.cat([value.grad.flatten() for value in tuner.trained.values() if value.grad is not None])
        )
        tuner.network.zero_grad()
    assert relative_error(gradients[1], gradients[0]) < 1e-5
