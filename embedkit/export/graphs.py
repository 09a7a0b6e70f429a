"""Encoders as plain modules for one clip: waveform in, the frames of the kept layers out, all of it torch operators.

The encoders of `embedkit.encoders` are made for batches of unequal clips on a given machine. A clip alone needs no
masks, so transformers' own modules do, with input normalisation or log-mel spectrum put before them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, gelu, pad
from torch.nn.utils import parametrize

from embedkit.encoders.base import Encoder
from embedkit.encoders.checkpoint import load_model, read_config
from embedkit.encoders.conv_transformer import FAMILIES, VARIANCE_FLOOR, norms_first
from embedkit.encoders.layout import read_settings
from embedkit.encoders.vggish import (
    EXAMPLE_FRAMES,
    FFT_SAMPLES,
    HOP_SAMPLES,
    LOG_OFFSET,
    WINDOW_SAMPLES,
    VggishEncoder,
    _mel_filters,
)
from embedkit.encoders.wavlm import position_bias, run_layer
from embedkit.encoders.whisper import LOG_FLOOR, LOG_RANGE, MEL_FRAMES_PER_FRAME
from embedkit.errors import EncoderError
from embedkit.libraries import load_transformers


def build_graph(encoder: Encoder) -> nn.Module:
    """Return an encoder as a module from `[samples]` to `[frames, layers, dimensions]`, in fp32 on the CPU.

    Raises:
        EncoderError: a family whose input cannot be computed inside a graph.
    """
    identity = encoder.identity()
    family = identity["family"]
    if isinstance(encoder, VggishEncoder):
        return VggishGraph(encoder).eval()
    if family in FAMILIES:
        return ConvTransformerGraph(encoder).eval()
    if family == "whisper":
        return WhisperGraph(encoder, identity["window"]).eval()
    raise EncoderError(
        f"The encoder {encoder.name!r} ({family}) cannot be written as ONNX; expected wav2vec 2.0, HuBERT, WavLM or "
        "one of their relatives, Whisper or VGGish: take --format folder."
    )


class ConvTransformerGraph(nn.Module):
    """wav2vec 2.0, HuBERT, WavLM and their relatives."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        config = read_config(encoder.checkpoint)
        model: Any = load_model(encoder.checkpoint, config)
        for module in model.modules():
            if parametrize.is_parametrized(module, "weight"):
                parametrize.remove_parametrizations(module, "weight")
        self.normalised, self.kept = encoder.normalised, encoder.layers
        self.norm_first = norms_first(config)
        self.convolutions = model.feature_extractor
        self.projection = model.feature_projection
        self.positions = model.encoder.pos_conv_embed
        self.norm = model.encoder.layer_norm
        self.depth = config.num_hidden_layers
        self.layers = nn.ModuleList(model.encoder.layers[: self.kept[-1]])
        self.biased = config.model_type == "wavlm"

    def forward(self, waveform: Tensor) -> Tensor:
        """Encode `[samples]`."""
        values = waveform[None]
        if self.normalised:
            values = values - values.mean(-1, keepdim=True)
            values = values / torch.sqrt(values.square().mean(-1, keepdim=True) + VARIANCE_FLOOR)
        projected = self.projection(self.convolutions(values).transpose(1, 2))
        hidden = projected[0] if isinstance(projected, tuple) else projected
        hidden = hidden + self.positions(hidden)
        if not self.norm_first:
            hidden = self.norm(hidden)
        positions = position_bias(self.layers, hidden.shape[1]) if self.biased else None
        states = [hidden]
        for number, layer in enumerate(self.layers, start=1):
            if positions is None:
                hidden = layer(hidden, attention_mask=None)
            else:
                hidden = run_layer(layer, hidden, positions, None, norm_first=self.norm_first)
            states.append(self.norm(hidden) if self.norm_first and number == self.depth else hidden)
        return torch.stack([states[number][0] for number in self.kept], dim=1)


