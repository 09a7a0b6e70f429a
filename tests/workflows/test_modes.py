"""Cached, frozen, fine-tuned: the same heads and losses, an encoder that really runs, and nothing that leaks."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from torch import Tensor

import embedkit
from embedkit.augmentations import AUGMENTATIONS
from embedkit.encoders.base import Encoder, LayerSink
from embedkit.errors import EmbedkitError, EncoderError, FitError
from embedkit.options.fit import FitOptions, Mode
from embedkit.training.identity import record_options
from embedkit.training.live.augmentation import build_augmentations
from embedkit.training.live.features import LiveFeatures
from embedkit.training.runs import RunRecord, digest_of, find_runs
from tests.encoders.checkpoints import write_conv_checkpoint
from tests.training.live.noises import CLASSES, ENCODERS, SMALL_VGGISH, SPEAKERS, write_noises, write_still_checkpoints

QUICK: dict[str, Any] = {"folds": "speaker", "seeds": 1, "epochs": 2, "batch_size": 8, "threads": 1}


@pytest.fixture(autouse=True)
def _small_vggish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedkit.encoders.vggish.VggishShape", lambda: SMALL_VGGISH)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_noises(tmp_path_factory.mktemp("speech"))


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_still_checkpoints(tmp_path_factory.mktemp("checkpoints"))


def fit(corpus: Path, encoder: Path | str, runs: Path, mode: str, loss: Any = ("ce",), **options: Any) -> RunRecord:
    keywords = {**QUICK, "lr": (1e-2,), **options}
    (record,) = embedkit.fit(str(corpus), loss, mode=mode, encoder=str(encoder), runs=runs, **keywords)
    return record


def write_softer(corpus: Path, folder: Path) -> Path:
    """Write a corpus of the same clips at half their level: other recordings."""
    folder.mkdir()
    for path in corpus.parent.glob("*.wav"):
        samples, rate = soundfile.read(path, dtype="int16")
        soundfile.write(folder / path.name, samples // 2, rate)
    return Path(shutil.copyfile(corpus, folder / "others.csv"))


def predictions(record: RunRecord) -> tuple[list[str], np.ndarray]:
    with open(record.predictions_path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row["id"] for row in rows], np.array([[float(row[f"p_{name}"]) for name in CLASSES] for row in rows])


def assert_same(one: RunRecord, other: RunRecord) -> None:
    heads, others = one.load_heads(), other.load_heads()
    assert heads.keys() == others.keys()
    for name, value in heads.items():
        assert float((value - others[name]).norm() / value.norm().clamp_min(1e-12)) < 1e-3, name
    assert predictions(one)[0] == predictions(other)[0]
    np.testing.assert_allclose(predictions(one)[1], predictions(other)[1], atol=1e-3)
    curves, further = one.load_curves(), other.load_curves()
    assert curves is not None
    assert further is not None
    for name in ("loss", "dev"):
        np.testing.assert_allclose(np.array(curves[name], float), np.array(further[name], float), rtol=1e-3)


@pytest.mark.parametrize("head", ["linear", "superb:hidden=8"])
@pytest.mark.parametrize("name", [*ENCODERS, "mfcc", "logmel", "vggish-scratch", "hubert+mfcc"])
def test_cached_equals_frozen(name: str, head: str, corpus: Path, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    encoder = "+".join(str(checkpoints.get(part, part)) for part in name.split("+"))
    store = embedkit.extract(corpus, encoder=encoder, out=tmp_path / "store.h5", level="utterance")
    (cached,) = embedkit.fit(store, ["ce"], head=head, lr=(1e-2,), runs=tmp_path / "cached", **QUICK)
    assert_same(cached, fit(corpus, encoder, tmp_path / "frozen", "frozen", head=head))


@pytest.mark.parametrize("head", ["attentive", "lstm:hidden=4,depth=1", "cnn:channels=4"])
@pytest.mark.parametrize(
    "name", ["wav2vec2", "hubert", "wavlm", "data2vec-audio", "whisper", "vggish-scratch", "mfcc", "logmel"]
)
def test_cached_equals_frozen_for_heads_on_frames(
    name: str, head: str, corpus: Path, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    encoder = str(checkpoints.get(name, name))
    store = embedkit.extract(corpus, encoder=encoder, out=tmp_path / "store.h5", level="frame", frame_dtype="float32")
    (cached,) = embedkit.fit(store, ["ccc"], head=head, lr=(1e-2,), runs=tmp_path / "cached", **QUICK)
    assert_same(cached, fit(corpus, encoder, tmp_path / "frozen", "frozen", ["ccc"], head=head))


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


def train_once(corpus: Path, folder: Path, runs: Path, *, epochs: int = 2, **tuning: Any) -> RunRecord:
    return fit(corpus, folder, runs, "finetune", ["ccc"], **{"encoder_lr": 1e-3, "epochs": epochs, **tuning})


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


@pytest.fixture(scope="module")
def usual(corpus: Path, checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    """A fine-tuning run of one epoch without augmentation."""
    return train_once(corpus, checkpoints["hubert"], tmp_path_factory.mktemp("usual"), epochs=1)


CHANGED = ("speed", "equaliser", "reverb", "noise", "specaugment")
CHANGES = [*AUGMENTATIONS, "noise:folder=CORPUS,low=0,high=5", "reverb:folder=CORPUS", "torch:neg"]


@pytest.mark.parametrize("augment", CHANGES)
def test_augmentation_changes_training_alone(
    augment: str, usual: RunRecord, corpus: Path, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    tuning: dict[str, Any] = {"augment": (augment.replace("CORPUS", str(corpus.parent)),), "epochs": 1}
    first = train_once(corpus, checkpoints["hubert"], tmp_path / "first", **tuning)
    again = train_once(corpus, checkpoints["hubert"], tmp_path / "again", **tuning)
    assert first.load_curves() == again.load_curves()
    assert first.load_curves() != usual.load_curves()
    assert torch.equal(first.load_heads()["0/mean"], usual.load_heads()["0/mean"])


def test_a_run_is_found_again_by_what_its_augmentation_does(
    usual: RunRecord, corpus: Path, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    def count_runs(*augment: str) -> int:
        train_once(corpus, checkpoints["hubert"], tmp_path / "runs", augment=augment, epochs=1)
        return len(find_runs(tmp_path / "runs"))

    assert count_runs() == 1
    assert [record.folder.name for record in find_runs(tmp_path / "runs")] == [usual.folder.name]
    for name in ("noises", "moved"):
        (tmp_path / name).mkdir()
        shutil.copyfile(corpus.parent / "00.wav", tmp_path / name / f"{name}.wav")
    assert count_runs("noise") == 2
    assert count_runs("noise:low=10,high=30") == 2
    assert count_runs("noise:low=11") == 3
    assert count_runs(f"noise:folder={tmp_path / 'noises'}") == 4
    assert count_runs(f"noise:folder={tmp_path / 'moved'}") == 4
    shutil.copyfile(corpus.parent / "01.wav", tmp_path / "moved" / "other.wav")
    assert count_runs(f"noise:folder={tmp_path / 'moved'}") == 5


def test_old_runs_without_augmentation_keep_their_names_and_those_with_it_do_not() -> None:
    # Digests of the settings as version 0.1.0 kept them before augmentations had settings.
    def told(*augment: str, mode: Mode = "finetune") -> str:
        changes = [one.describe() for one in build_augmentations(augment)]
        return digest_of(record_options(FitOptions(mode=mode).resolve())["tuning"] | {"augment": changes})

    assert told() == "943deedc"
    assert told(mode="lora") == "e0904ff6"
    assert told("noise") != "528cdf84"


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


def test_a_killed_run_goes_on_from_its_checkpoint(
    corpus: Path, checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_once(corpus, checkpoints["hubert"], tmp_path / "whole", augment=CHANGED)
    from embedkit.training.stacks.stack import Stack

    run_epoch = Stack.run_epoch
    calls: list[int] = []

    def counted(stack: Stack, epoch: int) -> None:
        calls.append(epoch)
        if len(calls) == 6:
            raise KeyboardInterrupt
        run_epoch(stack, epoch)

    monkeypatch.setattr(Stack, "run_epoch", counted)
    with pytest.raises(KeyboardInterrupt):
        train_once(corpus, checkpoints["hubert"], tmp_path / "parts", augment=CHANGED)
    rest = train_once(corpus, checkpoints["hubert"], tmp_path / "parts", augment=CHANGED)
    assert len(calls) == SPEAKERS * 2 + 1
    assert predictions(whole)[1].tolist() == predictions(rest)[1].tolist()
    assert not list((tmp_path / "parts").glob(".unfinished/*"))


@pytest.fixture(scope="module")
def tuned(corpus: Path, checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    """A fine-tuning run that keeps its encoders."""
    runs = tmp_path_factory.mktemp("tuned")
    return fit(corpus, checkpoints["hubert"], runs, "finetune", encoder_lr=1e-3, save_encoder=True)


def extract_folds(tuned: RunRecord, corpus: Path, folder: Path) -> list[embedkit.Store]:
    from embedkit.encoders.run_encoders import find_folders

    return [
        embedkit.extract(corpus, encoder=str(path), out=folder / f"{path.name}.h5")
        for path in find_folders(tuned.folder)
    ]


def test_trained_encoders_go_back_into_the_cache(tuned: RunRecord, corpus: Path, tmp_path: Path) -> None:
    stores = extract_folds(tuned, corpus, tmp_path)
    assert len(stores) == SPEAKERS
    assert len({store.fingerprint for store in stores}) == SPEAKERS
    for number, store in enumerate(stores):
        seen = store.trained_on
        assert seen["fold"] == f"s{number}"
        assert seen["development_speakers"] == [f"s{(number + 1) % SPEAKERS}"]
        parts = dict(zip(store.ids.tolist(), store.column("encoder_saw").tolist(), strict=True))
        for row, speaker in enumerate(store.speakers.tolist()):
            part = parts[store.ids[row]]
            assert part == ("" if speaker == seen["fold"] else "train" if speaker in seen["speakers"] else "dev")
    (record,) = embedkit.fit(stores, ["ce"], runs=tmp_path / "runs", **{**QUICK, "folds": None})
    assert record.metrics["utterances"] == SPEAKERS * 4
    assert "leak" not in record.metrics
    ids, shares = predictions(record)
    for number in (0, 2):
        path = corpus.parent / f"{4 * number:02}.wav"
        (told,) = embedkit.stream_predictions(record.folder, [path], fold=f"s{number}")
        row = next(row for row, name in enumerate(ids) if path.stem in name)
        np.testing.assert_allclose(list(told.probabilities.values()), shares[row], atol=1e-4)
    heads = record.load_heads()
    for number, store in enumerate(stores):
        train = store.speakers != f"s{number}"
        np.testing.assert_allclose(heads[f"{number}/mean"], store.mean("all")[train].mean(0), rtol=1e-4, atol=1e-5)


def test_stores_of_trained_encoders_are_kept_from_the_speakers_they_have_seen(
    tuned: RunRecord, corpus: Path, tmp_path: Path
) -> None:
    stores = extract_folds(tuned, corpus, tmp_path)
    with pytest.raises(FitError, match=r"on the speaker s1, .* fold 's1' tests .*belongs to the fold 's0' by speaker"):
        embedkit.fit(stores[0], ["ce"], runs=tmp_path / "runs", **QUICK)
    with pytest.raises(FitError, match="no store of the fold 's3'"):
        embedkit.fit(stores[:3], ["ce"], runs=tmp_path / "runs", **QUICK)
    (marked,) = embedkit.fit(stores[0], ["ce"], runs=tmp_path / "runs", allow_leak=True, **QUICK)
    assert marked.metrics["leak"] is True
    shown = embedkit.table([marked])
    assert "LEAK" in str(shown)


def test_a_trained_encoder_that_runs_frozen_is_guarded_as_well(tuned: RunRecord, corpus: Path, tmp_path: Path) -> None:
    folder = tuned.folder / "encoders" / "fold-0-seed-0"
    with pytest.raises(FitError, match="belongs to the fold 's0'"):
        fit(corpus, folder, tmp_path, "frozen")
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "embedkit.json").write_text("{}")
    with pytest.raises(EncoderError, match="without it nobody knows"):
        fit(corpus, tmp_path / "copy", tmp_path, "frozen")


def test_a_saved_encoder_gives_the_scores_of_the_run(tuned: RunRecord, corpus: Path, tmp_path: Path) -> None:
    stores = extract_folds(tuned, corpus, tmp_path)
    ids, shares = predictions(tuned)
    heads = tuned.load_heads()
    for number, store in enumerate(stores):
        own = {name.removeprefix(f"{number}/0/"): v for name, v in heads.items() if name.startswith(f"{number}/0/")}
        values = (torch.from_numpy(store.mean("all")) - heads[f"{number}/mean"]) * heads[f"{number}/scale"]
        mixed = (values * own["mix.layer_weights"].softmax(0)[:, None]).sum(1)
        expected = (mixed @ own["classifier.weight"].T + own["classifier.bias"]).softmax(-1).numpy()
        for row in np.flatnonzero(store.speakers == f"s{number}"):
            np.testing.assert_allclose(shares[ids.index(store.ids[row])], expected[row], atol=1e-4)


def test_encoders_inside_a_run_are_no_runs(tuned: RunRecord) -> None:
    assert [record.folder for record in find_runs(tuned.folder.parents[3])] == [tuned.folder]
    assert [record.folder for record in find_runs(tuned.folder)] == [tuned.folder]


def test_cards_name_everything_the_encoder_has_seen(tuned: RunRecord) -> None:
    card = json.loads((tuned.folder / "encoders" / "fold-1-seed-0" / "embedkit.json").read_text())
    seen = card["trained_on"]
    assert seen["corpus"] == "noises"
    assert sorted(seen["speakers"] + seen["development_speakers"]) == ["s0", "s2", "s3"]
    assert len(seen["utterances"]) == 8
    assert card["loss"] == "ce"
    assert "Not seen" in (tuned.folder / "encoders" / "fold-1-seed-0" / "README.md").read_text()


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


def test_what_was_chosen_on_is_told(corpus: Path, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    split = corpus.with_name("no-dev.csv")
    lines = corpus.read_text().splitlines()
    parts = ["train"] * 12 + ["test"] * 4
    split.write_text("\n".join([f"{lines[0]},split", *(f"{a},{b}" for a, b in zip(lines[1:], parts, strict=True))]))
    found = [
        fit(manifest, checkpoints["hubert"], tmp_path / folds, "finetune", folds=folds, epochs=1).metrics["selection"]
        for manifest, folds in ((corpus, "speaker"), (split, "split"))
    ]
    assert found == [
        "one development group (the next in sorted order), best epoch kept",
        "one group of speakers held out for development, best epoch kept",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "loss"), [("finetune", "ccc"), ("finetune", "ce:weights=balanced"), ("frozen", "ce")])
def test_two_processes_give_what_one_gives(
    mode: str, loss: str, corpus: Path, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    command = ["-m", "embedkit", "fit", str(corpus), "--encoder", str(checkpoints["wavlm"]), "--mode", mode]
    command += ["--loss", loss, "--folds", "speaker", "--seeds", "1", "--epochs", "2", "--batch-size", "5"]
    command += ["--threads", "1", "--device", "cpu", *(["--encoder-lr", "1e-3"] if mode == "finetune" else [])]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    found = []
    for place, before in enumerate(([], launch)):
        runs = tmp_path / f"{place}"
        whole = [sys.executable, *before, *command, "--runs", str(runs)]
        done = subprocess.run(
            whole, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False
        )
        assert done.returncode == 0, done.stderr
        assert ("Training in 2 processes" in done.stderr) == bool(before)
        assert len(done.stdout.splitlines()) == 1
        found.append(find_runs(runs)[0])
    one, two = (record.load_heads() for record in found)
    for name, value in one.items():
        assert float((value - two[name]).norm() / value.norm().clamp_min(1e-12)) < 1e-3, name
    np.testing.assert_allclose(predictions(found[0])[1], predictions(found[1])[1], atol=1e-3)


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


@pytest.fixture(scope="module")
def dropping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with dropout and layer drop."""
    return write_conv_checkpoint(tmp_path_factory.mktemp("dropping") / "hubert", "hubert", layerdrop=0.2)


