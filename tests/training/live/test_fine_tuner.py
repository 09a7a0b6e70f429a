"""Encoders in training: what is trained, at which rate, and that it can be saved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from embedkit.encoders import load_encoder
from embedkit.errors import EncoderError, FitError
from embedkit.options.fit import FitOptions
from embedkit.training.data.features import Standardiser
from embedkit.training.live.features import LiveFeatures
from embedkit.training.live.fine_tuner import FineTuner
from embedkit.training.stacks.checkpoint import Checkpoint
from tests.cases import mark_cases
from tests.encoders.checkpoints import write_conv_checkpoint
from tests.training.live.noises import ENCODERS


def collect_frames(run: Callable[..., None], clips: Sequence[Tensor]) -> list[Tensor]:
    """Return the own frames of all clips, layer by layer."""
    found: list[Tensor] = []

    def sink(position: int, values: Tensor, own: Tensor) -> None:
        found.append(torch.cat([clip[:length] for clip, length in zip(values, own.tolist(), strict=True)]))

    run(clips, sink)
    return found


def test_gradients_pass_exactly_what_encode_computes(checkpoints: dict[str, Path]) -> None:
    generator = torch.Generator().manual_seed(0)
    clips = [torch.randn(size, generator=generator) * 0.1 for size in (6000, 3500, 4800)]
    for name, folder in checkpoints.items():
        encoder = load_encoder(str(folder), trainable=True)
        usual = load_encoder(str(folder))
        assert encoder.network is not None
        encoder.network.requires_grad_(True)
        found = [collect_frames(run, clips) for run in (usual.encode, encoder.encode, encoder.forward)]
        for frozen, evaluated, trained in zip(*found, strict=True):
            for other in (evaluated, trained):
                assert float((frozen - other).detach().norm() / frozen.norm()) < 5e-6, name
        found[2][-1].square().sum().backward()
        reached = [n for n, p in encoder.network.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
        assert any("layers.0." in n for n in reached), name


@pytest.mark.parametrize(
    ("name", "mode"),
    mark_cases(
        product([*ENCODERS, "vggish-scratch"], ["finetune", "lora"]),
        lambda name, mode: mode == "finetune" or name in ("hubert", "whisper"),
    ),
)
def test_training_end_to_end_lowers_the_loss_and_moves_what_it_should(
    mode: str, name: str, corpus: Path, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    if name == "vggish-scratch" and mode == "lora":
        pytest.skip("VGGish has no attention to adapt")
    encoder = load_encoder(str(checkpoints.get(name, name)), trainable=True)
    assert encoder.network is not None
    before = {key: value.clone() for key, value in encoder.network.state_dict().items()}
    rate = 3e-4 if name == "vggish-scratch" else 3e-3
    tuning = FitOptions(mode=mode, encoder_lr=rate, warmup=0.0).resolve()  # type: ignore[arg-type]
    tuner = FineTuner(encoder, tuning)
    waves = [torch.from_numpy(soundfile.read(path, dtype="float32")[0]) for path in sorted(corpus.parent.glob("*.wav"))]
    labels = torch.tensor([number % 2 for number in range(len(waves))])
    tuner.start(0, 30)
    tuner.train(True)
    readout = torch.nn.Linear(encoder.dimensions, 2)
    losses = []
    for _ in range(12):
        frames = collect_frames(encoder.forward, waves)[-1]
        lengths = [encoder.frame_count(len(wave)) for wave in waves]
        means = torch.stack([own.mean(0) for own in frames.split(lengths)])
        loss = torch.nn.functional.cross_entropy(readout(means), labels)
        losses.append(loss.item())
        loss.backward()
        tuner.step()
    assert losses[-1] < losses[0]
    for key, value in encoder.network.state_dict().items():
        origin = before.get(key.replace(".base_layer", ""))
        if origin is None or not value.is_floating_point():
            assert ".lora_" in key or not value.is_floating_point()
            continue
        moved = not torch.equal(value, origin)
        front = any(part in key for part in ("feature_extractor", "conv1", "conv2", "embed_positions", "running_"))
        if mode == "lora" or (front and name != "vggish-scratch"):
            assert not moved, key
        elif "layers." in key and key.endswith("weight") and "rel_attn" not in key:
            assert moved, key


def test_only_the_layers_asked_for_are_trained(checkpoints: dict[str, Path]) -> None:
    encoder = load_encoder(str(checkpoints["hubert"]), trainable=True)
    tuner = FineTuner(encoder, FitOptions(mode="finetune", tune_layers="2-3").resolve())
    assert tuner.trained
    assert all(".layers.1." in name or ".layers.2." in name for name in tuner.trained)
    encoder = load_encoder(str(checkpoints["hubert"]), layers="1", trainable=True)
    with pytest.raises(EncoderError, match="none of the layers 1 to 1"):
        FineTuner(encoder, FitOptions(mode="finetune", tune_layers="2-3").resolve())


@pytest.mark.parametrize("convolutions", [False, True])
def test_the_front_end_is_trained_when_asked_for(convolutions: bool, checkpoints: dict[str, Path]) -> None:
    for name in ("hubert", "whisper"):
        encoder = load_encoder(str(checkpoints[name]), trainable=True)
        trained = FineTuner(encoder, FitOptions(mode="finetune", tune_convolutions=convolutions).resolve()).trained
        assert any("feature_extractor." in key or "conv1." in key for key in trained) == convolutions


def test_the_encoders_own_rate_rises_over_the_warm_up_and_falls_to_a_tenth(checkpoints: dict[str, Path]) -> None:
    encoder = load_encoder(str(checkpoints["hubert"]), trainable=True)
    tuner = FineTuner(encoder, FitOptions(mode="finetune", encoder_lr=1e-3, warmup=0.4).resolve())
    tuner.start(0, 10)
    rates = []
    for _ in range(10):
        for value in tuner.trained.values():
            value.grad = torch.ones_like(value)
        before = tuner.state()
        tuner.step()
        rates.append(tuner.optimizer.param_groups[0]["lr"])
        # A step of AdamW under gradients that stay the same is as long as its rate.
        moved = max(float((value - before[name]).abs().max()) for name, value in tuner.state().items())
        assert moved == pytest.approx(rates[-1], rel=1e-2)
    np.testing.assert_allclose(rates, 1e-3 * np.array([0.25, 0.5, 0.75, 1.0, *np.linspace(0.85, 0.1, 6)]), rtol=1e-6)


@pytest.mark.parametrize(("recompute", "calls"), [(False, 1), (True, 2)])
def test_recomputing_runs_layers_again_for_the_gradient(
    recompute: bool, calls: int, checkpoints: dict[str, Path]
) -> None:
    encoder = load_encoder(str(checkpoints["hubert"]), trainable=True)
    tuner = FineTuner(encoder, FitOptions(mode="finetune", recompute=recompute).resolve())
    tuner.start(0, 2)
    tuner.train(True)
    counted: list[int] = []
    (first, *_) = [part for name, part in encoder.network.named_modules() if name.endswith("layers.0.feed_forward")]  # type: ignore[union-attr]
    first.register_forward_hook(lambda *_: counted.append(1))
    kept: list[Tensor] = []
    encoder.forward([torch.randn(4000)], lambda position, values, lengths: kept.append(values))
    kept[-1].square().sum().backward()
    assert len(counted) == calls


def test_adapters_that_no_gradient_reaches_are_named(checkpoints: dict[str, Path]) -> None:
    encoder = load_encoder(str(checkpoints["wavlm"]), layers="1", trainable=True)
    tuner = FineTuner(encoder, FitOptions(mode="lora").resolve())
    tuner.start(0, 4)
    tuner.train(True)
    kept: list[Tensor] = []
    encoder.forward([torch.randn(4000)], lambda position, values, lengths: kept.append(values))
    kept[-1].square().sum().backward()
    with pytest.raises(FitError, match=r"no gradient has reached 8 adapters .*layers\.1\.attention"):
        tuner.step()


@pytest.fixture(scope="module")
def dropping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with dropout and layer drop."""
    return write_conv_checkpoint(tmp_path_factory.mktemp("dropping") / "hubert", "hubert", layerdrop=0.2)


