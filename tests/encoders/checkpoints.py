"""Tiny random checkpoints, written by transformers itself in the real format."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.models.whisper.modeling_whisper import WhisperEncoder

SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "conv_dim": (32,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": 12,
    "layerdrop": 0.5,
}
LARGE: dict[str, Any] = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}

CONV_FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "wav2vec2": ("Wav2Vec2", {}),
    "wav2vec2-large": ("Wav2Vec2", LARGE),
    "wav2vec2-layer-norm": ("Wav2Vec2", {"feat_extract_norm": "layer"}),
    "hubert": ("Hubert", {}),
    "hubert-large": ("Hubert", LARGE),
    "hubert-batch-norm": ("Hubert", {"conv_pos_batch_norm": True}),
    "hubert-odd-kernel": ("Hubert", {"num_conv_pos_embeddings": 15, "feat_proj_layer_norm": False}),
    "wavlm": ("WavLM", {}),
    "wavlm-large": ("WavLM", LARGE),
    "unispeech": ("UniSpeech", {}),
    "unispeech-sat": ("UniSpeechSat", {}),
    "data2vec-audio": ("Data2VecAudio", {"num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 9}),
    "data2vec-audio-large": ("Data2VecAudio", LARGE | {"num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 9}),
}

WHISPER: dict[str, Any] = {
    "d_model": 64,
    "encoder_layers": 3,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 96,
    "decoder_ffn_dim": 96,
    "vocab_size": 20,
    "max_source_positions": 150,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "decoder_start_token_id": 1,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
}


def randomise(model: torch.nn.Module, seed: int = 0) -> None:
    """Draw every parameter and buffer anew: norms and biases too, which transformers sets to one and zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            if tensor.ndim <= 1:
                scale = "norm" in name and not name.endswith(("bias", "mean"))
                tensor.copy_(1.0 + 0.2 * noise.abs() if scale else 0.1 * noise)
            elif "original0" not in name:
                tensor.copy_(noise / tensor[0].numel() ** 0.5)


def write_pair(folder: Path, model: Any, extractor: Any) -> Path:
    """Write a randomised model and a feature extractor."""
    randomise(model)
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder


def write_conv_checkpoint(folder: Path, family: str, **overrides: Any) -> Path:
    """Write a checkpoint of one of `CONV_FAMILIES`, and its preprocessor_config.json."""
    prefix, special = CONV_FAMILIES[family]
    config = getattr(transformers, f"{prefix}Config")(**SHAPE | special | overrides)
    return write_checkpoint(folder, getattr(transformers, f"{prefix}Model")(config))


def write_checkpoint(folder: Path, model: Any, *, do_normalize: bool = True) -> Path:
    """Write a randomised model and the feature extractor of wav2vec 2.0."""
    return write_pair(folder, model, transformers.Wav2Vec2FeatureExtractor(do_normalize=do_normalize))


def write_whisper_checkpoint(
    folder: Path, kind: str = "full", *, dtype: torch.dtype = torch.float32, **overrides: Any
) -> Path:
    """Write a Whisper checkpoint: "full" (with a language model head), "model", or "bare" (the encoder alone)."""
    config = transformers.WhisperConfig(**WHISPER | overrides)
    full = transformers.WhisperForConditionalGeneration(config)
    randomise(full)
    model: Any = {"full": full, "model": full.model, "bare": full.model.encoder}[kind]
    model.to(dtype).save_pretrained(folder)
    transformers.WhisperFeatureExtractor(feature_size=config.num_mel_bins).save_pretrained(folder)
    return folder


def edit_config(folder: Path, **values: Any) -> None:
    """Change keys of config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def pooled(states: torch.Tensor) -> torch.Tensor:
    """Return mean and standard deviation over the frames of `[frames, dimensions]`, side by side."""
    return torch.cat([states.mean(0), states.std(0, correction=0)])


def relative_error(values: torch.Tensor, reference: torch.Tensor) -> float:
    """Return the norm of the difference over the norm of the reference."""
    return float((values - reference).norm() / reference.norm())


def collect(encoder: Any, waveforms: list[torch.Tensor]) -> list[list[torch.Tensor]]:
    """Encode one batch; return the layers `[frames, dimensions]` of every clip."""
    clips: list[list[torch.Tensor]] = [[] for _ in waveforms]

    def sink(position: int, values: torch.Tensor, lengths: torch.Tensor) -> None:
        for clip, row, length in zip(clips, values, lengths.tolist(), strict=True):
            assert position == len(clip)
            clip.append(row[:length].clone())

    encoder.encode(waveforms, sink)
    return clips


def speechlike(samples: int, seed: int) -> torch.Tensor:
    """Return noise with a slow envelope and an offset, `[samples]`."""
    generator = torch.Generator().manual_seed(seed)
    envelope = 0.2 + torch.sin(torch.arange(samples) / 900.0 + seed).abs()
    return 0.3 * envelope * torch.randn(samples, generator=generator) + 0.02


@cache
def bare_model(folder: Path) -> Any:
    """Load a checkpoint as everybody does."""
    return transformers.AutoModel.from_pretrained(folder).eval()


@cache
def bare_extractor(folder: Path) -> Any:
    """Load a feature extractor as everybody does."""
    return transformers.AutoFeatureExtractor.from_pretrained(folder)


def bare_states(folder: Path, waveform: torch.Tensor) -> list[torch.Tensor]:
    """Feed one clip alone to the bare transformers model; return every layer `[frames, dimensions]`.

    The last one is `last_hidden_state`, which in some families has passed one more norm than `hidden_states[-1]`.
    """
    inputs = bare_extractor(folder)(waveform.numpy(), sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        output = bare_model(folder)(**inputs, output_hidden_states=True)
    return [state[0] for state in (*output.hidden_states[:-1], output.last_hidden_state)]


@cache
def bare_whisper_encoder(folder: Path) -> tuple[Any, torch.Tensor]:
    """Load the encoder of a Whisper checkpoint in fp32, and its whole position table."""
    bare = transformers.AutoConfig.from_pretrained(folder).architectures == ["WhisperEncoder"]
    model = (WhisperEncoder if bare else transformers.WhisperModel).from_pretrained(folder, dtype=torch.float32)
    encoder = (model if bare else model.encoder).eval()
    return encoder, encoder.embed_positions.weight.detach().clone()


def bare_whisper_states(folder: Path, waveform: torch.Tensor, frames: int) -> list[torch.Tensor]:
    """Feed one clip alone to the bare encoder, its position table cut to a window of so many frames."""
    encoder, positions = bare_whisper_encoder(folder)
    encoder.config.max_source_positions = frames
    encoder.embed_positions = torch.nn.Embedding.from_pretrained(positions[:frames])
    features = bare_extractor(folder)(
        waveform.numpy(), sampling_rate=16_000, return_tensors="pt", max_length=320 * frames
    ).input_features
    with torch.inference_mode():
        output = encoder(features, output_hidden_states=True)
    return [state[0] for state in (*output.hidden_states[:-1], output.last_hidden_state)]
