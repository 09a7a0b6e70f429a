"""Acoustic features of the study's classical systems: MFCC with deltas, and log-mel bands (both by librosa)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import version
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from embedkit.encoders.base import Encoder, LayerSink

FloatArray: TypeAlias = NDArray[np.float32]

SAMPLING_RATE = 16_000
HOP_SAMPLES = 320
WINDOW_SAMPLES = 400
FFT_SAMPLES = 512
DELTA_FRAMES = 9


class AcousticEncoder(Encoder):
    """Features computed clip by clip from 25 ms Hann windows every 20 ms.

    Frame i is centred on sample 320 i, the ends padded with zeros (librosa's `center=True`), so that a clip has
    1 + samples // 320 frames. A clip shorter than one FFT (512 samples) is padded with zeros to that.
    """

    sampling_rate = SAMPLING_RATE
    frame_rate = SAMPLING_RATE / HOP_SAMPLES
    layers = (0,)
    smallest_input = FFT_SAMPLES
    default_levels = ("utterance", "frame")
    default_frame_dtype = "float32"
    bands: int

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def features(self, waveform: FloatArray) -> FloatArray:
        """Return the features `[dimensions, frames]` of one clip `[samples]` of at least `smallest_input` samples."""

    def identity(self) -> dict[str, Any]:
        """Return everything that determines the numbers."""
        return {
            "name": self.name,
            "family": "acoustic",
            "source": "librosa",
            "revision": None,
            "weights_digest": None,
            "layers": list(self.layers),
            "sampling_rate": self.sampling_rate,
            "frame_rate": self.frame_rate,
            "dimensions": self.dimensions,
            "normalisation": "none",
            "window": {
                "type": "hann",
                "samples": WINDOW_SAMPLES,
                "hop_samples": HOP_SAMPLES,
                "fft_samples": FFT_SAMPLES,
                "centred": True,
            },
            "mel": {"bands": self.bands, "scale": "slaney", "scaling": "decibels, at most 80 below the clip's maximum"},
            "precision": "fp32",
            "versions": {"librosa": version("librosa")},
        }

    def frame_count(self, samples: int) -> int:
        """Return 1 + samples // 320, after padding to `smallest_input`."""
        return 1 + max(samples, self.smallest_input) // HOP_SAMPLES

    def encode(self, waveforms: Sequence[Tensor], sink: LayerSink) -> None:
        """Compute the features of each clip `[samples]`, handed over as one layer `[batch, frames, dimensions]`."""
        clips = [self._encode_clip(waveform) for waveform in waveforms]
        lengths = torch.tensor([len(clip) for clip in clips])
        sink(0, pad_sequence(clips, batch_first=True), lengths)

    def _encode_clip(self, waveform: Tensor) -> Tensor:
        missing = max(0, self.smallest_input - len(waveform))
        # Absurdly loud samples overflow; whoever stores the values looks whether they are finite.
        with np.errstate(over="ignore", invalid="ignore"):
            values = self.features(pad(waveform, (0, missing)).numpy())
        return torch.from_numpy(np.ascontiguousarray(values.T, dtype=np.float32))


class LogMelEncoder(AcousticEncoder):
    """64 log-mel bands in decibels, every 20 ms.

    The hop is that of the MFCC and of the transformers: half the storage and training time of 10 ms.
    """

    bands = 64
    dimensions = 64
    default_head = "cnn"

    def features(self, waveform: FloatArray) -> FloatArray:
        """Return `[64, frames]`: `librosa.power_to_db(librosa.feature.melspectrogram(...))`."""
        return log_mel_bands(waveform, self.bands)


class MfccEncoder(AcousticEncoder):
    """13 MFCC (of 40 mel bands) with deltas and delta-deltas, every 20 ms, as the study's LSTM read.

    Deltas are local quadratic fits over 9 frames (librosa's default); a clip shorter than that is continued with
    its first and last frame (`mode="nearest"`), which librosa's own treatment of the ends cannot do.
    """

    bands = 40
    coefficients = 13
    dimensions = 39
    default_head = "lstm"

    def identity(self) -> dict[str, Any]:
        """Return everything that determines the numbers."""
        deltas = {"orders": [1, 2], "frames": DELTA_FRAMES, "ends": "interp", "ends_of_shorter_clips": "nearest"}
        return {**super().identity(), "coefficients": self.coefficients, "deltas": deltas}

    def features(self, waveform: FloatArray) -> FloatArray:
        """Return `[39, frames]`: `librosa.feature.mfcc`, then its deltas, then its delta-deltas."""
        import librosa

        mfcc: FloatArray = librosa.feature.mfcc(S=log_mel_bands(waveform, self.bands), n_mfcc=self.coefficients)
        if not np.isfinite(mfcc).all():
            return np.full((self.dimensions, mfcc.shape[1]), np.nan, np.float32)
        ends = "interp" if mfcc.shape[1] >= DELTA_FRAMES else "nearest"
        deltas = [librosa.feature.delta(mfcc, width=DELTA_FRAMES, order=order, mode=ends) for order in (1, 2)]
        return np.concatenate([mfcc, *deltas])


def log_mel_bands(waveform: FloatArray, bands: int) -> FloatArray:
    """Return the mel bands of one clip in decibels.

    Shape:
        Input: `[samples]`, output: `[bands, 1 + samples // 320]`.
    """
    import librosa

    spectrum = librosa.stft(waveform, n_fft=FFT_SAMPLES, hop_length=HOP_SAMPLES, win_length=WINDOW_SAMPLES)
    mel = _mel_filters(bands) @ np.abs(spectrum) ** 2
    decibels: FloatArray = librosa.power_to_db(mel)
    return decibels


@lru_cache
def _mel_filters(bands: int) -> FloatArray:
    import librosa

    filters: FloatArray = librosa.filters.mel(sr=SAMPLING_RATE, n_fft=FFT_SAMPLES, n_mels=bands)
    return filters