class WhisperGraph(nn.Module):
    """Whisper's encoder with its log-mel spectrum, the clip padded with zeros to the run's window.

    The spectrum is a convolution with the Fourier basis.

    Args:
        encoder: The encoder.
        window: "clip", or the window in seconds.
    """

    basis: Tensor
    filters: Tensor
    table: Tensor

    def __init__(self, encoder: Any, window: str | float) -> None:
        super().__init__()
        config = read_config(encoder.checkpoint)
        model: Any = load_model(encoder.checkpoint, config)
        extractor_class = load_transformers("WhisperFeatureExtractor")
        settings = read_settings(encoder.checkpoint.folder) or {}
        extractor = extractor_class(**{"feature_size": config.num_mel_bins, **settings})
        self.hop: int = extractor.hop_length
        self.margin: int = extractor.n_fft // 2
        self.samples_per_frame = self.hop * MEL_FRAMES_PER_FRAME
        self.window = None if window == "clip" else round(float(window) * encoder.sampling_rate)
        self.kept, self.depth = encoder.layers, config.encoder_layers
        self.register_buffer("basis", fourier_basis(extractor.n_fft, torch.hann_window(extractor.n_fft).double()))
        self.register_buffer("filters", torch.from_numpy(np.asarray(extractor.mel_filters, dtype=np.float32)))
        positions = config.max_source_positions if self.window is None else self.window // self.samples_per_frame
        self.register_buffer("table", model.embed_positions.weight.detach()[:positions].clone())
        self.first, self.second, self.norm = model.conv1, model.conv2, model.layer_norm
        self.layers = nn.ModuleList(model.layers[: self.kept[-1]])

    def forward(self, waveform: Tensor) -> Tensor:
        """Encode `[samples]`."""
        samples = waveform.shape[0]
        own = (samples + self.samples_per_frame - 1) // self.samples_per_frame
        if self.window is None:
            missing = own * self.samples_per_frame - samples
        else:
            # A longer clip has more frames than the table of positions and fails, instead of being cut in silence.
            missing = torch.sym_max(self.window - samples, 0)  # type: ignore[no-untyped-call, unused-ignore]
        spectrum = self._log_mel(pad(waveform, (0, missing)))
        frames = gelu(self.second(gelu(self.first(spectrum)))).transpose(1, 2)
        hidden = frames + self.table[: frames.shape[1]]
        states = [hidden]
        for number, layer in enumerate(self.layers, start=1):
            hidden = layer(hidden, attention_mask=None)
            states.append(self.norm(hidden) if number == self.depth else hidden)
        return torch.stack([states[number][0, :own] for number in self.kept], dim=1)

    def _log_mel(self, silent: Tensor) -> Tensor:
        """Return `[1, mel bands, mel frames]` of a window `[samples]`; its last frame, which begins the next, is left
        out."""
        padded = pad(silent[None, None], (self.margin, self.margin), mode="reflect")
        parts = conv1d(padded, self.basis, stride=self.hop)[0, :, :-1]
        real, imaginary = parts.chunk(2, dim=0)
        power = real.square() + imaginary.square()
        values = (power.T @ self.filters).clamp(min=LOG_FLOOR).log10()
        values = (torch.maximum(values, values.max() - LOG_RANGE) + 4.0) / 4.0
        return values.T[None]


class VggishGraph(nn.Module):
    """VGGish with its log-mel examples."""

    basis: Tensor
    filters: Tensor

    def __init__(self, encoder: VggishEncoder) -> None:
        super().__init__()
        self.network = encoder.network
        window = torch.hann_window(WINDOW_SAMPLES, periodic=True, dtype=torch.float64)
        self.register_buffer("basis", fourier_basis(FFT_SAMPLES, window))
        self.register_buffer("filters", _mel_filters().float())

    def forward(self, waveform: Tensor) -> Tensor:
        """Encode `[samples]`, at least one example."""
        examples = (1 + (waveform.shape[0] - WINDOW_SAMPLES) // HOP_SAMPLES) // EXAMPLE_FRAMES
        needed = examples * EXAMPLE_FRAMES * HOP_SAMPLES + WINDOW_SAMPLES - HOP_SAMPLES
        real, imaginary = conv1d(waveform[None, None, :needed], self.basis, stride=HOP_SAMPLES)[0].chunk(2, dim=0)
        magnitudes = (real.square() + imaginary.square()).sqrt()
        log_mel = torch.log(magnitudes.T @ self.filters + LOG_OFFSET)
        bands = self.filters.shape[1]
        embedded: Tensor = self.network(log_mel.reshape(-1, EXAMPLE_FRAMES, bands))
        return embedded[:, None]


def fourier_basis(size: int, window: Tensor) -> Tensor:
    """Return a windowed Fourier basis as convolution kernels: cosines, then sines, `[2 * (size // 2 + 1), 1, window]`.

    Args:
        size: Samples of the transform; those beyond the window are zero.
        window: float64 `[samples]`.
    """
    angles = 2 * math.pi / size * torch.arange(size // 2 + 1)[:, None].double() * torch.arange(len(window))
    return (torch.cat([angles.cos(), angles.sin()]) * window)[:, None].float()
