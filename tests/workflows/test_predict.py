"""predict finds the encoder again and scores as fit did."""

from __future__ import annotations

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file

import embedkit
from embedkit.encoders import load_encoder
from embedkit.encoders.pretrained import PretrainedEncoder
from embedkit.errors import AudioError, ConfigError, CorpusError, EncoderError, ExtractionError, RunError
from embedkit.export.ensemble import Ensemble
from embedkit.export.predictor import open_predictor
from embedkit.extraction import encoding
from embedkit.training.runs import RunRecord
from embedkit.workflows import predict as workflow
from embedkit.workflows.predict import render_predictions, stream_predictions
from tests.encoders.checkpoints import write_conv_checkpoint
from tests.training.stores import calibrated_shares
from tests.workflows.tones import RATE, fit_tones, write_tones


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_tones(tmp_path / "corpus")


@pytest.mark.parametrize("head", ["linear:pool=mean", "lstm"])
def test_clips_are_rated_in_the_unit_of_the_corpus(corpus: Path, tmp_path: Path, head: str) -> None:
    record = fit_tones(corpus, "mfcc", head=[head], targets=["valence", "arousal"], epochs=15)
    clips = [corpus / "00.wav", corpus / "01.wav"]
    low, high = embedkit.predict(record.folder, clips)
    assert (low.label, low.probabilities) == ("", {})
    assert list(low.dimensions) == ["valence", "arousal"]
    assert low.dimensions["valence"] == pytest.approx(-3, abs=1)
    assert high.dimensions["valence"] == pytest.approx(2, abs=1)
    assert low.dimensions["arousal"] == pytest.approx(1.5, abs=1.5)
    assert high.dimensions["arousal"] == pytest.approx(9, abs=1.5)
    (alone,) = embedkit.predict(record, [clips[1]])
    *_, late = embedkit.predict(record, clips[1], window=0.2, hop=0.1)
    assert (late.start, late.end) == (pytest.approx(0.15), pytest.approx(0.35))
    assert list(late.dimensions) == list(alone.dimensions)
    assert alone.dimensions == pytest.approx(dict(high.dimensions), abs=1e-4)
    assert next(render_predictions([low, high])) == (
        f"{clips[0]}: valence {low.dimensions['valence']:.2f}, arousal {low.dimensions['arousal']:.2f}"
    )
    assert json.loads("".join(render_predictions([low], "json"))) == [
        {"path": str(clips[0]), "dimensions": low.dimensions}
    ]
    assert next(render_predictions([low], "csv")) == "path,valence,arousal"


def test_ratings_without_their_scale_are_refused(corpus: Path, tmp_path: Path) -> None:
    record = fit_tones(corpus, "mfcc", targets=["valence"], epochs=1, head=["linear"])
    tensors = {name: value for name, value in record.load_heads().items() if "rating" not in name}
    save_file(tensors, record.folder / "heads.safetensors")
    with pytest.raises(RunError, match="lack '0/rating_mean'"):
        embedkit.predict(record.folder, [corpus / "00.wav"])


@pytest.mark.parametrize("head", ["linear", "lstm"])
def test_clips_are_classified_as_they_were_learnt(corpus: Path, tmp_path: Path, head: str) -> None:
    record = fit_tones(corpus, "mfcc", head=[head])
    clips = [corpus / "00.wav", corpus / "01.wav", corpus / "02.wav"]
    found = embedkit.predict(record.folder, clips)
    assert [one.label for one in found] == ["low", "high", "low"]
    assert [one.path for one in found] == [str(clip) for clip in clips]
    for one in found:
        assert sum(one.probabilities.values()) == pytest.approx(1)
    (alone,) = embedkit.predict(record, [clips[1]])
    assert alone.probabilities["high"] == pytest.approx(found[1].probabilities["high"], abs=1e-6)


