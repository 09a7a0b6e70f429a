"""Whisper's encoder on windows of any length (Radford et al., "Robust speech recognition", ICML 2023)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, pad

from embedkit.encoders.base import LayerSink, select_layers
from embedkit.encoders.checkpoint import load_model
from embedkit.encoders.device_copies import clips_on, lengths_on
from embedkit.encoders.exact import attention_bias, padding_mask
from embedkit.encoders.kernels import pack_linears
from embedkit.encoders.pretrained import EncoderRequest, PretrainedEncoder
from embedkit.errors import EncoderError
from embedkit.libraries import load_transformers

MEL_FRAMES_PER_FRAME = 2
LOG_FLOOR = 1e-10
LOG_RANGE = 8.0


class WhisperEncoder(PretrainedEncoder):
    """The encoder, its position table cut to the window; only an utterance's own frames are handed over.

    The published model pads every clip to 30 s (`window=30`). With `window="clip"` the window is the clip itself,
    padded with zeros to a whole number of frames (320 samples, two mel frames). A window in seconds is rounded up
    to whole frames as well. Layer 0 is the input of the first transformer layer; only the last layer has passed the
    final norm.
    """

    reentrant = True

    def __init__(self, request: EncoderRequest) -> None:
        config = request.config
        model: Any = load_model(request.checkpoint, config)
        super().__init__(request, model)
        self.layers = select_layers(request.layers, config.encoder_layers)
        self.dimensions = config.d_model
        self._depth: int = config.encoder_layers

        settings = {"feature_size": config.num_mel_bins, **request.preprocessor}
        self._log_mel = LogMel(load_transformers("WhisperFeatureExtractor")(**settings), self.device)
        self._hop = self._log_mel.hop * MEL_FRAMES_PER_FRAME
        self.frame_rate = self.sampling_rate / self._hop
        self.smallest_input = self._hop * math.ceil((self._log_mel.fft_samples // 2 + 1) / self._hop)
        self._window = self._window_samples(request.window, config.max_source_positions)
        self.largest_input = self._window or config.max_source_positions * self._hop

        model.to(self.device, self.dtype)
        self._convolutions = (model.conv1, model.conv2)
        self._positions: Tensor = model.embed_positions.weight
        self._norm = model.layer_norm
        self._transformer = nn.ModuleList(model.layers[: self.layers[-1]])
        packed = self.device.type == "cpu" and not request.trainable
        self.linear_kernel = pack_linears(self._transformer) if packed else "torch"

    def identity(self) -> dict[str, Any]:
        """Return everything that determines the numbers."""
        window = "clip" if self._window is None else self._window / self.sampling_rate
        return super().identity() | {
            "normalisation": "log-mel, at most 8 below the window's maximum",
            "window": window,
            "linear_kernel": self.linear_kernel,
        }

    def frame_count(self, samples: int) -> int:
        """Return ceil(samples / 320): the utterance's own frames, whatever the window."""
        return math.ceil(max(samples, self.smallest_input) / self._hop)

    def _window_samples(self, window: str | float, positions: int) -> int | None:
        if window == "clip":
            return None
        limit = positions * self._hop / self.sampling_rate
        try:
            seconds = float(window)
        except ValueError:
            seconds = math.nan
        frames = math.ceil(round(seconds * self.frame_rate, 6)) if seconds > 0 and math.isfinite(seconds) else 0
        if not self.smallest_input <= frames * self._hop <= positions * self._hop:
            raise EncoderError(
                f"The window {window!r} of {self.name!r} cannot be used; expected 'clip' or seconds "
                f"from {self.smallest_input / self.sampling_rate:g} to {limit:g}."
            )
        return frames * self._hop

    def _run(self, clips: list[Tensor], sink: LayerSink) -> None:
        lengths = self._own_lengths(clips)
        windows = lengths if self._window is None else [self._window // self._hop] * len(clips)
        own = torch.tensor(lengths)
        hidden = self._embed(clips, windows)
        keys = attention_bias(padding_mask(windows, hidden.shape[1], self.device), self.dtype)
        kept = {layer: position for position, layer in enumerate(self.layers)}
        if 0 in kept:
            sink(0, _own_frames(hidden, lengths), own)
        for number, layer in enumerate(self._transformer, start=1):
            hidden = self._through(layer, hidden, keys, trained=layer.training)
            if number in kept:
                normed = self._norm(hidden) if number == self._depth else hidden
                sink(kept[number], _own_frames(normed, lengths), own)

    def _own_lengths(self, clips: Sequence[Tensor]) -> list[int]:
        """Return how many frames of each clip are handed over."""
        return [math.ceil(len(clip) / self._hop) for clip in clips]

    def _embed(self, clips: Sequence[Tensor], windows: Sequence[int]) -> Tensor:
        """Return the input of the first layer, `[batch, frames, channels]`.

        A window holds an even number of mel frames, and the second convolution (stride 2, width 3) ends each window
        on its last mel frame: it never reads beyond, so that only the mel frames need to be zero there.
        """
        with torch.autocast(self.device.type, enabled=False):
            values = self._log_mel(clips, [size * self._hop for size in windows]).to(self.dtype)
        if self.masking is not None and self._learning:
            bands = values.transpose(1, 2)
            values = self.masking(bands, [MEL_FRAMES_PER_FRAME * size for size in windows]).transpose(1, 2)
        for convolution in self._convolutions:
            values = gelu(convolution(values))
        frames = values.transpose(1, 2).contiguous()
        return frames + self._positions[: frames.shape[1]]


class LogMel:
    """Whisper's log-mel spectrogram of every clip in its own window, as if it were alone.

    Args:
        extractor: transformers' feature extractor, for its sizes and mel filters.
        device: Where to compute; always in fp32.
    """

    def __init__(self, extractor: Any, device: torch.device) -> None:
        self.fft_samples: int = extractor.n_fft
        self.hop: int = extractor.hop_length
        self._hann = torch.hann_window(self.fft_samples, device=device)
        self._filters = torch.from_numpy(np.asarray(extractor.mel_filters, dtype=np.float32)).to(device)

    def __call__(self, clips: Sequence[Tensor], windows: Sequence[int]) -> Tensor:
        """Return `[batch, mel bands, mel frames]`, zero beyond each window.

        Args:
            clips: `[samples]` each, on the CPU.
            windows: Samples that each clip is padded to with zeros; multiples of the hop.
        """
        longest, device = max(windows), self._hann.device
        ends = lengths_on(windows, device)[:, None]
        batch = clips_on(clips, device)
        frames = self._mirrored(pad(batch, (0, longest - batch.shape[1])), ends)
        frames = frames.unfold(-1, self.fft_samples, self.hop)[:, : longest // self.hop]
        spectrum = torch.fft.rfft(frames * self._hann)
        power = spectrum.real.square() + spectrum.imag.square()
        values: Tensor = (power @ self._filters).clamp_(min=LOG_FLOOR).log10_()
        beyond = (torch.arange(values.shape[1], device=device) >= ends // self.hop)[..., None]
        highest = values.masked_fill(beyond, -math.inf).amax((1, 2), keepdim=True)
        scaled = (torch.maximum(values, highest - LOG_RANGE) + 4.0) / 4.0
        return scaled.masked_fill_(beyond, 0.0).transpose(1, 2)

    def _mirrored(self, batch: Tensor, ends: Tensor) -> Tensor:
        """Mirror half a spectrum's samples around both ends of windows, `[clips, samples]` each `[clips, 1]` long."""
        margin = self.fft_samples // 2
        place = torch.arange(-margin, batch.shape[1] + margin, device=batch.device).abs()
        # What follows the second mirror is not heard.
        index = torch.minimum(place, 2 * (ends - 1) - place).clamp_(min=0)
        return batch.gather(1, index)


def _own_frames(values: Tensor, lengths: Sequence[int]) -> Tensor:
    return values[:, : max(lengths)].float()
