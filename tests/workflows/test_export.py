"""export writes what predict and others can use, after comparing it with PyTorch."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import soundfile
import torch
import transformers
from safetensors.torch import load_file

import embedkit
from embedkit.encoders.vggish import VggishNetwork, VggishShape
from embedkit.errors import AudioError, ConfigError, EncoderError, RunError
from embedkit.installation import install_command
from embedkit.training.runs import RunRecord
from embedkit.workflows import export as workflow
from tests.cases import mark_cases
from tests.encoders.checkpoints import edit_config, write_conv_checkpoint, write_whisper_checkpoint
from tests.workflows.tones import RATE, fit_tones, write_tones

FRAMES = {"level": "both", "frame_dtype": "float32"}


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_tones(tmp_path / "corpus")


def read(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="float32")[0]


def ask(path: Path, values: np.ndarray) -> tuple[dict[str, Any], np.ndarray]:
    """Run an ONNX file as anyone would; return what it says of itself and its output."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    texts = session.get_modelmeta().custom_metadata_map
    return texts, session.run(None, {session.get_inputs()[0].name: values})[0]


def test_one_file_says_what_predict_says_and_what_it_is(corpus: Path, tmp_path: Path) -> None:
    weights = write_conv_checkpoint(tmp_path / "weights", "wavlm", num_hidden_layers=2)
    record = fit_tones(corpus, "wavlm", sources={"wavlm": str(weights)})
    said: list[str] = []
    found = embedkit.export_run(record, tell=said.append)
    assert found.path == Path("corpus-store-linear-ce.onnx")
    assert 0 <= found.largest_difference < 1e-5
    assert len({round(one.seconds, 2) for one in found.differences}) >= 3
    assert "clips of corpus, 0.20 to 0.50 s: the largest difference of a probability is" in said[-1]
    for name in ("00.wav", "01.wav", "04.wav"):
        texts, outputs = ask(found.path, read(corpus / name))
        (expected,) = embedkit.predict(record, [corpus / name])
        assert json.loads(texts["labels"]) == list(expected.probabilities)
        np.testing.assert_allclose(outputs, list(expected.probabilities.values()), atol=1e-5)
    assert texts["sampling_rate"] == "16000"
    assert texts["input"].startswith("waveform: one clip, mono, float32 [samples] at 16000 Hz")
    assert json.loads(texts["encoder"])["weights_digest"] == record.config["store"]["encoder"]["weights_digest"]
    assert (json.loads(texts["folds"]), json.loads(texts["seeds"])) == (["s0", "s1", "s2", "s3"], [0, 1])


def test_acoustic_features_export_the_head_alone(corpus: Path) -> None:
    record = fit_tones(corpus, "mfcc", head=["attentive"], targets=["valence", "arousal"])
    said: list[str] = []
    found = embedkit.export_run(record, tell=said.append)
    assert "'mfcc' is no network: the heads alone are exported" in said[0]
    assert "of a rating, in standard deviations, is" in said[-1]
    store = embedkit.open_store("store.h5")
    frames = np.array(store.frames(3))
    texts, outputs = ask(found.path, frames)
    assert texts["input"] == "frames: one clip's mfcc, float32 [frames, 1, 39]"
    assert json.loads(texts["labels"]) == ["valence", "arousal"]
    (expected,) = embedkit.predict(record, [corpus / store.column("path")[3]])
    np.testing.assert_allclose(outputs, list(expected.dimensions.values()), atol=1e-4)
    one = embedkit.export_run(record, fold="s2", seed=1, out="one.onnx")
    texts, outputs = ask(one.path, frames)
    (expected,) = embedkit.predict(record, [corpus / store.column("path")[3]], fold="s2", seed=1)
    np.testing.assert_allclose(outputs, list(expected.dimensions.values()), atol=1e-4)
    assert (texts["folds"], texts["seeds"], texts["averaged_heads"]) == ('["s2"]', "[1]", "1")


