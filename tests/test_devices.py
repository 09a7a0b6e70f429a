"""Which devices there are, which one a text means, and what a device without float64 computes."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import embedkit
from embedkit.devices import has_accelerator, list_devices, resolve_device, to_float64
from embedkit.encoders import load_encoder
from embedkit.errors import ConfigError, FitError
from embedkit.training.processes import find_processes
from embedkit.training.stacks.workers import can_fork
from tests.cases import mark_cases
from tests.encoders.checkpoints import collect, speechlike, write_conv_checkpoint, write_whisper_checkpoint
from tests.mps import MpsTensor, on_a_mac
from tests.training.stores import write_synthetic_store
from tests.workflows.tones import fit_tones, write_tones


@pytest.fixture
def has(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Say what accelerators there are."""

    def say(cards: int, mps: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cards > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return say


@pytest.mark.parametrize(
    ("cards", "mps", "names", "chosen"),
    [
        (0, False, ["cpu"], "cpu"),
        (0, True, ["cpu", "mps"], "mps"),
        (2, False, ["cpu", "cuda:0", "cuda:1"], "cuda"),
        (1, True, ["cpu", "cuda:0", "mps"], "cuda"),
    ],
)
def test_devices_are_listed_and_the_fastest_kind_is_chosen(
    has: Any, cards: int, mps: bool, names: list[str], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    has(cards, mps)
    # What this process has done before decides.
    monkeypatch.setattr("embedkit.training.stacks.workers._autograd_works_in_copies", lambda: True)
    assert list_devices() == names
    assert resolve_device("auto") == torch.device(chosen)
    assert has_accelerator() == (len(names) > 1)
    assert can_fork() == (len(names) == 1)
    for name in names:
        assert resolve_device(name) == resolve_device(torch.device(name)) == torch.device(name)


@pytest.mark.parametrize("device", ["banana", "meta", "cuda:", "cuda:x", "cuda:-1", "CUDA", "cpu:0:0", "", "mps:x"])
def test_what_is_no_device_is_refused(has: Any, device: str) -> None:
    has(1)
    with pytest.raises(ConfigError, match=r"expected auto, cpu, cuda, cuda:N or mps \(here: cpu, cuda:0\)"):
        resolve_device(device)


@pytest.mark.parametrize(
    ("cards", "device", "sentence"),
    [
        (0, "cuda", "no device 'cuda' here: 0 CUDA devices; take one of cpu."),
        (2, "cuda:7", "no device 'cuda:7' here: 2 CUDA devices; take one of cpu, cuda:0, cuda:1."),
        (1, "cuda:1", "no device 'cuda:1' here: 1 CUDA device; take one of cpu, cuda:0."),
        (0, "mps", "no device 'mps' here: 0 MPS devices; take one of cpu."),
        (0, "cpu:1", "no device 'cpu:1' here: 1 CPU device; take one of cpu."),
    ],
)
def test_a_device_that_is_not_there_is_told_with_those_that_are(
    has: Any, cards: int, device: str, sentence: str
) -> None:
    has(cards)
    with pytest.raises(ConfigError) as caught:
        resolve_device(device)
    assert str(caught.value) == f"There is {sentence}"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tones(tmp_path_factory.mktemp("devices") / "corpus") / "corpus.csv"


def test_every_command_resolves_devices_alike(has: Any, tmp_path: Path, corpus: Path) -> None:
    has(2)
    store = write_synthetic_store(tmp_path / "s.h5")
    (record,) = embedkit.fit(store, seeds=1, epochs=1, runs=tmp_path / "runs", device="cpu")
    clip = next(corpus.parent.glob("*.wav"))
    calls: list[Any] = [
        lambda: embedkit.extract(corpus, encoder="mfcc", out=tmp_path / "t.h5", device="cuda:7"),
        lambda: embedkit.fit(store, runs=tmp_path / "runs", device="cuda:7"),
        lambda: embedkit.fit(corpus, encoder=["mfcc"], mode="frozen", runs=tmp_path / "runs", device="cuda:7"),
        lambda: embedkit.predict(record, clip, device="cuda:7"),
        lambda: load_encoder("mfcc", device="cuda:7"),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match=r"no device 'cuda:7' here: 2 CUDA devices; take one of cpu, cuda:0"):
            call()


def test_a_second_gpu_is_where_heads_are_trained(has: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    has(2)
    seen: list[torch.device] = []

    def train(cells: Any, *_: Any, **__: Any) -> list[Any]:
        seen.extend(cell.device for cell in cells)
        return []

    embedkit.fit(write_synthetic_store(tmp_path / "s.h5"), runs=tmp_path / "runs", device="cuda:1", train=train)
    assert seen == [torch.device("cuda:1")]


def test_of_several_processes_none_names_a_gpu(has: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    has(2)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(FitError, match=r"'cuda:1', expected auto, cpu or cuda: each process takes one of its own"):
        find_processes("cuda:1")


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> Any:
    with on_a_mac(monkeypatch):
        yield


@pytest.mark.usefixtures("mac")
def test_the_device_of_these_tests_lacks_what_mps_lacks() -> None:
    values = torch.ones(3).to("mps")
    assert isinstance(values, MpsTensor)
    assert values.device == torch.device("mps:0")
    with pytest.raises(TypeError, match="float64"):
        values.double()
    with pytest.raises(TypeError, match="float64"):
        torch.zeros(2, dtype=torch.float64, device="mps")
    with pytest.raises(RuntimeError, match="same device"):
        values + torch.ones(3)
    with pytest.raises(RuntimeError, match="numpy"):
        values.numpy()
    exact = to_float64(values)
    assert (exact.device.type, exact.dtype) == ("cpu", torch.float64)


@pytest.mark.parametrize("family", ["hubert", "hubert-large", "wavlm", "whisper"])
def test_encoders_give_on_mps_what_they_give_on_the_cpu(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if family == "whisper":
        folder = write_whisper_checkpoint(tmp_path / "tiny")
    else:
        folder = write_conv_checkpoint(tmp_path / "tiny", family)
    waves = [speechlike(samples, seed) for seed, samples in enumerate((4000, 6400, 5000))]
    expected = collect(load_encoder(str(folder), device="cpu"), waves)
    with on_a_mac(monkeypatch):
        encoder: Any = load_encoder(str(folder), device="auto", precision="auto")
        assert (encoder.device.type, encoder.precision) == ("mps", "fp32")
        found = collect(encoder, waves)
        layers = [[layer.cpu().numpy() for layer in clip] for clip in found]
    for own, other in zip(layers, expected, strict=True):
        for one, reference in zip(own, other, strict=True):
            np.testing.assert_allclose(one, reference.numpy(), atol=2e-5)


def test_an_extraction_on_mps_gives_the_embeddings_of_one_on_the_cpu(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_conv_checkpoint(tmp_path / "tiny", "hubert")
    options: dict[str, Any] = {"encoder": str(folder), "level": "both", "max_seconds": 0.4}
    expected = embedkit.extract(corpus, out=tmp_path / "cpu.h5", device="cpu", **options)
    with on_a_mac(monkeypatch):
        found = embedkit.extract(corpus, out=tmp_path / "mps.h5", **options)
    assert (found.extraction["device"], found.encoder["precision"]) == ("mps", "fp32")
    assert found.fingerprint == expected.fingerprint
    np.testing.assert_allclose(found.mean(layer="all"), expected.mean(layer="all"), atol=2e-5)
    np.testing.assert_allclose(found.std(layer="all"), expected.std(layer="all"), atol=2e-5)


@pytest.mark.parametrize(
    ("task", "head"),
    mark_cases(
        product(["classes", "dimensions"], ["linear", "superb", "mlp", "attentive", "lstm", "cnn"]),
        lambda task, head: task == "classes" or head == "linear",
    ),
)
def test_heads_learn_on_mps_what_they_learn_on_the_cpu(
    head: str, task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = write_synthetic_store(tmp_path / "s.h5", speakers=4, each=6, framed=True)
    options: dict[str, Any] = {"head": [head], "seeds": 1, "epochs": 1, "lr": (1e-2,), "clip": 1.0}
    losses = ["ce", "focal", "aam", "ccc", "supcon", "class-balanced"] if head == "linear" else ["ce", "aam"]
    if task == "dimensions":
        losses, options["targets"] = ["ccc-regression"], ["valence"]
    found = {}
    for device in ("cpu", "mps"):
        with on_a_mac(monkeypatch):
            records = embedkit.fit(store, losses, runs=tmp_path / device, device=device, weight_decay=(0.1,), **options)
        found[device] = [record.load_heads() for record in records]
    for own, other in zip(found["mps"], found["cpu"], strict=True):
        assert own.keys() == other.keys()
        for name, values in own.items():
            torch.testing.assert_close(values, other[name], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("mode", ["frozen", "finetune", "lora"])
def test_encoders_run_in_training_on_mps(
    mode: Any, tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_conv_checkpoint(tmp_path / "tiny", "hubert", layerdrop=0.0, num_hidden_layers=1)
    header, *rows = corpus.read_text().splitlines()
    corpus = corpus.with_name("some.csv")
    corpus.write_text("\n".join([header, *rows[::3]]) + "\n")
    options: dict[str, Any] = {"encoder": [str(folder)], "mode": mode, "seeds": 1, "epochs": 1, "batch_size": 8}
    options["lr"] = (1e-2,)
    with on_a_mac(monkeypatch):
        (record,) = embedkit.fit(corpus, folds="speaker", runs=tmp_path / "runs", device="mps", **options)
    assert 0 <= record.metrics["ua"] <= 1
    if mode == "frozen":
        (usual,) = embedkit.fit(corpus, folds="speaker", runs=tmp_path / "cpu", device="cpu", **options)
        for name, values in record.load_heads().items():
            torch.testing.assert_close(values, usual.load_heads()[name], atol=1e-4, rtol=1e-3)


def test_predictions_on_mps_are_those_of_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = fit_tones(write_tones(tmp_path / "tones"), "mfcc", head=["lstm"], seeds=1, epochs=1, device="cpu")
    clips = sorted((tmp_path / "tones").glob("0*.wav"))
    expected = embedkit.predict(record, clips, device="cpu")
    with on_a_mac(monkeypatch):
        found = embedkit.predict(record, clips, device="mps")
    for one, other in zip(found, expected, strict=True):
        assert dict(one.probabilities) == pytest.approx(dict(other.probabilities), abs=1e-5)


def test_what_draws_dropout_twice_is_refused_on_mps(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_conv_checkpoint(tmp_path / "tiny", "hubert")
    with on_a_mac(monkeypatch), pytest.raises(FitError, match=r"--recompute or --accumulate on MPS.*--device cpu"):
        embedkit.fit(corpus, encoder=[str(folder)], mode="finetune", accumulate=2, device="mps", runs=tmp_path / "r")
