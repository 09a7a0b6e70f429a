"""Encoders of families that are not known by name: equal lengths, every layer as transformers gives it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from embedkit.encoders import load_encoder
from embedkit.encoders.generic import find_frame_count
from embedkit.errors import EncoderError
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


def write_family(folder: Path, family: str) -> Path:
    if family == "sew":
        config = transformers.SEWConfig(**SHAPE, conv_dim=(32,) * 13)
        return write_pair(folder, transformers.SEWModel(config), transformers.Wav2Vec2FeatureExtractor())
    if family == "wav2vec2-bert":
        config = transformers.Wav2Vec2BertConfig(**SHAPE, feature_projection_input_dim=160)
        return write_pair(folder, transformers.Wav2Vec2BertModel(config), transformers.SeamlessM4TFeatureExtractor())
    config = transformers.Wav2Vec2ConformerConfig(**SHAPE, conv_dim=(32,) * 7)
    return write_pair(folder, transformers.Wav2Vec2ConformerModel(config), transformers.Wav2Vec2FeatureExtractor())


@pytest.mark.parametrize(("family", "rate"), [("sew", 25.0), ("wav2vec2-bert", 50.0), ("wav2vec2-conformer", 50.0)])
def test_batched_equals_alone(family: str, rate: float, tmp_path: Path) -> None:
    folder = write_family(tmp_path, family)
    encoder = load_encoder(str(folder))
    assert encoder.equal_lengths
    assert (encoder.layers, encoder.dimensions, encoder.frame_rate) == ((0, 1, 2), 64, rate)
    for samples in (encoder.smallest_input, 7_777):
        clips = [speechlike(samples, seed) for seed in range(3)]
        for clip, layers in zip(clips, collect(encoder, clips), strict=True):
            inputs = bare_extractor(folder)(clip.numpy(), sampling_rate=16_000, return_tensors="pt")
            with torch.inference_mode():
                alone = bare_model(folder)(**inputs, output_hidden_states=True).hidden_states
            for values, reference in zip(layers, alone, strict=True):
                frames = encoder.frame_count(samples)
                assert len(values) == frames
                assert relative_error(values, reference[0, :frames]) <= 1e-5


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
