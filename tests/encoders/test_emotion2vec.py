"""emotion2vec: every layer as an independent forward pass gives it, in batches, in training, from every layout."""

from __future__ import annotations

import logging
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import embedkit
from embedkit.encoders import encoder_label, load_encoder
from embedkit.encoders.base import Encoder
from embedkit.encoders.emotion2vec import alibi_slopes
from embedkit.encoders.kernels import PackedLinear
from embedkit.encoders.published import PUBLISHED
from embedkit.errors import EncoderError
from embedkit.kernels import has_onednn
from embedkit.options.fit import FitOptions
from embedkit.training.live.fine_tuner import FineTuner
from tests.encoders.checkpoints import collect, relative_error, speechlike, write_conv_checkpoint
from tests.encoders.emotion2vec import SMALLEST, random_weights, reference_states, write_published
from tests.encoders.hub import Hub, serve
from tests.training.live.fitting import QUICK, fit
from tests.training.live.noises import write_noises

Weights = dict[str, torch.Tensor]
PROJ = {"proj.weight": torch.ones(9, 48), "proj.bias": torch.zeros(9)}
NORM = "blocks.3.norm2.bias"


@pytest.fixture(scope="module")
def weights() -> Weights:
    return random_weights()


@pytest.fixture(scope="module")
def folder(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_published(tmp_path_factory.mktemp("emotion2vec") / "model.pt", weights).parent


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Encoder:
    return load_encoder(str(folder))


def digest(source: Path) -> str:
    return str(load_encoder(str(source)).identity()["weights_digest"])


@pytest.mark.parametrize(("dimensions", "heads", "channels"), [(48, 6, 24), (64, 4, 32)])
def test_a_batch_gives_every_layer_that_a_clip_has_alone(
    dimensions: int, heads: int, channels: int, tmp_path: Path
) -> None:
    weights = random_weights(dimensions, heads, channels, seed=heads)
    encoder = load_encoder(str(write_published(tmp_path / "model.pt", weights).parent))
    assert (encoder.layers, encoder.dimensions, encoder.frame_rate) == (tuple(range(13)), dimensions, 50.0)
    clips = [speechlike(samples, seed) for seed, samples in enumerate((SMALLEST, 9_000, 4_321))]
    for clip, layers in zip(clips, collect(encoder, clips), strict=True):
        reference = reference_states(weights, clip)
        assert len(layers) == len(reference) == 13
        for values, expected in zip(layers, reference, strict=True):
            assert values.shape == expected.shape == (encoder.frame_count(len(clip)), dimensions)
            assert relative_error(values.double(), torch.from_numpy(expected)) <= 5e-6


def test_linear_layers_are_packed(encoder: Any) -> None:
    kinds = {type(module) for module in encoder._transformer.modules()}
    assert (encoder.linear_kernel == "onednn") is (PackedLinear in kinds) is (torch.nn.Linear not in kinds)
    assert has_onednn() is (PackedLinear in kinds)


def test_padding_and_batch_change_nothing(encoder: Encoder) -> None:
    clips = [speechlike(samples, seed) for seed, samples in enumerate((200, 12_000, 700, 5_000))]
    for clip, batched in zip(clips, collect(encoder, clips), strict=True):
        [alone] = collect(encoder, [clip])
        for values, expected in zip(batched, alone, strict=True):
            assert relative_error(values, expected) <= 1e-5


@pytest.mark.parametrize(("spec", "kept"), [("0", (0,)), ("4,6", (4, 6)), ("last", (12,))])
def test_layers_equal_those_of_the_full_run(spec: str, kept: tuple[int, ...], folder: Path, encoder: Encoder) -> None:
    clips = [speechlike(5_000, 0), speechlike(3_000, 1)]
    some = load_encoder(str(folder), layers=spec)
    assert some.layers == kept
    for chosen, everything in zip(collect(some, clips), collect(encoder, clips), strict=True):
        for values, layer in zip(chosen, kept, strict=True):
            assert relative_error(values, everything[layer]) <= 1e-6


def test_bf16_is_near(folder: Path, encoder: Encoder) -> None:
    clips = [speechlike(9_000, 0), speechlike(4_000, 1)]
    rounded = collect(load_encoder(str(folder), precision="bf16"), clips)
    for one, other in zip(rounded, collect(encoder, clips), strict=True):
        for values, exact in zip(one, other, strict=True):
            assert 1e-4 < relative_error(values, exact) < 3e-2


def test_alibi_slopes_are_those_of_the_paper() -> None:
    assert alibi_slopes(8) == [2.0**-power for power in range(1, 9)]
    assert alibi_slopes(12)[8:] == [2.0**-power for power in (0.5, 1.5, 2.5, 3.5)]


def write_plain(path: Path, weights: Weights) -> None:
    torch.save(weights, path)


def write_nested(path: Path, weights: Weights) -> None:
    torch.save({"model": {"model": weights}, "_ema": {NORM: torch.zeros(1)}}, path)


def write_prefixed(path: Path, weights: Weights) -> None:
    write_published(path, weights | PROJ, prefix="d2v_model.")


def write_safetensors(path: Path, weights: Weights) -> None:
    save_file(weights | PROJ, path)


def write_prefixed_safetensors(path: Path, weights: Weights) -> None:
    save_file({f"d2v_model.{name}": value for name, value in weights.items()}, path)


def write_double(path: Path, weights: Weights) -> None:
    torch.save({"model": {name: value.double() for name, value in weights.items()}}, path)


@pytest.mark.parametrize(
    ("file", "write"),
    [
        ("emotion2vec_base.pt", write_published),
        ("model.pt", write_plain),
        ("model.pt", write_nested),
        ("model.pt", write_prefixed),
        ("model.pt", write_double),
        ("model.safetensors", write_safetensors),
        ("model.safetensors", write_prefixed_safetensors),
    ],
)
def test_every_layout_is_the_same_encoder(
    file: str, write: Callable[[Path, Weights], Any], weights: Weights, encoder: Encoder, tmp_path: Path
) -> None:
    place = tmp_path / "plus"
    place.mkdir()
    write(place / file, weights)
    assert digest(place) == digest(place / file) == encoder.identity()["weights_digest"]


def test_a_file_is_named_after_itself_or_its_folder(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copyfile(folder / "model.pt", tmp_path / "plus+large.pt")
    assert encoder_label(str(copy)) == "plus+large"
    assert encoder_label(str(folder / "model.pt")) == folder.name
    for name, sources in ((str(copy), {}), ("mine", {"mine": str(copy)})):
        loaded = load_encoder(name, sources=sources)
        assert loaded.identity()["source"] == str(copy)
        assert loaded.identity()["family"] == "emotion2vec"


def test_the_classifier_is_named_once(weights: Weights, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_prefixed(tmp_path / "model.pt", weights)
    with caplog.at_level(logging.WARNING, logger="embedkit"):
        for _ in range(2):
            load_encoder(str(tmp_path))
    [record] = caplog.records
    assert "also holds a classifier of emotions (proj), which is left out" in record.getMessage()


def without(name: str) -> Callable[[Weights], Weights]:
    return lambda weights: {key: value for key, value in weights.items() if key != name}


def with_value(name: str, value: torch.Tensor) -> Callable[[Weights], Weights]:
    return lambda weights: weights | {name: value}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without(NORM), r"do not fit emotion2vec \(missing: blocks\.3\.norm2\.bias\)"),
        (without("modality_encoders.AUDIO.alibi_scale"), r"\(missing: modality_encoders\.AUDIO\.alibi_scale; of an"),
        (with_value("blocks.8.norm1.bias", torch.ones(48)), r"\(unexpected: blocks\.8\.norm1\.bias\)"),
        (with_value(NORM, torch.ones(47)), r"\(of another shape: blocks\.3\.norm2\.bias\)"),
        (with_value(NORM, torch.ones(48, dtype=torch.int64)), r"\(of another shape: blocks\.3\.norm2\.bias\)"),
        (with_value(NORM, torch.ones(1).expand(48)), r"\(of another shape: blocks\.3\.norm2\.bias\)"),
        (with_value(NORM, torch.full((48,), torch.nan)), r"\(not finite: blocks\.3\.norm2\.bias\)"),
        (with_value("modality_encoders.AUDIO.alibi_scale", torch.ones(1, 1, 5, 1, 1)), "of another shape: "),
        (
            lambda weights: {"encoder.weight": torch.ones(3)},
            r"holds encoder\.weight, which is not emotion2vec, and its",
        ),
        (lambda weights: {}, "holds no named weights, which is not emotion2vec"),
    ],
)
def test_weights_that_do_not_fit_get_one_sentence(
    spoil: Callable[[Weights], Weights], message: str, weights: Weights, tmp_path: Path
) -> None:
    torch.save({"model": spoil(weights)}, tmp_path / "model.pt")
    with pytest.raises(EncoderError, match=message) as caught:
        load_encoder(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_another_familys_weights_without_config_are_named(tmp_path: Path) -> None:
    write_conv_checkpoint(tmp_path, "hubert")
    (tmp_path / "config.json").unlink()
    with pytest.raises(EncoderError, match=r"is not emotion2vec, and its folder holds no config\.json"):
        load_encoder(str(tmp_path))


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("file", ["model.pt", "model.safetensors"])
def test_weights_that_are_cut_short_are_said_to_be(file: str, share: float, weights: Weights, tmp_path: Path) -> None:
    path = tmp_path / file
    (write_plain if path.suffix == ".pt" else write_safetensors)(path, weights)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(EncoderError, match=r"cannot be loaded: model.*(is empty|bytes\)?); copy or"):
        load_encoder(str(tmp_path))


def test_a_git_lfs_pointer_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1950000000\n")
    with pytest.raises(EncoderError, match="is a git-lfs pointer, not the 1,950,000,000 bytes"):
        load_encoder(str(tmp_path))


class Settings:
    """What the safe loader does not know."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def test_a_file_of_more_than_tensors_is_refused_with_a_recipe(
    weights: Weights, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = tmp_path / "executed"
    torch.save({"cfg": Settings(trace), "model": weights}, tmp_path / "model.pt")
    with pytest.raises(EncoderError, match="they hold more than tensors, which could run code") as caught:
        load_encoder(str(tmp_path))
    assert not trace.exists()
    recipe = re.search(r'python (-c ".*"), which runs what it holds, and name tensors\.pt\.$', str(caught.value))
    assert recipe is not None
    monkeypatch.chdir(tmp_path)
    exec(shlex.split(recipe[1])[1])  # noqa: S102
    assert trace.exists()
    assert digest(tmp_path / "tensors.pt") == encoder.identity()["weights_digest"]


@pytest.mark.parametrize("mode", ["finetune", "lora"])
def test_training_reaches_every_block(mode: str, folder: Path) -> None:
    encoder = load_encoder(str(folder), trainable=True)
    tuner = FineTuner(encoder, FitOptions(mode=mode, encoder_lr=1e-3, warmup=0.0).resolve())  # type: ignore[arg-type]
    tuner.start(0, 4)
    tuner.train(True)
    encoder.layerdrop = 0.0
    losses: list[torch.Tensor] = []
    encoder.forward(
        [speechlike(5_000, 0), speechlike(3_000, 1)], lambda _, values, lengths: losses.append(values.square().mean())
    )
    torch.stack(losses).sum().backward()
    assert encoder.network is not None
    reached = {name for name, value in encoder.network.named_parameters() if value.grad is not None}
    for block in range(12):
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            name = f"encoder.layers.{block}.attention.{part}"
            assert any(other.startswith(name) for other in reached), name
    assert {"alibi_scale", "extra_tokens"} <= reached or mode == "lora"
    tuner.step()


@pytest.mark.parametrize("mode", ["finetune", "lora"])
def test_a_trained_encoder_is_read_again(mode: str, folder: Path, weights: Weights, tmp_path: Path) -> None:
    encoder = load_encoder(str(folder), trainable=True)
    tuner = FineTuner(encoder, FitOptions(mode=mode).resolve())  # type: ignore[arg-type]
    with torch.no_grad():
        for value in tuner.trained.values():
            value.add_(0.01)
    tuner.network.eval()
    tuner.save(tmp_path)
    saved = load_file(tmp_path / "emotion2vec.safetensors")
    assert saved.keys() == weights.keys()
    assert not torch.equal(saved["blocks.0.attn.qkv.weight"], weights["blocks.0.attn.qkv.weight"])
    clips = [speechlike(4_000, 0), speechlike(2_000, 1)]
    trained, again = collect(encoder, clips), collect(load_encoder(str(tmp_path)), clips)
    for one, other in zip(trained, again, strict=True):
        for values, expected in zip(one, other, strict=True):
            assert relative_error(values, expected) <= 1e-5


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_noises(tmp_path_factory.mktemp("speech"))


@pytest.mark.parametrize("mode", ["cached", "finetune"])
def test_an_exported_run_predicts_the_same(
    mode: str, weights: Weights, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = write_published(tmp_path / "weights" / "model.pt", weights)
    if mode == "cached":
        store = embedkit.extract(corpus, encoder=str(file), out="store.h5")
        [record] = embedkit.fit(store, ["ce"], lr=(1e-2,), runs="runs", **QUICK)
    else:
        record = fit(corpus, file.parent, Path("runs"), mode, encoder_lr=1e-3, epochs=1, save_encoder=True)
    clips = sorted(corpus.parent.glob("*.wav"))[:3]
    fold = None if mode == "cached" else "s0"
    before = embedkit.predict(record, clips, fold=fold)
    embedkit.export_run(record, format="folder", out="kept", fold=fold)
    shutil.rmtree("weights")
    shutil.rmtree("runs")
    for one, again in zip(before, embedkit.predict("kept", clips), strict=True):
        assert again.probabilities == pytest.approx(one.probabilities, abs=1e-5)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub that this process asks, and an empty cache."""
    with serve() as server:
        server.ask(monkeypatch, tmp_path)
        yield server


@pytest.mark.parametrize(
    ("name", "file"), [("emotion2vec-base", "emotion2vec_base.pt"), ("emotion2vec-plus-base", "model.pt")]
)
def test_a_published_name_leads_to_its_repository_at_a_commit(
    name: str, file: str, hub: Hub, weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, _, pinned = PUBLISHED[name].partition("@")
    published = write_published(tmp_path / "published" / file, weights).parent
    (published / "configuration.json").write_text("{}")
    hub.add(repository, pinned, published)
    found = [load_encoder(chosen).identity() for chosen in (name, repository)]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    found += [load_encoder(chosen).identity() for chosen in (name, repository, f"{repository}@{pinned[:7]}")]
    assert {(one["source"], one["revision"]) for one in found} == {(repository, pinned)}


def test_weights_of_unknown_repositories_are_not_fetched(hub: Hub, weights: Weights, tmp_path: Path) -> None:
    hub.add("org/detector", "1" * 40, write_published(tmp_path / "published" / "model.pt", weights).parent)
    for name in ("org/detector", f"org/detector@{'1' * 40}"):
        with pytest.raises(EncoderError, match=r"'org/detector' .* holds no config\.json"):
            load_encoder(name)
    assert "model.pt" not in {asked.file for asked in hub.asked}