def test_a_run_of_a_single_layer_reads_that_layer(corpus: Path, tmp_path: Path) -> None:
    weights = write_conv_checkpoint(tmp_path / "weights", "hubert")
    store = embedkit.extract(
        corpus / "corpus.csv", encoder="hubert", out=tmp_path / "s.h5", progress=False, sources={"hubert": str(weights)}
    )
    settings: dict[str, Any] = {"seeds": 1, "epochs": 6, "lr": (1e-2,), "batch_size": 8}
    records = embedkit.fit(store, folds="speaker", runs=tmp_path / "runs", layers="each", **settings)
    assert [record.config["layer"] for record in records] == list(store.layers)
    found = {round(embedkit.predict(record, [corpus / "01.wav"])[0].probabilities["high"], 6) for record in records}
    assert len(found) == len(records) > 1


def test_the_encoder_is_found_again_where_its_name_led(corpus: Path, tmp_path: Path) -> None:
    weights = write_conv_checkpoint(tmp_path / "weights", "hubert")
    record = fit_tones(corpus, "hubert", sources={"hubert": str(weights)})
    (found,) = embedkit.predict(record.folder, [corpus / "01.wav"])
    moved = tmp_path / "moved"
    shutil.move(weights, moved)
    with pytest.raises(EncoderError):
        embedkit.predict(record.folder, [corpus / "01.wav"])
    (again,) = embedkit.predict(record.folder, [corpus / "01.wav"], sources={"hubert": str(moved)})
    assert again == found


def test_another_encoder_is_refused(corpus: Path, tmp_path: Path) -> None:
    record = fit_tones(corpus, "hubert", sources={"hubert": str(write_conv_checkpoint(tmp_path / "one", "hubert"))})
    other = write_conv_checkpoint(tmp_path / "other", "hubert", num_conv_pos_embeddings=8)
    with pytest.raises(RunError, match="other weights"):
        embedkit.predict(record.folder, [corpus / "01.wav"], sources={"hubert": str(other)})


def test_what_cannot_be_predicted_is_told(corpus: Path, tmp_path: Path) -> None:
    record = fit_tones(corpus, "mfcc", head=["linear"])
    with pytest.raises(AudioError, match=r"none\.wav"):
        embedkit.predict(record.folder, [corpus / "none.wav"])
    (corpus / "broken.wav").write_bytes(b"RIFF")
    with pytest.raises(AudioError, match=r"broken\.wav"):
        embedkit.predict(record.folder, [corpus / "broken.wav"])
    with pytest.raises(RunError, match="No run at"):
        embedkit.predict(tmp_path, [corpus / "00.wav"])
    (record.folder / "heads.safetensors").write_bytes(b"")
    with pytest.raises(RunError, match="cannot be read"):
        embedkit.predict(record.folder, [corpus / "00.wav"])
    config = json.loads((record.folder / "config.json").read_text())
    (record.folder / "config.json").write_text(json.dumps({**config, "format_version": 99}))
    with pytest.raises(RunError, match="format version 99"):
        embedkit.predict(record.folder, [corpus / "00.wav"])


def test_a_concatenation_is_found_again(corpus: Path, tmp_path: Path) -> None:
    weights = write_conv_checkpoint(tmp_path / "weights", "wavlm")
    record = fit_tones(corpus, "wavlm+mfcc", sources={"wavlm": str(weights)}, head=["linear"])
    found = embedkit.predict(record.folder, [corpus / "00.wav", corpus / "01.wav"])
    assert [one.label for one in found] == ["low", "high"]


