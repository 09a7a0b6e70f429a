"""Published classifiers give the logits that transformers gives for each clip alone; what does not fit is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from embedkit.encoders.classifiers import EMOTION2VEC_LABELS, load_classifier
from embedkit.errors import EncoderError
from tests.encoders.checkpoints import LARGE, SHAPE, WHISPER, edit_config, speechlike, write_pair
from tests.encoders.emotion2vec import random_weights, reference_states, write_published

LABELS = {0: "ang", 1: "hap", 2: "neu"}
SMALL = {**SHAPE, "num_hidden_layers": 2, "classifier_proj_size": 12, "id2label": LABELS}
DATA2VEC = {"num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 9}
SEW = {"squeeze_factor": 2, "conv_dim": (32,) * 4, "conv_kernel": (10, 3, 3, 2), "conv_stride": (5, 4, 4, 2)}
BERT = {"feature_projection_input_dim": 160, "add_adapter": False, "conv_depthwise_kernel_size": 5}
WEIGHTED = {"use_weighted_layer_sum": True}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "hubert": ("Hubert", WEIGHTED),
    "hubert-large": ("Hubert", {**LARGE, **WEIGHTED}),
    "wav2vec2-large": ("Wav2Vec2", LARGE),
    "wavlm": ("WavLM", WEIGHTED),
    "unispeech": ("UniSpeech", {}),
    "unispeech-sat": ("UniSpeechSat", {**LARGE, **WEIGHTED}),
    "data2vec-audio": ("Data2VecAudio", {**DATA2VEC, **WEIGHTED}),
    "wav2vec2-conformer": ("Wav2Vec2Conformer", {"conv_depthwise_kernel_size": 5, **WEIGHTED}),
    "wav2vec2-bert": ("Wav2Vec2Bert", {**BERT, **WEIGHTED}),
    "sew": ("SEW", SEW),
    "sew-d": ("SEWD", SEW),
}
SECONDS = (0.31, 0.72, 1.0)


def write_classifier(folder: Path, kind: str, special: dict[str, Any], **overrides: Any) -> Path:
    """Write a random classifier in transformers' layout."""
    config = getattr(transformers, f"{kind}Config")(**SMALL | special | overrides)
    model = getattr(transformers, f"{kind}ForSequenceClassification")(config)
    extractor: Any = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    if kind == "Wav2Vec2Bert":
        extractor = transformers.SeamlessM4TFeatureExtractor(feature_size=80, num_mel_bins=80, stride=2)
    return write_pair(folder, model, extractor)


def score(folder: Path, clips: list[torch.Tensor]) -> torch.Tensor:
    """Return what embedkit says of clips in as few batches as their encoder allows, `[clips, labels]`."""
    encoder, head = load_classifier("it", str(folder))
    parts: list[list[torch.Tensor]] = [[] for _ in clips]
    for batch in [[number] for number in range(len(clips))] if encoder.equal_lengths else [[*range(len(clips))]]:

        def sink(place: int, values: torch.Tensor, own: torch.Tensor, batch: list[int] = batch) -> None:
            for number, row, length in zip(batch, values, own.tolist(), strict=True):
                parts[number].append(row[:length].mean(0))

        encoder.encode([clips[number] for number in batch], sink)
    return torch.stack([head(torch.stack(layers)) for layers in parts])


def reference(folder: Path, clips: list[torch.Tensor]) -> torch.Tensor:
    """Return what transformers' own classifier says of each clip alone."""
    model = transformers.AutoModelForAudioClassification.from_pretrained(folder).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    with torch.no_grad():
        inputs = [extractor(clip.numpy(), sampling_rate=16000, return_tensors="pt") for clip in clips]
        return torch.cat([model(**one).logits for one in inputs])