@pytest.mark.parametrize("family", mark_cases(["hubert", "whisper"], {"hubert"}.__contains__))
def test_a_folder_serves_transformers_and_predict(corpus: Path, tmp_path: Path, family: str) -> None:
    weights = tmp_path / "weights"
    if family == "whisper":
        write_whisper_checkpoint(weights, "bare")
    else:
        write_conv_checkpoint(weights, family, num_hidden_layers=2)
    record = fit_tones(corpus, str(weights), head=["attentive"], extract=FRAMES, seeds=1)
    found = embedkit.export_run(record, format="folder", out="made/exported")
    clips = [corpus / "00.wav", corpus / "01.wav"]
    before = embedkit.predict(record, clips)
    stored = load_file(weights / "model.safetensors")
    shutil.rmtree(weights)
    with pytest.raises(EncoderError, match="weights"):
        embedkit.predict(record, clips)
    moved = (tmp_path / "made" / "exported").rename(tmp_path / "elsewhere")
    assert found.largest_difference == 0
    for one, again in zip(before, embedkit.predict(moved, clips), strict=True):
        assert again.probabilities == pytest.approx(one.probabilities, abs=1e-6)
    model = transformers.AutoModel.from_pretrained(moved)
    own = model.encoder if family == "whisper" else model
    state = own.state_dict()
    shared = [name for name in stored if name in state]
    assert len(shared) > 20
    assert all(torch.equal(state[name], stored[name]) for name in shared)
    assert transformers.AutoFeatureExtractor.from_pretrained(moved).sampling_rate == RATE
    again = embedkit.export_run(moved, fold="s1", format="both", out=tmp_path / "again")
    assert sorted(path.name for path in again.path.iterdir()) == [
        "README.md",
        "config.json",
        "head.safetensors",
        "model.onnx",
        "model.safetensors",
        "predictor.json",
        "preprocessor_config.json",
    ]
    assert model.config.id2label == {0: "high", 1: "low"}
    assert model.config.label2id == {"high": 0, "low": 1}
    # What the run scored is known to whoever has the folder alone; where on this machine anything was is not.
    results = json.loads((again.path / "predictor.json").read_text())["results"]
    assert (results["ua"], np.sum(results["confusion"])) == (record.metrics["ua"], 24)
    assert "| class | utterances | recall |" in (again.path / "README.md").read_text()
    assert not any(str(tmp_path).encode() in path.read_bytes() for path in again.path.iterdir())
    (expected,) = embedkit.predict(moved, clips[:1], fold="s1")
    (alone,) = embedkit.predict(again.path, clips[:1])
    assert alone.probabilities == pytest.approx(expected.probabilities, abs=1e-6)
    np.testing.assert_allclose(
        ask(again.path / "model.onnx", read(clips[0]))[1], list(expected.probabilities.values()), atol=1e-5
    )


