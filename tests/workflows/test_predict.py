"""predict finds the encoder again and scores as fit did."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from safetensors.torch import save_file

import embedkit
from embedkit.errors import AudioError, EncoderError, RunError
from embedkit.training.runs import RunRecord
from embedkit.workflows.predict import render_predictions
from tests.encoders.checkpoints import write_conv_checkpoint

RATE = 16000


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Twelve clips of four speakers: tones of two pitches, told apart by any encoder."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    generator = np.random.default_rng(0)
    rows = ["path,label,speaker,arousal,valence"]
    for number in range(24):
        label, pitch = (("low", 150), ("high", 900))[number % 2]
        time = np.arange(int(RATE * (0.3 + 0.05 * (number % 5)))) / RATE
        clip = 0.3 * np.sin(2 * np.pi * pitch * time) + 0.02 * generator.normal(size=len(time))
        soundfile.write(folder / f"{number:02d}.wav", clip, RATE)
        rows.append(f"{number:02d}.wav,{label},s{number // 6},{pitch / 100},{-3 if label == 'low' else 2}")
    (folder / "corpus.csv").write_text("\n".join(rows) + "\n")
    return folder


def fitted(corpus: Path, tmp_path: Path, encoder: str, **options: Any) -> RunRecord:
    store = embedkit.extract(
        corpus / "corpus.csv",
        encoder=encoder,
        out=tmp_path / "store.h5",
        progress=False,
        sources=options.pop("sources", None),
    )
    settings: dict[str, Any] = {"seeds": 2, "epochs": 6, "learning_rates": (1e-2,), "batch_size": 8, **options}
    (record,) = embedkit.fit(store, folds="speaker", runs=tmp_path / "runs", **settings)
    return record


@pytest.mark.parametrize("head", ["linear", "lstm"])
def test_clips_are_rated_in_the_unit_of_the_corpus(corpus: Path, tmp_path: Path, head: str) -> None:
    record = fitted(corpus, tmp_path, "mfcc", heads=[head], targets=["valence", "arousal"], epochs=15)
    clips = [corpus / "00.wav", corpus / "01.wav"]
    low, high = embedkit.predict(record.folder, clips)
    assert (low.label, low.probabilities) == ("", {})
    assert list(low.dimensions) == ["valence", "arousal"]
    assert low.dimensions["valence"] == pytest.approx(-3, abs=1)
    assert high.dimensions["valence"] == pytest.approx(2, abs=1)
    assert low.dimensions["arousal"] == pytest.approx(1.5, abs=1.5)
    assert high.dimensions["arousal"] == pytest.approx(9, abs=1.5)
    (alone,) = embedkit.predict(record, [clips[1]])
    assert alone.dimensions == pytest.approx(dict(high.dimensions), abs=1e-4)
    assert next(render_predictions([low, high])) == (
        f"{clips[0]}: valence {low.dimensions['valence']:.2f}, arousal {low.dimensions['arousal']:.2f}"
    )
    assert json.loads("".join(render_predictions([low], "json"))) == [
        {"path": str(clips[0]), "dimensions": low.dimensions}
    ]
    assert next(render_predictions([low], "csv")) == "path,valence,arousal"


def test_ratings_without_their_scale_are_refused(corpus: Path, tmp_path: Path) -> None:
    record = fitted(corpus, tmp_path, "mfcc", targets=["valence"], epochs=1, heads=["linear"])
    tensors = {name: value for name, value in record.load_heads().items() if "rating" not in name}
    save_file(tensors, record.folder / "heads.safetensors")
    with pytest.raises(RunError, match="lack '0/rating_mean'"):
        embedkit.predict(record.folder, [corpus / "00.wav"])


@pytest.mark.parametrize("head", ["linear", "lstm"])
def test_clips_are_classified_as_they_were_learnt(corpus: Path, tmp_path: Path, head: str) -> None:
    record = fitted(corpus, tmp_path, "mfcc", heads=[head])
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
    settings: dict[str, Any] = {"seeds": 1, "epochs": 6, "learning_rates": (1e-2,), "batch_size": 8}
    records = embedkit.fit(store, folds="speaker", runs=tmp_path / "runs", layers="each", **settings)
    assert [record.config["layer"] for record in records] == list(store.layers)
    found = {round(embedkit.predict(record, [corpus / "01.wav"])[0].probabilities["high"], 6) for record in records}
    assert len(found) == len(records) > 1


def test_the_encoder_is_found_again_where_its_name_led(corpus: Path, tmp_path: Path) -> None:
    weights = write_conv_checkpoint(tmp_path / "weights", "hubert")
    record = fitted(corpus, tmp_path, "hubert", sources={"hubert": str(weights)})
    (found,) = embedkit.predict(record.folder, [corpus / "01.wav"])
    moved = tmp_path / "moved"
    shutil.move(weights, moved)
    with pytest.raises(EncoderError):
        embedkit.predict(record.folder, [corpus / "01.wav"])
    (again,) = embedkit.predict(record.folder, [corpus / "01.wav"], sources={"hubert": str(moved)})
    assert again == found


def test_another_encoder_is_refused(corpus: Path, tmp_path: Path) -> None:
    record = fitted(
        corpus, tmp_path, "hubert", sources={"hubert": str(write_conv_checkpoint(tmp_path / "one", "hubert"))}
    )
    other = write_conv_checkpoint(tmp_path / "other", "hubert", num_conv_pos_embeddings=8)
    with pytest.raises(RunError, match="other weights"):
        embedkit.predict(record.folder, [corpus / "01.wav"], sources={"hubert": str(other)})


def test_what_cannot_be_predicted_is_told(corpus: Path, tmp_path: Path) -> None:
    record = fitted(corpus, tmp_path, "mfcc", heads=["linear"])
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
    record = fitted(corpus, tmp_path, "wavlm+mfcc", sources={"wavlm": str(weights)}, heads=["linear"])
    found = embedkit.predict(record.folder, [corpus / "00.wav", corpus / "01.wav"])
    assert [one.label for one in found] == ["low", "high"]
