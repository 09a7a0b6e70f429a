"""Encoders of families that are not known by name: equal lengths, every layer as transformers gives it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file

from embedkit.encoders import load_encoder
from embedkit.encoders.base import NORMED_STATE, determining
from embedkit.encoders.generic import GenericEncoder, find_frame_count
from embedkit.encoders.kernels import PackedLinear, PackedPointwise
from embedkit.errors import EncoderError
from embedkit.kernels import has_onednn
from tests.encoders.checkpoints import (
    bare_extractor,
    bare_model,
    collect,
    relative_error,
    speechlike,
    write_pair,
)

SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}

MEL: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "subsampling_conv_channels": 8,
}
TOKENS: dict[str, Any] = {"vocab_size": 20, "pad_token_id": 0}
DECODED: dict[str, Any] = {"decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 4, "vocab_size": 20}
S2T: dict[str, Any] = {
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 96,
    "decoder_ffn_dim": 96,
    "vocab_size": 20,
    "conv_channels": 64,
}
CONV: dict[str, Any] = SHAPE | {"conv_dim": (32,) * 7}
LAYER_NORM: dict[str, Any] = {"feat_extract_norm": "layer", "conv_bias": True}
FAMILIES: dict[str, tuple[str, str, dict[str, Any], str, dict[str, Any]]] = {
    "sew": ("SEWConfig", "SEWModel", SHAPE | {"conv_dim": (32,) * 13}, "Wav2Vec2FeatureExtractor", {}),
    "sew-d": ("SEWDConfig", "SEWDModel", SHAPE | {"conv_dim": (32,) * 13}, "Wav2Vec2FeatureExtractor", {}),
    "wav2vec2-bert": (
        "Wav2Vec2BertConfig",
        "Wav2Vec2BertModel",
        SHAPE | {"feature_projection_input_dim": 160, "add_adapter": True},
        "SeamlessM4TFeatureExtractor",
        {},
    ),
    "wav2vec2-conformer": ("Wav2Vec2ConformerConfig", "Wav2Vec2ConformerModel", CONV, "Wav2Vec2FeatureExtractor", {}),
    "wav2vec2-conformer-large": (
        "Wav2Vec2ConformerConfig",
        "Wav2Vec2ConformerModel",
        CONV | LAYER_NORM | {"position_embeddings_type": "rotary"},
        "Wav2Vec2FeatureExtractor",
        {"return_attention_mask": True},
    ),
    "moonshine": (
        "MoonshineConfig",
        "MoonshineModel",
        DECODED
        | {
            "hidden_size": 64,
            "intermediate_size": 96,
            "encoder_num_hidden_layers": 2,
            "encoder_num_attention_heads": 4,
        },
        "Wav2Vec2FeatureExtractor",
        {"do_normalize": False, "return_attention_mask": True},
    ),
    "speech_to_text": ("Speech2TextConfig", "Speech2TextModel", S2T, "Speech2TextFeatureExtractor", {}),
    "parakeet": (
        "ParakeetCTCConfig",
        "ParakeetForCTC",
        TOKENS | {"encoder_config": MEL},
        "ParakeetFeatureExtractor",
        {},
    ),
    "lasr": (
        "LasrCTCConfig",
        "LasrForCTC",
        TOKENS | {"encoder_config": MEL | {"num_mel_bins": 128}},
        "LasrFeatureExtractor",
        {},
    ),
    "omniasr": (
        "OmniASRCTCConfig",
        "OmniASRForCTC",
        TOKENS | {"audio_config": MEL | {"model_type": "omniasr_audio"}},
        "OmniASRFeatureExtractor",
        {},
    ),
}


def write_family(folder: Path, family: str) -> Path:
    config, model, settings, extractor, extraction = FAMILIES[family]
    built = getattr(transformers, model)(getattr(transformers, config)(**settings))
    return write_pair(folder, built, getattr(transformers, extractor)(**extraction))


def bare_layers(folder: Path, clip: torch.Tensor) -> list[torch.Tensor]:
    """Feed a clip alone to what transformers calls the encoder, an adapter behind it left out."""
    whole = bare_model(folder)
    encoder = whole.get_encoder(modality="audio")
    encoder = whole.get_encoder() if encoder is whole else encoder
    model = (encoder if isinstance(encoder, transformers.PreTrainedModel) else whole).eval()
    if getattr(model, "adapter", None) is not None:
        model.adapter, model.config.add_adapter = None, False
    inputs = bare_extractor(folder)(clip.numpy(), sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        output = model(**inputs, output_hidden_states=True)
    states = [*output.hidden_states]
    if output.last_hidden_state.shape == states[-1].shape:
        states[-1] = output.last_hidden_state
    return [state[0] for state in states]


@pytest.mark.parametrize(
    ("family", "rate", "padded"),
    [
        ("sew", 25.0, False),
        ("sew-d", 25.0, False),
        ("wav2vec2-bert", 50.0, True),
        ("wav2vec2-conformer", 50.0, True),
        ("wav2vec2-conformer-large", 50.0, True),
        ("moonshine", 16_000 / 384, True),
        ("speech_to_text", 25.0, True),
        ("parakeet", 12.5, True),
        ("lasr", 25.0, True),
        ("omniasr", 50.0, True),
    ],
)
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_batched_equals_alone(
    family: str, rate: float, padded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_family(tmp_path, family)
    passes = []
    run = GenericEncoder._outputs

    def counted(self: GenericEncoder, clips: Sequence[torch.Tensor]) -> Any:
        passes.append(len(clips))
        return run(self, clips)

    monkeypatch.setattr(GenericEncoder, "_outputs", counted)
    encoder = load_encoder(str(folder))
    assert len(passes) <= 8
    assert encoder.equal_lengths is not padded
    assert (encoder.layers, encoder.dimensions, encoder.frame_rate) == ((0, 1, 2), 64, rate)
    smallest = encoder.smallest_input
    for samples in ([smallest, 7_777, 12_345, 8_001],) if padded else ([smallest] * 3, [7_777] * 3):
        clips = [speechlike(length, seed) for seed, length in enumerate(samples)]
        for clip, layers in zip(clips, collect(encoder, clips), strict=True):
            frames = encoder.frame_count(len(clip))
            for values, reference in zip(layers, bare_layers(folder, clip), strict=True):
                assert len(values) == frames
                assert relative_error(values, reference[:frames]) <= 1e-5


@pytest.mark.parametrize("family", ["wav2vec2-bert", "wav2vec2-conformer", "moonshine"])
def test_batches_in_bf16_are_near_those_in_fp32(family: str, tmp_path: Path) -> None:
    folder = write_family(tmp_path, family)
    clips = [speechlike(length, length) for length in (9_000, 12_345)]
    exact, rounded = (collect(load_encoder(str(folder), precision=precision), clips) for precision in ("fp32", "bf16"))
    for one, other in zip(exact, rounded, strict=True):
        assert all(1e-4 < relative_error(b, a) < 5e-2 for a, b in zip(one, other, strict=True))


def test_linear_layers_are_packed_without_another_result(tmp_path: Path) -> None:
    encoder: Any = load_encoder(str(write_family(tmp_path, "wav2vec2-bert")))
    kinds = {type(module) for module in encoder._model.modules()}
    packed = encoder.linear_kernel == "onednn"
    assert packed is has_onednn()
    assert ({PackedLinear, PackedPointwise} <= kinds) is packed
    trained: Any = load_encoder(str(tmp_path), trainable=True)
    assert PackedLinear not in {type(module) for module in copy.deepcopy(trained.network).modules()}
    one, other = (collect(each, [speechlike(9_000, 0)])[0] for each in (encoder, trained))
    assert all(relative_error(a, b) <= 1e-5 for a, b in zip(one, other, strict=True))


def test_a_batch_of_a_model_that_is_trained_has_clips_of_one_length(tmp_path: Path) -> None:
    folder = write_family(tmp_path, "wav2vec2-conformer")
    assert load_encoder(str(folder), trainable=True).equal_lengths


def test_the_last_layer_has_passed_the_final_norm_and_says_so(tmp_path: Path) -> None:
    folder = write_family(tmp_path, "wav2vec2-conformer")
    encoder = load_encoder(str(folder))
    [layers] = collect(encoder, [speechlike(8_000, 0)])
    inputs = bare_extractor(folder)(speechlike(8_000, 0).numpy(), sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        output = bare_model(folder)(**inputs, output_hidden_states=True)
    assert relative_error(layers[-1], output.last_hidden_state[0]) <= 1e-5
    assert relative_error(layers[-1], output.hidden_states[-1][0]) > 1e-2
    assert determining(encoder.identity())["last_layer"] == NORMED_STATE
    assert "last_layer" not in determining(load_encoder(str(folder), layers="0-1").identity())


def test_stores_of_before_keep_their_fingerprint_where_the_last_layer_was_the_same(tmp_path: Path) -> None:
    identity = load_encoder(str(write_family(tmp_path, "wav2vec2-bert"))).identity()
    assert identity["last_layer"] == "last_hidden_state"
    assert "last_layer" not in determining(identity)


@pytest.mark.parametrize("family", ["sew", "wav2vec2-bert"])
def test_frames_are_counted_without_running(family: str, tmp_path: Path) -> None:
    encoder = load_encoder(str(write_family(tmp_path, family)))
    for samples in (1, 500, 1_234, 4_001, 9_999, 20_480):
        [layers] = collect(encoder, [speechlike(samples, 0)])
        assert len(layers[0]) == encoder.frame_count(samples)


def test_some_layers_only(tmp_path: Path) -> None:
    folder = write_family(tmp_path, "sew")
    [everything] = collect(load_encoder(str(folder)), [speechlike(6_000, 0)])
    [[last]] = collect(load_encoder(str(folder), layers="last"), [speechlike(6_000, 0)])
    assert torch.equal(last, everything[-1])


def test_unequal_lengths_are_refused(tmp_path: Path) -> None:
    encoder = load_encoder(str(write_family(tmp_path, "sew")))
    with pytest.raises(EncoderError, match="one length in a batch"):
        collect(encoder, [speechlike(5_000, 0), speechlike(5_001, 0)])


def test_the_head_of_another_task_is_left_out_but_a_foreign_part_is_refused(tmp_path: Path) -> None:
    config = transformers.SEWConfig(**SHAPE, conv_dim=(32,) * 13, num_labels=4)
    model = transformers.SEWForSequenceClassification(config)
    write_pair(tmp_path, model, transformers.Wav2Vec2FeatureExtractor())
    assert load_encoder(str(tmp_path)).dimensions == 64
    model.sew.encoder.register_parameter("surplus", torch.nn.Parameter(torch.ones(2)))
    model.save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match=r"unexpected: .*encoder\.surplus"):
        load_encoder(str(tmp_path))


def test_a_text_model_is_refused(tmp_path: Path) -> None:
    config = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, vocab_size=30
    )
    transformers.BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match="no feature extractor for audio"):
        load_encoder(str(tmp_path))
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match="does not run on audio alone"):
        load_encoder(str(tmp_path))


def test_clap_is_refused_with_the_reason(tmp_path: Path) -> None:
    transformers.ClapConfig().save_pretrained(tmp_path)
    save_file({"weight": torch.ones(1)}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncoderError, match="merges from layer to layer, so that its states are no frames over time"):
        load_encoder(str(tmp_path))


@pytest.mark.parametrize(("window", "hop"), [(400, 320), (895, 384), (1, 160)])
def test_the_rule_for_frames_is_found_in_few_trials(window: int, hop: int) -> None:
    trials: list[int] = []

    def probe(samples: int) -> int:
        trials.append(samples)
        return (samples - window) // hop + 1

    rule, rate = find_frame_count(probe, window, 16_000)
    assert rate == 16_000 / hop
    assert len(set(trials)) < 60
    assert all(rule(samples) == (samples - window) // hop + 1 for samples in range(window, 50_000, 37))


def test_a_model_with_one_length_for_all_has_no_frame_rate() -> None:
    rule, rate = find_frame_count(lambda samples: 1214, 400, 16_000)
    assert (rule(400), rule(99_999), rate) == (1214, 1214, 0.0)


def test_a_model_without_a_linear_rule_is_asked_every_time() -> None:
    rule, _ = find_frame_count(lambda samples: int(samples**0.5), 400, 16_000)
    assert rule(10_000) == 100