def clips_of(*seconds: float) -> list[torch.Tensor]:
    return [speechlike(int(16000 * one), seed) for seed, one in enumerate(seconds)]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_as_transformers_has_it_for_a_clip_alone(family: str, tmp_path: Path) -> None:
    folder = write_classifier(tmp_path / family, *FAMILIES[family])
    clips = clips_of(*SECONDS)
    torch.testing.assert_close(score(folder, clips), reference(folder, clips), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_whisper_hears_the_silence_of_its_window_and_nothing_beyond(tmp_path: Path, weighted: bool) -> None:
    config = transformers.WhisperConfig(
        **WHISPER, classifier_proj_size=12, id2label=LABELS, use_weighted_layer_sum=weighted
    )
    extractor = transformers.WhisperFeatureExtractor(feature_size=config.num_mel_bins, chunk_length=3)
    folder = write_pair(tmp_path / "w", transformers.WhisperForAudioClassification(config), extractor)
    clips = clips_of(0.4, 2.0, 4.0)
    torch.testing.assert_close(score(folder, clips), reference(folder, clips), atol=1e-5, rtol=1e-5)


def test_the_spectrogram_transformer_reads_its_tokens_and_ten_seconds(tmp_path: Path) -> None:
    config = transformers.ASTConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=48,
        max_length=128,
        num_mel_bins=32,
        id2label=LABELS,
    )
    extractor = transformers.ASTFeatureExtractor(max_length=128, num_mel_bins=32)
    folder = write_pair(tmp_path / "ast", transformers.ASTForAudioClassification(config), extractor)
    clips = clips_of(0.4, 1.0, 2.0)
    torch.testing.assert_close(score(folder, clips), reference(folder, clips), atol=1e-5, rtol=1e-5)


def write_audeering(folder: Path, *, outputs: int = 3) -> Path:
    """Write a classifier of audeering's form, whose class is in no library."""
    config = transformers.Wav2Vec2Config(**SMALL | LARGE)
    write_pair(folder, transformers.Wav2Vec2Model(config), transformers.Wav2Vec2FeatureExtractor(do_normalize=True))
    generator = torch.Generator().manual_seed(3)
    shapes = {"dense.weight": (64, 64), "dense.bias": (64,), "out_proj.weight": (outputs, 64), "out_proj.bias": (3,)}
    head = {f"classifier.{name}": torch.randn(shape, generator=generator) / 8 for name, shape in shapes.items()}
    body = {f"wav2vec2.{name}": value for name, value in load_file(folder / "model.safetensors").items()}
    save_file(body | head, folder / "model.safetensors", metadata={"format": "pt"})
    names = ("arousal", "dominance", "valence")
    edit_config(
        folder,
        architectures=["Wav2Vec2ForSpeechClassification"],
        problem_type="regression",
        id2label={str(number): name for number, name in enumerate(names)},
    )
    return folder


def test_attributes_come_from_dense_tanh_and_a_linear_layer_on_the_mean(tmp_path: Path) -> None:
    folder = write_audeering(tmp_path / "dim")
    clips = clips_of(0.5, 0.9)
    state = {name: value.double() for name, value in load_file(folder / "model.safetensors").items()}
    body = transformers.Wav2Vec2Model.from_pretrained(folder).eval()
    for row, clip in zip(score(folder, clips), clips, strict=True):
        wave = ((clip - clip.mean()) / torch.sqrt(clip.var(correction=0) + 1e-7))[None]
        with torch.no_grad():
            mean = body(wave).last_hidden_state[0].double().mean(0)
        hidden = torch.tanh(state["classifier.dense.weight"] @ mean + state["classifier.dense.bias"])
        wanted = state["classifier.out_proj.weight"] @ hidden + state["classifier.out_proj.bias"]
        torch.testing.assert_close(row.double(), wanted, atol=1e-5, rtol=1e-5)
    _, head = load_classifier("it", str(folder))
    assert (head.labels, head.rates, head.unit) == (("arousal", "dominance", "valence"), True, True)


@pytest.fixture(scope="module")
def hubert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classifier(tmp_path_factory.mktemp("hubert") / "it", "Hubert", WEIGHTED)


def changed(source: Path, folder: Path, change: Any = None, **config: Any) -> Path:
    """Copy a checkpoint with other weights or settings."""
    folder.mkdir()
    for name in ("config.json", "preprocessor_config.json"):
        (folder / name).write_bytes((source / name).read_bytes())
    state = load_file(source / "model.safetensors")
    save_file(state if change is None else change(state), folder / "model.safetensors", metadata={"format": "pt"})
    if config:
        edit_config(folder, **config)
    return folder


