"""Cached, frozen, fine-tuned and adapted encoders: the same heads, the same numbers where they must be."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import embedkit
from embedkit.encoders.base import Encoder, LayerSink
from embedkit.errors import EmbedkitError, FitError
from embedkit.training.live.features import LiveFeatures
from tests.cases import mark_cases
from tests.training.live.fitting import QUICK, assert_same, fit, predictions, train_once
from tests.training.live.noises import ENCODERS, SPEAKERS


@pytest.mark.parametrize(
    ("name", "head"),
    mark_cases(
        product([*ENCODERS, "mfcc", "logmel", "vggish-scratch", "hubert+mfcc"], ["linear", "superb:hidden=8"]),
        lambda name, head: head == "linear" or name in ("whisper", "mfcc"),
    ),
)
def test_cached_equals_frozen(name: str, head: str, corpus: Path, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    encoder = "+".join(str(checkpoints.get(part, part)) for part in name.split("+"))
    if head == "linear" and name in ("mfcc", "logmel"):
        # Deviations, which stores alone have, are the default of acoustic features.
        head = "linear:pool=mean"
    store = embedkit.extract(corpus, encoder=encoder, out=tmp_path / "store.h5", level="utterance")
    (cached,) = embedkit.fit(store, ["ce"], head=head, lr=(1e-2,), runs=tmp_path / "cached", **QUICK)
    assert_same(cached, fit(corpus, encoder, tmp_path / "frozen", "frozen", head=head))


@pytest.mark.parametrize(
    ("name", "head"),
    mark_cases(
        product(
            ["wav2vec2", "hubert", "wavlm", "data2vec-audio", "whisper", "vggish-scratch", "mfcc", "logmel"],
            ["attentive", "lstm:hidden=4,depth=1", "cnn:channels=4"],
        ),
        lambda name, head: name == "mfcc" or (name, head[:4]) in (("hubert", "lstm"), ("whisper", "atte")),
    ),
)
def test_cached_equals_frozen_for_heads_on_frames(
    name: str, head: str, corpus: Path, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    encoder = str(checkpoints.get(name, name))
    store = embedkit.extract(corpus, encoder=encoder, out=tmp_path / "store.h5", level="frame", frame_dtype="float32")
    (cached,) = embedkit.fit(store, ["ccc"], head=head, lr=(1e-2,), runs=tmp_path / "cached", **QUICK)
    assert_same(cached, fit(corpus, encoder, tmp_path / "frozen", "frozen", ["ccc"], head=head))


@pytest.mark.heavy
def test_votes_are_learned_in_every_mode(corpus: Path, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    lines = corpus.read_text().splitlines()
    votes = [
        ",votes_anger,votes_neutral",
        ",,",
        *(f",{number % 3},{2 - number % 3}" for number in range(len(lines) - 2)),
    ]
    # Beside the audio, whose paths it names.
    voted = corpus.with_name("voted.csv")
    voted.write_text("\n".join(line + own for line, own in zip(lines, votes, strict=True)) + "\n")
    encoder = str(checkpoints["hubert"])
    store = embedkit.extract(voted, encoder=encoder, out=tmp_path / "store.h5", level="utterance")
    (cached,) = embedkit.fit(store, ["soft-ce"], head="linear", lr=(1e-2,), runs=tmp_path / "cached", **QUICK)
    frozen = fit(voted, encoder, tmp_path / "frozen", "frozen", ["soft-ce"], head="linear")
    assert_same(cached, frozen)
    assert frozen.metrics["annotators"] == cached.metrics["annotators"]
    assert frozen.metrics["annotators"]["utterances"] == 15
    tuned, hard = (
        fit(voted, encoder, tmp_path / loss, "finetune", [loss], head="linear", epochs=1, encoder_lr=1e-3)
        for loss in ("soft-ce", "ce")
    )
    assert tuned.metrics["kl"] > 0
    assert not np.allclose(predictions(tuned)[1], predictions(hard)[1], atol=1e-4)


class Counting:
    """Counts the clips that pass an encoder."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, encoder_class: type[Encoder]) -> None:
        self.clips = 0
        encode: Callable[..., None] = encoder_class.encode

        def counted(encoder: Encoder, waveforms: Sequence[Tensor], sink: LayerSink) -> None:
            self.clips += len(waveforms)
            encode(encoder, waveforms, sink)

        monkeypatch.setattr(encoder_class, "encode", counted)