def test_folders_and_lists_are_expanded_in_order(corpus: Path, tmp_path: Path) -> None:
    record = fit_tones(corpus, "mfcc", head=["linear"])
    folder = tmp_path / "found"
    (folder / "b").mkdir(parents=True)
    for name in ("b/00.wav", "a.WAV", "._a.wav", "notes.txt"):
        shutil.copy(corpus / f"{'01' if name == 'a.WAV' else '00'}.wav", folder / name)
    soundfile.write(
        folder / "both.flac", np.concatenate([soundfile.read(corpus / f"0{number}.wav")[0] for number in (0, 1)]), RATE
    )
    (folder / "list.csv").write_text("who;path;end;start\nx;both.flac;0.3;\ny;both.flac;;0.31\n")
    clips = [folder / "list.csv", folder, corpus / "02.wav"]
    found = embedkit.predict(record, clips)
    names = ["both.flac", "both.flac", *(str(folder / name) for name in ("a.WAV", "both.flac", "b/00.wav"))]
    assert [one.path for one in found] == [*names, str(corpus / "02.wav")]
    assert [one.label for one in found[:3]] == ["low", "high", "high"]
    assert [(one.start, one.end) for one in found[:3]] == [(None, 0.3), (0.31, None), (None, None)]
    rows = list(csv.DictReader(io.StringIO("\n".join(render_predictions(found, "csv", segments=True)))))
    assert [row["start"] for row in rows[:3]] == ["", "0.31", ""]
    assert float(rows[1]["high"]) == found[1].probabilities["high"]
    told = [json.loads(line) for line in render_predictions(found, "jsonl")]
    assert told[1] == {"path": "both.flac", "start": 0.31, "label": "high", "probabilities": found[1].probabilities}
    assert next(render_predictions(found[1:])).startswith("both.flac [0.31 s to its end]: high (high ")