@pytest.mark.parametrize("mode", ["finetune", "lora", "frozen"])
def test_every_kill_leaves_a_run_that_goes_on(
    mode: str, corpus: Path, dropping: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from embedkit.training.stacks.stack import Stack

    options: dict[str, Any] = {"lr": (1e-2, 1e-3), "epochs": 3}
    if mode != "frozen":
        options |= {"encoder_lr": 1e-3, "augment": CHANGED}
    whole = fit(corpus, dropping, tmp_path / "whole", mode, **options)
    run_epoch = Stack.run_epoch
    left = [0]

    def killed(stack: Stack, epoch: int) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        run_epoch(stack, epoch)

    monkeypatch.setattr(Stack, "run_epoch", killed)
    record = None
    for place in range(40):
        left[0] = 2 + place % 3
        try:
            record = fit(corpus, dropping, tmp_path / "parts", mode, **options)
            break
        except KeyboardInterrupt:
            torch.randn(7)
    assert record is not None
    assert place >= 2
    assert predictions(whole)[1].tolist() == predictions(record)[1].tolist()
    assert whole.load_curves() == record.load_curves()


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


def test_what_nobody_goes_on_with_is_removed_after_a_month(
    corpus: Path, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    unfinished = tmp_path / ".unfinished"
    for name, days in (("old", 31), ("recent", 29)):
        part = unfinished / name / "checkpoint.pt"
        part.parent.mkdir(parents=True)
        part.touch()
        for path in (part, part.parent):
            os.utime(path, (time.time() - days * 86400,) * 2)
    fit(corpus, checkpoints["hubert"], tmp_path, "frozen", epochs=1)
    assert [path.name for path in unfinished.iterdir()] == ["recent"]


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


def test_the_guard_knows_every_way_an_encoder_can_have_seen_a_speaker(
    tuned: RunRecord, corpus: Path, tmp_path: Path
) -> None:
    folder = tuned.folder / "encoders" / "fold-0-seed-0"
    with pytest.raises(FitError, match=r"is a run with 4 trained encoders; .*fold-0-seed-0"):
        fit(corpus, tuned.folder, tmp_path / "run", "frozen")
    with pytest.raises(FitError, match="belongs to the fold 's0'"):
        fit(corpus, f"{folder}+mfcc", tmp_path / "joined", "frozen")
    with pytest.raises(FitError, match="belongs to the fold 's0'"):
        fit(Path(shutil.copyfile(corpus, corpus.with_name("renamed.csv"))), folder, tmp_path / "renamed", "frozen")
    other = write_softer(corpus, corpus.parent.with_name("others"))
    second = fit(other, folder, tmp_path / "second", "finetune", save_encoder=True)
    again = second.folder / "encoders" / "fold-1-seed-0"
    with pytest.raises(FitError, match="which the fold"):
        fit(corpus, again, tmp_path / "again", "frozen")
    store = embedkit.extract(other, encoder=str(folder), out=tmp_path / "train.h5")
    tested = embedkit.extract(corpus, encoder=str(folder), out=tmp_path / "test.h5")
    options: dict[str, Any] = {**QUICK, "folds": None, "runs": tmp_path / "transfer", "test_on": tested}
    with pytest.raises(FitError, match="which the fold 'noises' tests"):
        embedkit.fit(store, ["ce"], **options)
    (marked,) = embedkit.fit(store, ["ce"], allow_leak=True, **options)
    assert marked.metrics["leak"] is True


@pytest.mark.parametrize("folds", ["random", "split"])
def test_stores_of_other_folds_go_back_as_well(
    folds: str, corpus: Path, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    manifest = corpus.with_name("no-dev-again.csv")
    lines = corpus.read_text().splitlines()
    parts = ["train"] * 12 + ["test"] * 4
    rows = [f"{lines[0]},split", *(f"{a},{b}" for a, b in zip(lines[1:], parts, strict=True))]
    manifest.write_text("\n".join(rows))
    record = fit(
        manifest, checkpoints["hubert"], tmp_path / "runs", "finetune", folds=folds, epochs=1, save_encoder=True
    )
    stores = extract_folds(record, manifest, tmp_path)
    options = {**QUICK, "folds": folds, "epochs": 1}
    (cached,) = embedkit.fit(stores, ["ce"], runs=tmp_path / "cached", **options)
    assert cached.metrics["utterances"] == record.metrics["utterances"]


def test_encoders_are_kept_of_a_run_that_was_there_without_them(
    corpus: Path, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    first = train_once(corpus, checkpoints["hubert"], tmp_path)
    again = fit(corpus, checkpoints["hubert"], tmp_path, "finetune", ["ccc"], encoder_lr=1e-3, save_encoder=True)
    assert first.folder == again.folder
    assert len(list((again.folder / "encoders").iterdir())) == SPEAKERS


def test_what_a_filter_leaves_out_need_not_be_usable(
    corpus: Path, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    broken = corpus.with_name("broken.csv")
    (corpus.parent / "broken.wav").write_bytes(b"no audio")
    broken.write_text(corpus.read_text() + "broken.wav,anger,s9\n")
    fit(broken, checkpoints["hubert"], tmp_path, "frozen", where=["speaker!=s9"], epochs=1)
    with pytest.raises(FitError, match="leave it out with --where"):
        fit(broken, checkpoints["hubert"], tmp_path, "frozen", epochs=1)