def test_frozen_runs_the_encoder_in_every_epoch_and_cached_never(
    corpus: Path, checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from embedkit.encoders.pretrained import PretrainedEncoder

    encoder = str(checkpoints["hubert"])
    store = embedkit.extract(corpus, encoder=encoder, out=tmp_path / "store.h5")
    counting = Counting(monkeypatch, PretrainedEncoder)
    embedkit.fit(store, ["ce"], runs=tmp_path / "runs", **QUICK)
    assert counting.clips == 0
    fold = {"folds": "split", "where": ()}
    split = corpus.with_name("split.csv")
    lines = corpus.read_text().splitlines()
    parts = ["train"] * 8 + ["dev"] * 4 + ["test"] * 4
    split.write_text("\n".join([f"{lines[0]},split", *(f"{a},{b}" for a, b in zip(lines[1:], parts, strict=True))]))
    for epochs in (1, 3):
        counting.clips = 0
        fit(split, encoder, tmp_path / f"runs-{epochs}", "frozen", epochs=epochs, **fold)
        # Measured once, then all of training and development in every epoch, then the test side.
        assert counting.clips == 16 + epochs * (8 + 4) + 4


def test_a_changed_weight_changes_the_frozen_loss(
    corpus: Path, checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = str(checkpoints["hubert"])
    usual = fit(corpus, encoder, tmp_path / "usual", "frozen").load_curves() or {}
    train = LiveFeatures.train
    epochs = []

    def perturbed(features: LiveFeatures, training: bool) -> None:
        train(features, training)
        epochs.append(training)
        if epochs == [True, False]:
            weight = next(iter(features.encoder._transformer.parameters()))  # type: ignore[attr-defined]
            weight.add_(torch.randn_like(weight))

    monkeypatch.setattr(LiveFeatures, "train", perturbed)
    changed = fit(corpus, encoder, tmp_path / "changed", "frozen").load_curves() or {}
    assert usual["loss"] != changed["loss"]


@pytest.mark.parametrize("mode", ["finetune", "lora"])
def test_bf16_computes_in_bf16_and_trains_in_fp32(
    mode: str, corpus: Path, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    options: dict[str, Any] = {"encoder_lr": 1e-3, "epochs": 1, "device": "cpu"}
    usual = fit(corpus, checkpoints["wavlm"], tmp_path / "fp32", mode, **options)
    reduced = fit(corpus, checkpoints["wavlm"], tmp_path / "bf16", mode, precision="bf16", save_encoder=True, **options)
    assert not np.array_equal(predictions(usual)[1], predictions(reduced)[1])
    np.testing.assert_allclose(predictions(usual)[1], predictions(reduced)[1], atol=0.05)
    assert reduced.metrics["precision"] == "bf16"
    saved = load_file(reduced.folder / "encoders" / "fold-0-seed-0" / "model.safetensors")
    assert {value.dtype for value in saved.values()} == {torch.float32}


@pytest.mark.parametrize("changed", [{"accumulate": 3}, {"recompute": True}])
def test_saving_memory_changes_no_result(
    changed: dict[str, Any], corpus: Path, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    usual = train_once(corpus, checkpoints["hubert"], tmp_path / "usual")
    other = train_once(corpus, checkpoints["hubert"], tmp_path / "other", **changed)
    np.testing.assert_allclose(predictions(usual)[1], predictions(other)[1], atol=1e-3)


def test_a_finetuned_score_does_not_depend_on_its_batch(
    corpus: Path, checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = train_once(corpus, checkpoints["wavlm"], tmp_path / "together")
    monkeypatch.setattr("embedkit.training.live.features.BATCH_SECONDS", {"cpu": 0.01})
    alone = train_once(corpus, checkpoints["wavlm"], tmp_path / "alone")
    np.testing.assert_allclose(predictions(together)[1], predictions(alone)[1], atol=1e-3)


def test_losses_after_one_another_start_from_the_same_encoder(
    corpus: Path, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    for mode in ("finetune", "lora"):
        options: dict[str, Any] = {"encoder_lr": 1e-2, **QUICK}
        both = embedkit.fit(
            str(corpus),
            ["ce", "focal"],
            mode=mode,
            encoder=str(checkpoints["hubert"]),
            runs=tmp_path / mode,
            **options,
        )
        alone = fit(
            corpus,
            checkpoints["hubert"],
            tmp_path / f"{mode}-alone",
            mode,
            ["focal"],
            encoder_lr=options["encoder_lr"],
            lr=(1e-3,),
        )
        assert predictions(both[1])[1].tolist() == predictions(alone)[1].tolist()


def test_what_cannot_be_done_is_told(corpus: Path, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    hubert = checkpoints["hubert"]
    wrong: list[tuple[str, dict[str, Any], str]] = [
        ("mfcc", {"mode": "finetune"}, "has no weights, so it cannot be fine-tuned"),
        (f"{hubert}+mfcc", {"mode": "lora"}, "joins several"),
        (str(hubert), {"mode": "lora", "lora_targets": ("query",)}, "is called query, only"),
        (str(hubert), {"mode": "finetune", "encoder_lr": 0}, "above zero"),
        (str(hubert), {"mode": "finetune", "warmup": 1}, "warmup is 1.0, expected a number from 0"),
        (str(hubert), {"mode": "finetune", "augment": ("echo",)}, "Unknown augmentation 'echo'"),
        (str(hubert), {"mode": "frozen", "accumulate": 2}, "--accumulate means nothing with --mode frozen"),
        (str(hubert), {"mode": "frozen", "save_encoder": True}, "--save-encoder means nothing with --mode frozen"),
        (str(hubert), {"mode": "thawed"}, "expected one of cached"),
        (str(hubert), {"mode": "finetune", "precision": "fp16"}, "fp16"),
        ("vggish-scratch", {"mode": "lora"}, "is called q_proj"),
        ("", {"mode": "frozen"}, "No encoder was named"),
        (str(hubert), {"mode": "finetune", "lora_rank": 4}, "--lora-rank means nothing with --mode finetune"),
        (str(hubert), {"mode": "lora", "tune_convolutions": True}, "-convolutions means nothing with --mode lora"),
        (str(hubert), {"mode": "finetune", "accumulate": "two"}, "'two', expected a whole number"),
        (str(hubert), {"mode": "finetune", "augment": "noise"}, "expected a list of texts"),
        (str(hubert), {"mode": "finetune", "augment": (3,)}, "expected a list of texts"),
        (str(hubert), {"mode": "finetune", "augment": ("specaugment",) * 2}, "is named twice"),
        (str(hubert), {"mode": "finetune", "augment": ("lowpass:high=9000",)}, "the encoder reads 16000"),
        (str(hubert), {"mode": "finetune", "augment": ("noise:folder=nowhere",)}, "Cannot list the folder"),
        (str(hubert), {"mode": "finetune", "encoder_lr": 1e12, "epochs": 3}, "diverged after"),
        ("vggish-scratch", {"mode": "finetune", "recompute": True}, "has no --recompute"),
        ("vggish-scratch", {"mode": "finetune", "tune_layers": "2-3"}, "has no --tune-layers"),
        ("vggish-scratch", {"mode": "finetune", "augment": ("specaugment",)}, "has no --augment spec"),
    ]
    for encoder, options, told in wrong:
        with pytest.raises(EmbedkitError, match=told):
            embedkit.fit(
                str(corpus), ["ce"], encoder=[encoder] if encoder else [], runs=tmp_path, **{**QUICK, **options}
            )
    store = embedkit.extract(corpus, encoder="mfcc", out=tmp_path.parent / f"{tmp_path.name}.h5")
    with pytest.raises(FitError, match="--precision means nothing with --mode cached"):
        embedkit.fit(store, ["ce"], precision="bf16", runs=tmp_path, **QUICK)
    with pytest.raises(FitError, match="is a store"):
        embedkit.fit("some.h5", ["ce"], mode="frozen", encoder=str(hubert), runs=tmp_path, **QUICK)
    assert not [path for path in tmp_path.glob("*/*") if path.parent.name != ".unfinished"]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("could not create a primitive"),
        MemoryError(),
    ],
    ids=["cuda", "cpu", "onednn", "numpy"],
)
def test_too_little_memory_names_the_options_that_need_less(
    error: Exception, corpus: Path, checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from embedkit.encoders.pretrained import PretrainedEncoder

    def full(encoder: Encoder, waveforms: Sequence[Tensor], sink: LayerSink) -> None:
        raise error

    for name in ("forward", "encode"):
        monkeypatch.setattr(PretrainedEncoder, name, full)
    with pytest.raises(FitError, match=r"does not fit into the memory.*--accumulate, add --recompute"):
        train_once(corpus, checkpoints["hubert"], tmp_path)
    with pytest.raises(FitError, match=r"smaller --batch-size, fewer --layers, or --precision bf16"):
        fit(corpus, checkpoints["hubert"], tmp_path, "frozen")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("mode", ["frozen", "finetune", "lora"])
def test_a_gpu_gives_what_the_cpu_gives(mode: str, corpus: Path, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    tuning: dict[str, Any] = {} if mode == "frozen" else {"encoder_lr": 1e-3, "accumulate": 2}
    found = [fit(corpus, checkpoints["wavlm"], tmp_path / one, mode, device=one, **tuning) for one in ("cpu", "cuda")]
    np.testing.assert_allclose(predictions(found[0])[1], predictions(found[1])[1], atol=1e-2)
    reduced = fit(corpus, checkpoints["wavlm"], tmp_path / "bf16", mode, device="cuda", precision="bf16", **tuning)
    assert np.isfinite(predictions(reduced)[1]).all()


@pytest.mark.parametrize("mode", ["finetune", "lora"])
def test_a_second_corpus_starts_from_the_same_encoder(
    mode: str, corpus: Path, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    other = corpus.with_name("other.csv")
    shutil.copyfile(corpus, other)
    options: dict[str, Any] = {"encoder_lr": 1e-2, **QUICK}
    hubert = str(checkpoints["hubert"])
    both = embedkit.fit([str(corpus), str(other)], ["ce"], mode=mode, encoder=hubert, runs=tmp_path / "both", **options)
    (alone,) = embedkit.fit(str(other), ["ce"], mode=mode, encoder=hubert, runs=tmp_path / "alone", **options)
    assert predictions(both[1])[1].tolist() == predictions(alone)[1].tolist()


def test_a_corpus_that_is_named_twice_is_one(corpus: Path, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    given = [str(corpus), os.path.relpath(corpus)]
    found = embedkit.fit(given, ["ce"], mode="frozen", encoder=str(checkpoints["hubert"]), runs=tmp_path, **QUICK)
    assert len(found) == 1


def test_the_best_development_score_is_shown_from_the_first_epoch_on(
    corpus: Path, checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from embedkit.training.monitor import TrainingMonitor

    notes: list[str] = []
    on_epoch = TrainingMonitor.on_epoch

    def noted(watch: TrainingMonitor, *given: Any) -> None:
        on_epoch(watch, *given)
        notes.append(watch.note())

    monkeypatch.setattr(TrainingMonitor, "on_epoch", noted)
    record = fit(corpus, checkpoints["hubert"], tmp_path, "finetune")
    assert len(notes) == SPEAKERS * QUICK["epochs"]
    assert "best development UAR so far: ce " in notes[0]
    best = np.mean([choice["ua_dev"] for choice in record.config["choices"]])
    assert notes[-1].endswith(f"best development UAR so far: ce {100 * best:.1f}")


def test_a_network_from_scratch_does_not_remember_the_loss_before(corpus: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {**QUICK, "seeds": 2, "mode": "finetune", "encoder": "vggish-scratch"}
    both = embedkit.fit(str(corpus), ["ce", "focal"], runs=tmp_path / "both", **options)
    (alone,) = embedkit.fit(str(corpus), ["focal"], runs=tmp_path / "alone", **options)
    assert predictions(both[1])[1].tolist() == predictions(alone)[1].tolist()
    assert torch.equal(both[1].load_heads()["0/mean"], alone.load_heads()["0/mean"])


def test_what_a_filter_leaves_out_need_not_be_usable(
    corpus: Path, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    broken = corpus.with_name("broken.csv")
    (corpus.parent / "broken.wav").write_bytes(b"no audio")
    broken.write_text(corpus.read_text() + "broken.wav,anger,s9\n")
    fit(broken, checkpoints["hubert"], tmp_path, "frozen", where=["speaker!=s9"], epochs=1)
    with pytest.raises(FitError, match="leave it out with --where"):
        fit(broken, checkpoints["hubert"], tmp_path, "frozen", epochs=1)