def test_inputs_that_hold_no_clips_are_told(corpus: Path, tmp_path: Path) -> None:
    record = fit_tones(corpus, "mfcc", head=["linear"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match=r"'.*empty' holds no audio"):
        embedkit.predict(record, [tmp_path / "empty"])
    for text, problem in {
        "file,start\na.wav,1\n": r"no column `path` \(found: file, start\)",
        "path\n": "no rows",
        "path,start\na.wav,soon\n": "Row 2 .* has 'soon' as start",
        "path,start\n,1\n": "Row 2 .* has no path",
    }.items():
        (tmp_path / "list.csv").write_text(text)
        with pytest.raises(CorpusError, match=problem):
            embedkit.predict(record, [tmp_path / "list.csv"])
    assert embedkit.predict(record, []) == []
    with pytest.raises(ConfigError, match="expected one of fail, skip"):
        embedkit.predict(record, [], on_error="ignore")  # type: ignore[arg-type]


def test_results_come_before_the_last_clip_is_read(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = fit_tones(corpus, "mfcc", head=["linear"])
    read: list[str] = []
    original = encoding.read_audio

    def watched(path: Path, **options: Any) -> Any:
        read.append(Path(path).name)
        return original(path, **options)

    monkeypatch.setattr(encoding, "read_audio", watched)
    monkeypatch.setitem(workflow.BATCH_SECONDS, "cpu", 0.5)
    clips = [corpus / f"{number:02d}.wav" for number in range(24)]
    stream = stream_predictions(record, clips, device="cpu")
    assert next(stream).path == str(clips[0])
    assert 1 <= len(read) < 12
    assert [one.path for one in stream] == [str(clip) for clip in clips[1:]]
    assert sorted(read) == [clip.name for clip in clips]


@pytest.mark.parametrize("on_error", ["fail", "skip"])
def test_broken_audio_ends_the_stream_or_is_left_out(corpus: Path, tmp_path: Path, on_error: Any) -> None:
    record = fit_tones(corpus, "mfcc", head=["linear"])
    for name, content in {"broken.wav": b"RIFF", "cut.wav": (corpus / "00.wav").read_bytes()[:4000]}.items():
        (corpus / name).write_bytes(content)
    nan = np.full(8000, np.nan, np.float32)
    soundfile.write(corpus / "nan.wav", nan, RATE, subtype="FLOAT")
    clips = [corpus / name for name in ("00.wav", "broken.wav", "01.wav", "cut.wav", "nan.wav", "02.wav")]
    said: list[str] = []
    stream = stream_predictions(record, clips, on_error=on_error, tell=said.append)
    assert next(stream).path == str(clips[0])
    if on_error == "fail":
        with pytest.raises(AudioError, match=r"broken\.wav.*--on-error skip"):
            list(stream)
        assert not said
    else:
        assert [one.path for one in stream] == [str(clips[2]), str(clips[5])]
        assert [name in line for name, line in zip(("broken.wav", "cut.wav", "nan.wav"), said, strict=True)] == [
            True
        ] * 3
        with pytest.raises(AudioError, match="Not one of the 2 clips"):
            embedkit.predict(record, [clips[1], corpus / "none.wav"], on_error="skip")


def test_too_little_memory_is_told_with_what_helps_here(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = fit_tones(corpus, str(write_conv_checkpoint(tmp_path / "weights", "hubert")), head=["linear"], seeds=1)

    def full(*given: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(PretrainedEncoder, "encode", full)
    with pytest.raises(ExtractionError, match=r"does not fit into the device's memory; name shorter stretches"):
        embedkit.predict(record, [corpus / "00.wav"])


@pytest.mark.parametrize("head", ["linear", "attentive"])
def test_long_clips_are_encoded_in_the_windows_of_an_extraction(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str
) -> None:
    monkeypatch.setitem(workflow.BATCH_SECONDS, "cpu", 60.0)
    weights = write_conv_checkpoint(tmp_path / "weights", "hubert", num_hidden_layers=1)
    cut = {"max_seconds": 0.5, "level": "both", "frame_dtype": "float32"}
    record = fit_tones(corpus, "hubert", sources={"hubert": str(weights)}, head=[head], extract=cut, epochs=1)
    clips = [tmp_path / "a.wav", corpus / "00.wav", tmp_path / "b.wav"]
    for path, first in ((clips[0], 0), (clips[2], 1)):
        tones = [soundfile.read(corpus / f"{number:02d}.wav")[0] for number in range(first, 24, 2)]
        soundfile.write(path, np.concatenate(tones), RATE)
    (tmp_path / "long.csv").write_text("path,label\na.wav,low\ncorpus/00.wav,low\nb.wav,high\n")
    options: dict[str, Any] = {"sources": {"hubert": str(weights)}, "progress": False, "out": tmp_path / "long.h5"}
    store = embedkit.extract(tmp_path / "long.csv", encoder="hubert", **cut, **options)
    ensemble = Ensemble(open_predictor(record))
    paths = store.column("path").tolist()
    for one, path in zip(embedkit.predict(record, clips), ("a.wav", "corpus/00.wav", "b.wav"), strict=True):
        row = paths.index(path)
        frames = torch.from_numpy(np.array(store.frames(row)))[None]
        means = torch.from_numpy(np.array(store.mean(layer="all")[row]))[None]
        asked = ensemble(means) if head == "linear" else ensemble(frames, torch.tensor([frames.shape[1]]))
        assert list(one.probabilities.values()) == pytest.approx(asked[0].tolist(), abs=1e-5)


@pytest.mark.parametrize("head", ["linear", "lstm"])
def test_a_very_long_clip_is_heard_in_equal_pieces(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str
) -> None:
    record = fit_tones(corpus, "mfcc", head=[head])
    monkeypatch.setattr(workflow, "LONGEST_PIECE_SECONDS", 0.25)
    tones = [soundfile.read(corpus / f"0{number}.wav")[0][:4000] for number in (0, 1, 2)]
    soundfile.write(tmp_path / "long.wav", np.concatenate([tones[0], *tones]), RATE)
    (tmp_path / "pieces.csv").write_text(
        "path,start,end\n" + "".join(f"long.wav,{number / 4},{number / 4 + 0.25}\n" for number in range(4))
    )
    (found,) = embedkit.predict(record, [tmp_path / "long.wav"])
    pieces = embedkit.predict(record, [tmp_path / "pieces.csv"])
    assert [one.label for one in pieces] == ["low", "low", "high", "low"]
    mean = np.mean([one.probabilities["low"] for one in pieces])
    assert found.probabilities["low"] == pytest.approx(mean, abs=1e-6)


def test_one_fold_or_seed_is_asked_alone(corpus: Path) -> None:
    record = fit_tones(corpus, "mfcc", head=["linear"])
    clip = [corpus / "00.wav"]
    alone = [
        embedkit.predict(record, clip, fold=fold, seed=seed)[0].probabilities["low"]
        for fold in ("s0", "s1", "s2", "s3")
        for seed in (0, 1)
    ]
    assert len(set(alone)) == 8
    assert embedkit.predict(record, clip)[0].probabilities["low"] == pytest.approx(np.mean(alone), abs=1e-6)
    with pytest.raises(RunError, match=r"Unknown fold 's9' of .*\. Known: s0, s1"):
        embedkit.predict(record, clip, fold="s9")
    with pytest.raises(RunError, match="no seed 7; expected one of 0, 1"):
        embedkit.predict(record, clip, seed=7)


def kept_predictions(record: RunRecord, fold: str, seed: int) -> dict[str, list[float]]:
    """Return what the run itself kept for the test side of a fold, after the head's temperature, by utterance id."""
    with record.predictions_path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["fold"], row["seed"]) == (fold, str(seed))]
    return {row["id"]: calibrated_shares(record, row) for row in rows}


@pytest.mark.parametrize("mode", ["cached", "frozen", "finetune"])
def test_a_fold_says_of_its_test_side_what_the_run_kept(corpus: Path, tmp_path: Path, mode: str) -> None:
    weights = write_conv_checkpoint(tmp_path / "weights", "hubert", num_hidden_layers=1)
    if mode == "cached":
        record = fit_tones(corpus, str(weights))
    else:
        (record,) = embedkit.fit(
            corpus / "corpus.csv",
            encoder=str(weights),
            mode=mode,  # type: ignore[arg-type]
            save_encoder=mode == "finetune",
            folds="speaker",
            seeds=1,
            epochs=1,
            lr=(1e-2,),
            runs=tmp_path / "runs",
        )
    kept = kept_predictions(record, "s1", 0)
    assert len(kept) == 6
    found = embedkit.predict(record, [corpus / f"{name}.wav" for name in kept], fold="s1", seed=0)
    for one, expected in zip(found, kept.values(), strict=True):
        assert list(one.probabilities.values()) == pytest.approx(expected, abs=1e-4)
    if mode == "finetune":
        shutil.rmtree(record.folder / "encoders" / "fold-2-seed-0")
        with pytest.raises(RunError, match="--save-encoder"):
            embedkit.predict(record, [corpus / "00.wav"])


def test_every_fold_can_have_an_encoder_of_its_own(corpus: Path, tmp_path: Path) -> None:
    weights = write_conv_checkpoint(tmp_path / "weights", "hubert", num_hidden_layers=1)
    other = write_conv_checkpoint(tmp_path / "other", "hubert", num_hidden_layers=1, num_conv_pos_embeddings=8)
    record = fit_tones(corpus, str(weights), seeds=1)
    clip = [corpus / "01.wav"]
    before = [embedkit.predict(record, clip, fold=fold)[0].probabilities["low"] for fold in ("s0", "s1", "s2", "s3")]
    own = record.config["store"]["encoder"]
    second = load_encoder(str(other)).identity()
    store = {**record.config["store"], "encoders": [own, second, own, own]}
    mixed = replace(record, config={**record.config, "store": store})
    after = [embedkit.predict(mixed, clip, fold=fold)[0].probabilities["low"] for fold in ("s0", "s1", "s2", "s3")]
    assert [one == again for one, again in zip(before, after, strict=True)] == [True, False, True, True]
    said: list[str] = []
    (found,) = embedkit.predict(mixed, clip, tell=said.append)
    assert found.probabilities["low"] == pytest.approx(np.mean(after), abs=1e-6)
    assert said[0].startswith("The run has 4 encoders")