def without(state: dict[str, torch.Tensor], *parts: str) -> dict[str, torch.Tensor]:
    return {name: value for name, value in state.items() if not name.startswith(parts)}


NAN = torch.full((12,), float("nan"))
BROKEN: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no head": (lambda state: without(state, "projector", "classifier", "layer_weights"), {}, "embedkit extract"),
    "half a head": (lambda state: without(state, "projector"), {}, "missing: projector.bias, projector.weight"),
    "no shares": (lambda state: without(state, "layer_weights"), {}, "missing: layer_weights"),
    "NaN in the head": (lambda state: state | {"projector.bias": NAN}, {}, "not finite: projector.bias"),
    "NaN in the encoder": (
        lambda state: state | {"hubert.encoder.layer_norm.bias": torch.full((64,), float("nan"))},
        {},
        "not finite",
    ),
    "missing in the encoder": (lambda state: without(state, "hubert.encoder.layer_norm"), {}, "missing"),
    "x-vectors": (lambda state: state | {"tdnn.0.kernel.weight": torch.zeros(2)}, {}, "unexpected: tdnn.0"),
    "other shape": (lambda state: state | {"classifier.bias": torch.zeros(5)}, {}, "of another shape"),
    "labels that steer": (None, {"id2label": {"0": "a\x1b[2J", "1": "b", "2": "c"}}, "id2label"),
    "labels too few": (None, {"id2label": {"0": "a", "1": "b"}}, "of another shape"),
    "labels unnumbered": (None, {"id2label": {"0": "a", "1": "b", "7": "c"}}, "id2label"),
    "labels alike": (None, {"id2label": {"0": "a", "1": "A", "2": "c"}}, "alike"),
    "several at once": (None, {"problem_type": "multi_label_classification"}, "several labels"),
    "an adapter": (None, {"add_adapter": True}, "adapters"),
    "custom code": (None, {"auto_map": {"AutoModel": "it.py"}}, "code"),
    "no such class": (None, {"model_type": "moonshine"}, "cannot be"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_no_whole_classifier_is_refused_in_a_sentence(case: str, hubert: Path, tmp_path: Path) -> None:
    change, config, expected = BROKEN[case]
    with pytest.raises(EncoderError, match=expected.replace("[", r"\[")) as caught:
        load_classifier("it", str(changed(hubert, tmp_path / "it", change, **config)))
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("file", ["flax_model.msgpack", "tf_model.h5", "hyperparams.yaml", "adapter_config.json"])
def test_checkpoints_of_other_libraries_are_told_apart(file: str, hubert: Path, tmp_path: Path) -> None:
    folder = changed(hubert, tmp_path / "it")
    (folder / "model.safetensors").unlink()
    (folder / file).write_text("{}")
    with pytest.raises(EncoderError, match=file):
        load_classifier("it", str(folder))


def test_emotion2vec_plus_reads_nine_classes_from_the_mean(tmp_path: Path) -> None:
    weights = random_weights(dimensions=32, heads=2, channels=16)
    generator = torch.Generator().manual_seed(1)
    head = {"proj.weight": torch.randn(9, 32, generator=generator), "proj.bias": torch.randn(9, generator=generator)}
    clip = speechlike(6000, 0)
    write_published(tmp_path / "model.pt", {**weights, **head})
    _, found = load_classifier("it", str(tmp_path))
    assert found.labels == EMOTION2VEC_LABELS
    assert not found.rates
    mean = torch.from_numpy(np.asarray(reference_states(weights, clip)[-1]).mean(0)).float()
    wanted = head["proj.weight"] @ mean + head["proj.bias"]
    torch.testing.assert_close(score(tmp_path, [clip])[0], wanted, atol=1e-5, rtol=1e-5)
    write_published(tmp_path / "model.pt", weights)
    with pytest.raises(EncoderError, match=r"holds no classifier.* answers embedkit predict"):
        load_classifier("it", str(tmp_path))


def test_labels_are_read_from_the_settings(hubert: Path) -> None:
    _, head = load_classifier("it", str(hubert))
    assert head.labels == tuple(LABELS.values())
    assert json.loads((hubert / "config.json").read_text())["id2label"]["0"] == "ang"