def test_parts_of_a_mini_batch_drop_what_they_dropped_when_they_were_first_computed(dropping: Path) -> None:
    waves = [torch.randn(4000, generator=torch.Generator().manual_seed(n)) for n in range(4)]
    gradients = []
    for parts in (1, 2):
        encoder = load_encoder(str(dropping), trainable=True)
        tuner = FineTuner(encoder, FitOptions(mode="finetune", accumulate=parts, augment=("specaugment",)).resolve())
        features = LiveFeatures(encoder, lambda row: waves[row], np.full(4, 4000), "utterance", threads=1)
        features.tuned = tuner
        standardiser = features.moments(np.arange(4))
        tuner.start(0, 4)
        # No layer is dropped in the first step of all.
        tuner.restore({**tuner.snapshot(), "steps": 1})
        features.train(True)
        if parts == 1:
            # The same passes as in two parts, but with every activation kept.
            features.encoder.equal_lengths = True
            values = []
            for half in (np.arange(2), np.arange(2, 4)):
                values.append(features.gather(half[None], Standardiser.stack([standardiser], features.device)).values)
            gathered = torch.cat(values, 1)
        else:
            whole = np.arange(4)[None]
            gathered = features.gather(whole, Standardiser.stack([standardiser], features.device)).values
        gathered.square().sum().backward()
        gradients.append({n: v.grad.clone() for n, v in tuner.trained.items() if v.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, value in gradients[0].items():
        torch.testing.assert_close(value, gradients[1][name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_the_first_step_drops_no_layer_and_later_ones_do(dropping: Path, seed: int) -> None:
    encoder = load_encoder(str(dropping), trainable=True)
    encoder.layerdrop = 0.9
    tuner = FineTuner(encoder, FitOptions(mode="finetune", tune_layers="2").resolve())
    tuner.start(seed, 30)
    reached = []
    for _ in range(30):
        tuner.train(True)
        kept: list[Tensor] = []
        encoder.forward([torch.randn(4000)], lambda position, values, lengths, kept=kept: kept.append(values))
        whole = sum(values.square().sum() for values in kept)
        assert isinstance(whole, Tensor)
        reached.append(whole.requires_grad)
        if whole.requires_grad:
            whole.backward()
        tuner.step()
    assert reached[0]
    assert not all(reached)


@pytest.mark.parametrize("mode", ["finetune", "lora"])
@pytest.mark.parametrize("name", [*ENCODERS, "vggish-scratch"])
def test_every_trained_encoder_can_be_saved_and_read(
    name: str, mode: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    if name == "vggish-scratch" and mode == "lora":
        pytest.skip("VGGish has no attention to adapt")
    encoder = load_encoder(str(checkpoints.get(name, name)), trainable=True)
    tuner = FineTuner(encoder, FitOptions(mode=mode, encoder_lr=1e-2, warmup=0.0).resolve())  # type: ignore[arg-type]
    tuner.start(3, 4)
    tuner.train(True)
    clips = [torch.randn(17_000, generator=torch.Generator().manual_seed(0)) * 0.1]
    for _ in range(2):
        kept: list[Tensor] = []
        encoder.forward(clips, lambda position, values, lengths, kept=kept: kept.append(values))  # type: ignore[misc]
        torch.stack([one.square().mean() for one in kept]).sum().backward()
        tuner.step()
    tuner.train(False)
    tuner.save(tmp_path)
    again = load_encoder(str(tmp_path))
    for live, saved in zip(collect_frames(encoder.encode, clips), collect_frames(again.encode, clips), strict=True):
        assert float((live - saved).norm() / live.norm()) < 1e-5


@pytest.mark.parametrize("room", [True, False])
def test_the_best_weights_stay_where_they_are_or_go_to_the_host(
    room: bool, dropping: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load_encoder(str(dropping), trainable=True)
    tuner = FineTuner(encoder, FitOptions(mode="finetune").resolve())
    tuner.start(0, 4)
    # The device `meta` stands for a card: what is on it has no values, and cannot be read back by accident.
    monkeypatch.setattr(encoder, "device", torch.device("meta"))
    monkeypatch.setattr("embedkit.training.live.fine_tuner.has_room", lambda device, size: room and size > 0)
    tuner.keep()
    assert {value.device.type for value in tuner.best.values()} == {"meta" if room else "cpu"}
    first = dict(tuner.best)
    with torch.no_grad():
        for value in tuner.trained.values():
            value += 1.0
    tuner.keep()
    assert all(tuner.best[name] is kept for name, kept in first.items())
    assert room or all(torch.equal(kept, tuner.trained[name]) for name, kept in tuner.best.items())


def test_what_is_written_takes_a_small_share_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 10.0, 21.0, 21.5, 22.0])
    monkeypatch.setattr("embedkit.training.stacks.checkpoint.time.monotonic", lambda: next(times))
    written: list[int] = []

    class Part:
        def snapshot(self) -> dict[str, Any]:
            written.append(1)
            return {}

        def restore(self, state: dict[str, Any]) -> None:
            raise AssertionError

    checkpoint = Checkpoint(tmp_path / "one", "key")
    for epoch in range(1, 5):
        checkpoint.save(Part(), epoch)
    # The first took a second: the one after 9 s is left out, that after 20 s is not, and it took half as long.
    assert len(written) == 2