def test_parts_of_a_concatenation_and_vggish_are_kept(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = VggishShape(channels=(4, 6, 8, 8), hidden=24, dimensions=16)
    monkeypatch.setattr("embedkit.encoders.vggish.VggishShape", lambda: shape)
    torch.manual_seed(0)
    torch.save(VggishNetwork(shape).state_dict(), tmp_path / "vggish.pth")
    weights = write_conv_checkpoint(tmp_path / "weights", "hubert")
    sources = {"vggish": str(tmp_path / "vggish.pth"), "hubert": str(weights)}
    record = fit_tones(corpus, "hubert+vggish+mfcc", sources=sources, head=["linear"], seeds=1)
    with pytest.raises(EncoderError, match=r"concatenation.*--format folder"):
        embedkit.export_run(record)
    found = embedkit.export_run(record, format="folder", out="kept")
    clips = [corpus / "00.wav", corpus / "01.wav"]
    before = embedkit.predict(record, clips)
    shutil.rmtree(weights)
    (tmp_path / "vggish.pth").unlink()
    for one, again in zip(before, embedkit.predict(found.path, clips), strict=True):
        assert again.probabilities == pytest.approx(one.probabilities, abs=1e-6)


def test_what_differs_too_much_is_not_kept(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = fit_tones(corpus, "mfcc", head=["linear"], seeds=1)
    original = workflow.run_onnx
    monkeypatch.setattr(workflow, "run_onnx", lambda *given: [values + 3e-3 for values in original(*given)])
    before = sorted(os.listdir())
    with pytest.raises(RunError, match=r"differs from PyTorch by 3\.0e-03 on .*\.wav .*the tolerance of 0\.0001"):
        embedkit.export_run(record)
    monkeypatch.setattr(workflow, "run_onnx", lambda *given: [values * np.nan for values in original(*given)])
    with pytest.raises(RunError, match="differs from PyTorch by nan"):
        embedkit.export_run(record, tolerance=1)
    assert sorted(os.listdir()) == before


def test_clips_to_compare_on(corpus: Path, tmp_path: Path) -> None:
    record = fit_tones(corpus, "mfcc", head=["linear"], seeds=1)
    found = embedkit.export_run(record, check=[corpus / "03.wav"], out="a.onnx")
    assert [one.clip for one in found.differences] == ["03.wav"]
    with pytest.raises(AudioError, match=r"none\.wav"):
        embedkit.export_run(record, check=["none.wav"], out="b.onnx")
    shutil.rmtree(corpus)
    said: list[str] = []
    embedkit.export_run(record, out="b.onnx", tell=said.append)
    assert "noise, because the run's corpus is not at hand" in said[-1]


def damage(folder: Path, name: str, content: str) -> Path:
    copied = folder.with_name(f"damaged-{name}")
    shutil.copytree(folder, copied)
    (copied / name).write_text(content)
    return copied


def test_bad_input_is_told(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record: RunRecord = fit_tones(corpus, "mfcc", head=["linear"], seeds=1)
    with pytest.raises(RunError, match="No run at nowhere"):
        embedkit.export_run("nowhere")
    with pytest.raises(ConfigError, match="expected one of onnx, folder, both"):
        embedkit.export_run(record, format="tflite")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="tolerance"):
        embedkit.export_run(record, tolerance=0)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunError, match="cannot be written"):
        embedkit.export_run(record, out="file/model.onnx")
    with pytest.raises(RunError, match="is a file, expected a folder"):
        embedkit.export_run(record, format="folder", out="file", overwrite=True)
    with pytest.raises(RunError, match="something else"):
        embedkit.export_run(record, format="folder", out=corpus, overwrite=True)
    with pytest.raises(RunError, match="is a folder, expected the path"):
        embedkit.export_run(record, out=corpus)
    with pytest.raises(RunError, match="--overwrite"):
        embedkit.export_run(record, out="file")
    assert (tmp_path / "file").read_text() == "mine"
    found = embedkit.export_run(record, format="folder", out="made")
    embedkit.export_run(record, format="folder", out="made", overwrite=True, fold="s1")
    assert json.loads((found.path / "predictor.json").read_text())["folds"]["names"] == ["s1"]
    described = json.loads((found.path / "predictor.json").read_text())
    spoilt = json.dumps({**described, "results": {**described["results"], "confusion": [["many"]]}})
    for name, content, problem in (
        ("predictor.json", "{", "is damaged"),
        ("predictor.json", spoilt, r"is damaged \(results\.confusion is of another type"),
        ("predictor.json", '{"format": "embedkit-predictor", "format_version": 9}', "format version 9"),
        ("head.safetensors", "", "cannot be read"),
    ):
        with pytest.raises(RunError, match=problem):
            embedkit.predict(damage(found.path, name, content), [corpus / "00.wav"])
        shutil.rmtree(found.path.with_name(f"damaged-{name}"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=re.escape(install_command("onnx"))):
        embedkit.export_run(record)


def test_an_encoder_that_is_gone_or_another_is_told(corpus: Path, tmp_path: Path) -> None:
    weights = write_conv_checkpoint(tmp_path / "weights", "hubert")
    record = fit_tones(corpus, "hubert", sources={"hubert": str(weights)}, seeds=1)
    weights.rename(tmp_path / "moved")
    with pytest.raises(EncoderError):
        embedkit.export_run(record)
    other = write_conv_checkpoint(tmp_path / "other", "hubert", num_conv_pos_embeddings=8)
    with pytest.raises(RunError, match="other weights"):
        embedkit.export_run(record, sources={"hubert": str(other)})
    edit_config(tmp_path / "moved", hidden_size=128)
    with pytest.raises(EncoderError):
        embedkit.export_run(record, sources={"hubert": str(tmp_path / "moved")})
    assert not list(tmp_path.glob("*.onnx"))


def test_an_encoder_that_was_trained_is_exported_with_its_head(corpus: Path, tmp_path: Path) -> None:
    weights = write_conv_checkpoint(tmp_path / "weights", "hubert", num_hidden_layers=1)
    (record,) = embedkit.fit(
        corpus / "corpus.csv",
        encoder=str(weights),
        mode="finetune",
        save_encoder=True,
        folds="speaker",
        seeds=1,
        epochs=1,
        lr=(1e-2,),
    )
    with pytest.raises(RunError, match=r"has 4 encoders.*--fold \(s0, s1, s2, s3\)"):
        embedkit.export_run(record)
    said: list[str] = []
    found = embedkit.export_run(record, fold="s1", format="both", out="tuned", tell=said.append)
    assert "Compared with PyTorch on clips of corpus, 0.20 to 0.50 s" in said[-1]
    clip = corpus / "01.wav"
    (expected,) = embedkit.predict(record, [clip], fold="s1")
    shutil.rmtree(record.folder / "encoders")
    (again,) = embedkit.predict(found.path, [clip])
    assert again.probabilities == pytest.approx(expected.probabilities, abs=1e-6)
    outputs = ask(found.path / "model.onnx", read(clip))[1]
    np.testing.assert_allclose(outputs, list(expected.probabilities.values()), atol=1e-5)
    card = json.loads((found.path / "embedkit.json").read_text())
    assert card["trained_on"]["fold"] == "s1"
    assert card["base"]["source"] == "weights"
    for file in found.path.glob("*.json"):
        assert str(tmp_path) not in file.read_text(encoding="utf-8")
