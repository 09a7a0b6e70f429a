"""What some feature extractors of transformers give for one clip after another on a CPU, for all clips on a device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from embedkit.devices import place_of_float64, takes_clips_alone, to_float64
from embedkit.encoders.conv_transformer import normalise_batch
from embedkit.encoders.device_copies import clips_on
from embedkit.encoders.exact import centre, padding_mask, silence
from embedkit.encoders.whisper import LogMel

WINDOW_SAMPLES, HOP_SAMPLES, FFT_SAMPLES = 400, 160, 512
PREEMPHASIS = 0.97
FLOOR = float(np.finfo(np.float32).eps)
"""Kaldi's, of what a logarithm is taken of."""


class Features(NamedTuple):
    """The features of a batch, and how many there are of each clip: with the extractor's padding, and its own."""

    values: Tensor
    lengths: list[int]
    own: list[int]


BatchedExtractor = Callable[[Sequence[Tensor]], Features]


def find_batched(extractor: Any, device: torch.device) -> BatchedExtractor | None:
    """Return what gives the features of clips `[samples]` on a device; None on a CPU, and for others' extractors."""
    made = None if takes_clips_alone(device) else _KINDS.get(type(extractor).__name__)
    return None if made is None else made(extractor, device)


class _Waves:
    """The waveform itself, perhaps normalised: `[clips, samples]`."""

    def __init__(self, extractor: Any, device: torch.device) -> None:
        self.normalised: bool = extractor.do_normalize
        self.device = device

    def __call__(self, clips: Sequence[Tensor]) -> Features:
        lengths = [len(clip) for clip in clips]
        batch = clips_on(clips, self.device)
        return Features(normalise_batch(batch, lengths) if self.normalised else batch, lengths, lengths)


class _WhisperMel:
    """Whisper's log-mel spectrogram of a window, `[clips, bands, mel frames]`."""

    def __init__(self, extractor: Any, device: torch.device) -> None:
        self.window: int = extractor.n_samples
        self.log_mel = LogMel(extractor, device)

    def __call__(self, clips: Sequence[Tensor]) -> Features:
        frames = self.window // self.log_mel.hop
        values = self.log_mel(clips, [self.window] * len(clips))
        own = [min(frames, -(-len(clip) // self.log_mel.hop)) for clip in clips]
        return Features(values, [frames] * len(clips), own)


class _KaldiMel:
    """Kaldi's log-mel spectrogram: frames without their mean, pre-emphasised, only where they are whole."""

    def __init__(self, window: Tensor, filters: Tensor, scale: float, device: torch.device) -> None:
        self.window, self.filters, self.scale, self.device = window, filters, scale, device

    def __call__(self, clips: Sequence[Tensor]) -> tuple[Tensor, list[int]]:
        """Return `[clips, mel frames, bands]`, and the mel frames of each clip."""
        frames = to_float64(clips_on(clips, self.device)).unfold(-1, WINDOW_SAMPLES, HOP_SAMPLES) * self.scale
        frames = frames - frames.mean(-1, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
        # Rounded where transformers rounds: where bands hardly change over time, that is what their norm shows.
        spectrum = torch.fft.rfft((frames - PREEMPHASIS * before) * self.window, n=FFT_SAMPLES).to(torch.complex64)
        power = spectrum.real.double().square() + spectrum.imag.double().square()
        values = (power @ self.filters).clamp_(min=FLOOR).log_().float()
        return values, [(len(clip) - WINDOW_SAMPLES) // HOP_SAMPLES + 1 for clip in clips]


class _SeamlessMel:
    """SeamlessM4T's: each band of a clip has zero mean and unit variance, and some mel frames make a vector."""

    def __init__(self, extractor: Any, device: torch.device) -> None:
        window, filters = (_exact(torch.from_numpy(part), device) for part in (extractor.window, extractor.mel_filters))
        self.mel = _KaldiMel(window, filters, 2.0**15, device)
        self.stride: int = extractor.stride

    def __call__(self, clips: Sequence[Tensor]) -> Features:
        values, frames = self.mel(clips)
        _, centred, count = centre(values, frames)
        variance = centred.square().sum(1, keepdim=True) / (count - 1)
        normed = (centred / torch.sqrt(variance + 1e-7)).float().to(self.mel.device)
        lengths = [-(-count // self.stride) for count in frames]
        whole = pad(normed, (0, 0, 0, max(lengths) * self.stride - normed.shape[1]))
        return Features(
            whole.view(len(whole), -1, self.stride * whole.shape[2]), lengths, [n // self.stride for n in frames]
        )


class _AstMel:
    """AST's: mel frames up to a fixed number, what is missing zero, by a mean and deviation of its training set."""

    def __init__(self, extractor: Any, device: torch.device) -> None:
        from torchaudio.compliance.kaldi import get_mel_banks

        rate = float(extractor.sampling_rate)
        filters, _ = get_mel_banks(extractor.num_mel_bins, FFT_SAMPLES, rate, 20.0, 0.0, 100.0, -500.0, 1.0)
        window = torch.hann_window(WINDOW_SAMPLES, periodic=False)
        window, filters = (_exact(part, device) for part in (window, pad(filters, (0, 1)).T))
        self.mel = _KaldiMel(window, filters, 1.0, device)
        self.frames: int = extractor.max_length
        self.shift: float = extractor.mean if extractor.do_normalize else 0.0
        self.scale: float = 2 * extractor.std if extractor.do_normalize else 1.0

    def __call__(self, clips: Sequence[Tensor]) -> Features:
        values, frames = self.mel(clips)
        most = min(self.frames, values.shape[1])
        padding = padding_mask(frames, values.shape[1], values.device)
        heard = pad(silence(values, padding)[:, :most], (0, 0, 0, self.frames - most))
        lengths = [self.frames] * len(clips)
        return Features(((heard - self.shift) / self.scale).to(self.mel.device), lengths, lengths)


def _exact(values: Tensor, device: torch.device) -> Tensor:
    return values.double().to(place_of_float64(device))


_KINDS: dict[str, Callable[[Any, torch.device], BatchedExtractor]] = {
    "Wav2Vec2FeatureExtractor": _Waves,
    "WhisperFeatureExtractor": _WhisperMel,
    "SeamlessM4TFeatureExtractor": _SeamlessMel,
    "ASTFeatureExtractor": _AstMel,
}
