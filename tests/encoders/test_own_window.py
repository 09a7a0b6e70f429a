"""Encoders with a window of their own: a clip's own frames whatever shares its batch, long clips in windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import transformers
from transformers.masking_utils import create_bidirectional_mask

from embedkit.corpora.base import Corpus, Utterance
from embedkit.encoders import load_encoder
from embedkit.errors import EncoderError
from embedkit.extraction.run import run_extraction
from embedkit.extraction.windows import Windows
from embedkit.store import open_store
from tests.encoders.checkpoints import bare_extractor, bare_model, collect, relative_error, speechlike, write_pair
from tests.extraction.fakes import request_for

SHAPE: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
QWEN: dict[str, Any] = {"d_model": 32, "encoder_ffn_dim": 48, "encoder_layers": 2, "encoder_attention_heads": 2}
SECONDS = 2
POSITIONS = {"max_source_positions": 50 * SECONDS, "num_mel_bins": 16}
WHISPERS = {
    "Voxtral": {**SHAPE, **POSITIONS},
    "GlmAsr": {**SHAPE, "num_mel_bins": 16, "max_position_embeddings": 50 * SECONDS},
    "AudioFlamingo3": {**SHAPE, **POSITIONS},
    "Qwen2Audio": {**QWEN, **POSITIONS},
}
LENGTHS = (1, 4_000, 16_001, 32_000)


def write_whisper_like(folder: Path, name: str, **extractor: Any) -> Path:
    config = getattr(transformers, f"{name}EncoderConfig")(**WHISPERS[name])
    model = getattr(transformers, f"{name}Encoder")(config)
    settings = {"feature_size": 16, "chunk_length": SECONDS, **extractor}
    return write_pair(folder, model, transformers.WhisperFeatureExtractor(**settings))


def write_ast(folder: Path, **settings: Any) -> Path:
    patches = {"max_length": 128, "num_mel_bins": 32}
    strides = {"frequency_stride": 16, "time_stride": 16, **settings}
    model = transformers.ASTModel(transformers.ASTConfig(**SHAPE, **patches, **strides))
    return write_pair(folder, model, transformers.ASTFeatureExtractor(**patches))


def published_states(folder: Path, clip: torch.Tensor) -> list[torch.Tensor]:
    """Run the model as transformers' own models for audio and text do, up to the frames that are halved."""
    model, extractor = bare_model(folder), bare_extractor(folder)
    inputs = extractor(clip.numpy(), sampling_rate=16_000, return_tensors="pt", return_attention_mask=True)
    mask = inputs.pop("attention_mask")
    if "Flamingo" in type(model).__name__:
        inputs["input_features_mask"] = mask
    if "Qwen" in type(model).__name__:
        vectors = mask.shape[1] // 2
        heard = (torch.arange(vectors) <= (mask.sum() - 1) // 2).long()[None]
        inputs["attention_mask"] = create_bidirectional_mask(
            config=model.config, inputs_embeds=torch.zeros(1, vectors, 1), attention_mask=heard
        )
    outputs: list[torch.Tensor] = []
    last = model.layers[-1].register_forward_hook(lambda _, __, output: outputs.append(output))
    with torch.inference_mode():
        hidden = model(**inputs, output_hidden_states=True).hidden_states
        [values] = outputs
        norm = getattr(model, "layer_norm", None) or model.norm
        last.remove()
        return [state[0] for state in (*hidden[:-1], norm(values[0] if isinstance(values, tuple) else values))]


@pytest.mark.parametrize("name", WHISPERS)
def test_own_frames_are_those_of_the_published_model_whatever_the_batch(name: str, tmp_path: Path) -> None:
    folder = write_whisper_like(tmp_path, name)
    encoder = load_encoder(str(folder))
    assert not encoder.equal_lengths
    assert (encoder.frame_rate, encoder.largest_input, encoder.smallest_input) == (50.0, 32_000, 1)
    clips = [speechlike(samples, seed) for seed, samples in enumerate(LENGTHS)]
    for clip, layers in zip(clips, collect(encoder, clips), strict=True):
        for values, reference in zip(layers, published_states(folder, clip), strict=True):
            assert len(values) == encoder.frame_count(len(clip)) == -(-len(clip) // 320)
            assert relative_error(values, reference[: len(values)]) <= 1e-5


@pytest.mark.parametrize("time_stride", [3, 10, 16])
def test_frames_of_ast_are_columns_of_patches_that_touch_the_clip(time_stride: int, tmp_path: Path) -> None:
    folder = write_ast(tmp_path, time_stride=time_stride)
    encoder = load_encoder(str(folder))
    columns = (128 - 16) // time_stride + 1
    assert (encoder.frame_rate, encoder.smallest_input) == (100 / time_stride, 400)
    assert encoder.largest_input is not None
    clips = [speechlike(samples, seed) for seed, samples in enumerate((400, 7_000, 16_001, encoder.largest_input))]
    for clip, layers in zip(clips, collect(encoder, clips), strict=True):
        mel_frames = (len(clip) - 400) // 160 + 1
        own = [place for place in range(columns) if place * time_stride < mel_frames]
        inputs = bare_extractor(folder)(clip.numpy(), sampling_rate=16_000, return_tensors="pt")
        with torch.inference_mode():
            output = bare_model(folder)(**inputs, output_hidden_states=True)
        states = [*output.hidden_states[:-1], output.last_hidden_state]
        assert len(layers) == len(states) == 3
        for values, state in zip(layers, states, strict=True):
            # Two vectors that stand for the whole clip, then two bands of patches.
            bands = [state[0, 2 + columns * band : 2 + columns * (band + 1)] for band in range(2)]
            expected = torch.stack([(bands[0][place] + bands[1][place]) / 2 for place in own])
            assert relative_error(values, expected) <= 1e-5


def test_all_of_the_window_of_ast_is_heard_and_no_more_is_taken(tmp_path: Path) -> None:
    encoder = load_encoder(str(write_ast(tmp_path, time_stride=10)))
    longest = encoder.largest_input
    assert longest is not None
    clip = speechlike(longest, 0)
    changed = clip.clone()
    changed[-160:] = 0
    [one], [other] = collect(encoder, [clip]), collect(encoder, [changed])
    assert not torch.equal(one[0], other[0])
    with pytest.raises(EncoderError, match="too long"):
        collect(encoder, [speechlike(longest + 1, 0)])


@pytest.mark.parametrize("kind", ["ast", "Voxtral"])
def test_what_follows_the_window_is_heard_in_further_windows(kind: str, tmp_path: Path) -> None:
    folder = write_ast(tmp_path / "enc") if kind == "ast" else write_whisper_like(tmp_path / "enc", kind)
    encoder = load_encoder(str(folder))
    assert encoder.largest_input is not None
    whole = 0.5 * speechlike(3 * encoder.largest_input + 777, 0).numpy()
    other = whole.copy()
    other[-8_000:] = speechlike(8_000, 1)
    for name, samples in (("one", whole), ("other", other)):
        soundfile.write(tmp_path / f"{name}.wav", samples, 16_000, subtype="FLOAT")
    utterances = tuple(Utterance(id=name, path=f"{name}.wav", label="a") for name in ("one", "other"))
    corpus = Corpus(name="c", kind="manifest", root=tmp_path, utterances=utterances)
    windows = Windows.for_encoder(encoder, None)
    assert windows is not None
    options: dict[str, Any] = {"windows": windows, "levels": ("utterance", "frame"), "frame_dtype": "float32"}
    run_extraction(request_for(corpus, tmp_path / "s.h5", encoder, **options))
    [first] = collect(encoder, [torch.from_numpy(whole[: windows.samples])])
    untouched = (len(whole) - 8_000 - windows.samples) // windows.hop
    with open_store(tmp_path / "s.h5") as store:
        one, changed = store.frames(0), store.frames(1)
        frames = encoder.frame_rate * len(whole) / 16_000
        assert len(one) == len(changed) in (int(frames), int(frames) + 1)
        np.testing.assert_array_equal(one[:untouched], changed[:untouched])
        assert np.abs(one[-1] - changed[-1]).max() > 1e-3
        kept = (windows.samples - windows.overlap // 2) // windows.hop
        np.testing.assert_allclose(one[:kept, 2], first[2][:kept], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(store.mean(2)[0], one[:, 2].mean(0), rtol=1e-4, atol=1e-5)


def test_a_window_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    folder = write_whisper_like(tmp_path, "GlmAsr", hop_length=150, chunk_length=1)
    with pytest.raises(EncoderError, match="53 vectors for every clip"):
        load_encoder(str(folder))


def test_too_few_frames_for_windows_leave_short_clips_alone(tmp_path: Path) -> None:
    encoder = load_encoder(str(write_ast(tmp_path, time_stride=40)))
    assert Windows.for_encoder(encoder, None) is None
    assert encoder.frame_count(16_000) == 3
