"""Every task class that transformers has for audio loads as the encoder below it, whatever its heads are called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.models.auto import modeling_auto
from transformers.models.auto.feature_extraction_auto import FEATURE_EXTRACTOR_MAPPING_NAMES

from embedkit.encoders import load_encoder
from embedkit.errors import EncoderError
from tests.encoders.checkpoints import SHAPE, WHISPER, edit_config, randomise

HEADED: dict[str, Any] = {
    "num_hidden_layers": 1,
    "hidden_size": 32,
    "intermediate_size": 32,
    "tdnn_dim": (16,) * 5,
    "tdnn_kernel": (5, 3, 3, 1, 1),
    "tdnn_dilation": (1, 2, 3, 1, 1),
    "xvector_output_dim": 16,
    "classifier_proj_size": 16,
    "num_codevectors_per_group": 4,
    "codevector_dim": 8,
    "proj_codevector_dim": 8,
    "num_clusters": 4,
    "use_weighted_layer_sum": True,
    "num_ctc_classes": 12,
}
MEL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "subsampling_conv_channels": 8,
    "num_mel_bins": 80,
}
TOKENS: dict[str, Any] = {"vocab_size": 12, "pad_token_id": 0}
TRANSDUCER: dict[str, Any] = TOKENS | {"decoder_hidden_size": 16, "num_decoder_layers": 1, "blank_token_id": 11}
SETTINGS: dict[str, dict[str, Any]] = {
    "data2vec-audio": {"num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 9},
    "sew": {"conv_dim": (32,) * 13},
    "sew-d": {"conv_dim": (32,) * 13},
    "wav2vec2-bert": {"feature_projection_input_dim": 160},
    "audio-spectrogram-transformer": {"max_length": 128},
    "parakeet_ctc": TOKENS | {"encoder_config": MEL},
    "parakeet_rnnt": TRANSDUCER | {"encoder_config": MEL},
    "parakeet_tdt": TRANSDUCER | {"encoder_config": MEL},
    "lasr_ctc": TOKENS | {"encoder_config": MEL | {"num_mel_bins": 128}},
    "omniasr_ctc": TOKENS | {"audio_config": MEL | {"model_type": "omniasr_audio", "conv_dim": (32,) * 7}},
    "granite_speech5_ctc": TOKENS | {"encoder_config": MEL | {"vocab_size": 12}},
    "nemotron_asr_streaming": TRANSDUCER | {"encoder_config": MEL},
    "nemotron3_5_asr": TRANSDUCER | {"encoder_config": MEL},
}
EXTRACTORS: dict[str, tuple[str, dict[str, Any]]] = {
    "wav2vec2-bert": ("SeamlessM4TFeatureExtractor", {}),
    "audio-spectrogram-transformer": ("ASTFeatureExtractor", {"max_length": 128}),
}
UNLIKE = {
    # Its states halve their frames twice on the way.
    "granite_speech5_ctc": "gives no hidden states of one shape",
}
DIARISERS = {"nemotron3_diarization"}
"""They go through a recording chunk by chunk and give a state of the speakers, not of the speech."""

TASKS = ("AUDIO_CLASSIFICATION", "CTC", "AUDIO_FRAME_CLASSIFICATION", "AUDIO_XVECTOR", "RNNT", "TDT")
CLASSES = sorted(
    {
        (family, name)
        for task in TASKS
        for family, name in getattr(modeling_auto, f"MODEL_FOR_{task}_MAPPING_NAMES", {}).items()
        if family not in DIARISERS
    }
    | {
        (family, f"{prefix}ForPreTraining")
        for family, prefix in (
            ("wav2vec2", "Wav2Vec2"),
            ("wav2vec2-conformer", "Wav2Vec2Conformer"),
            ("unispeech", "UniSpeech"),
            ("unispeech-sat", "UniSpeechSat"),
        )
    }
    | {("whisper", "WhisperForConditionalGeneration")}
)


def build(family: str, name: str) -> Any:
    config_class = transformers.CONFIG_MAPPING[family]
    shape = WHISPER if family == "whisper" else SHAPE | HEADED
    if family in SETTINGS and {"encoder_config", "audio_config"} & SETTINGS[family].keys():
        shape = {}
    elif family not in ("wav2vec2", "wavlm"):
        shape = {key: value for key, value in shape.items() if hasattr(config_class(), key)}
    return getattr(transformers, name)(config_class(**shape | SETTINGS.get(family, {})))


def write(folder: Path, family: str, name: str) -> Any:
    model = build(family, name)
    randomise(model)
    model.save_pretrained(folder)
    extractor, settings = EXTRACTORS.get(family, (FEATURE_EXTRACTOR_MAPPING_NAMES[family], {}))
    getattr(transformers, extractor)(**settings).save_pretrained(folder)
    return model


@pytest.mark.parametrize(("family", "name"), CLASSES)
def test_every_task_class_loads_as_its_encoder(family: str, name: str, tmp_path: Path) -> None:
    state = write(tmp_path, family, name).state_dict()
    if family in UNLIKE:
        with pytest.raises(EncoderError, match=UNLIKE[family]):
            load_encoder(str(tmp_path))
        return
    encoder: Any = load_encoder(str(tmp_path), layers="last", trainable=True)
    own = encoder.network.state_dict()
    first = next(iter(own))
    prefixes = [full.removesuffix(first) for full in state if full.endswith(first)]
    assert len(own) < len(state)
    nothing = torch.empty(0)
    assert any(all(torch.equal(own[key], state.get(prefix + key, nothing)) for key in own) for prefix in prefixes)


def change(folder: Path, family: str, name: str, changed: Callable[[dict[str, torch.Tensor]], Any]) -> Path:
    write(folder, family, name)
    weights = load_file(folder / "model.safetensors")
    changed(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("family", ["wav2vec2", "sew", "whisper"])
def test_the_vector_for_masking_may_be_missing_or_surplus(family: str, tmp_path: Path) -> None:
    names = {"wav2vec2": "Wav2Vec2ForCTC", "sew": "SEWForCTC", "whisper": "WhisperForConditionalGeneration"}
    vector = {"wav2vec2": "wav2vec2", "sew": "sew", "whisper": "model.encoder"}[family] + ".masked_spec_embed"

    def flip(weights: dict[str, torch.Tensor]) -> None:
        if weights.pop(vector, None) is None:
            weights[vector] = torch.ones(32)

    assert load_encoder(str(change(tmp_path, family, names[family], flip))).dimensions


@pytest.mark.parametrize(
    ("surplus", "message"),
    [
        ("wav2vec2.encoder.adapter.weight", r"unexpected: encoder\.adapter\.weight\)"),
        ("wav2vec2.adapter.weight", r"unexpected: adapter\.weight\)"),
        ("wav2vec2.feature_extractor.weight", r"unexpected: feature_extractor\.weight\)"),
    ],
)
def test_what_is_unknown_inside_the_encoder_is_refused(surplus: str, message: str, tmp_path: Path) -> None:
    change(tmp_path, "wav2vec2", "Wav2Vec2ForXVector", lambda weights: weights.update({surplus: torch.ones(2)}))
    with pytest.raises(EncoderError, match=message):
        load_encoder(str(tmp_path))


def test_so_is_what_lies_inside_an_encoder_without_a_prefix(tmp_path: Path) -> None:
    def bare(weights: dict[str, torch.Tensor]) -> None:
        for name in list(weights):
            value = weights.pop(name)
            weights |= {name.removeprefix("wav2vec2."): value} if name.startswith("wav2vec2.") else {}
        weights["projector.weight"] = torch.ones(2)

    folder = change(tmp_path, "wav2vec2", "Wav2Vec2ForXVector", bare)
    assert load_encoder(str(folder)).dimensions == 32
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"encoder.layers.7.surplus": torch.ones(2)}, folder / "model.safetensors")
    with pytest.raises(EncoderError, match=r"unexpected: encoder\.layers\.7\.surplus\)"):
        load_encoder(str(folder))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    broken = "wav2vec2.encoder.layers.0.attention.k_proj.weight"
    change(tmp_path, "wav2vec2", "Wav2Vec2ForCTC", lambda weights: weights[broken][0, :1].fill_(value))
    with pytest.raises(EncoderError, match=r"not finite \(in encoder\.layers\.0\.attention\.k_proj\.weight\)"):
        load_encoder(str(tmp_path))


def test_a_decoder_alone_is_no_encoder(tmp_path: Path) -> None:
    write(tmp_path, "whisper", "WhisperForCausalLM")
    with pytest.raises(EncoderError, match=r"are none of WhisperEncoder's \(there are model\.decoder\..*; expected"):
        load_encoder(str(tmp_path))


def test_the_weights_of_another_family_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "wav2vec2-conformer", "Wav2Vec2ConformerForCTC")
    edit_config(tmp_path, model_type="hubert")
    with pytest.raises(EncoderError, match=r"are none of HubertModel's \(there are lm_head.*model_type"):
        load_encoder(str(tmp_path))
