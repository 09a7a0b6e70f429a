"""The field's hand-made feature sets by openSMILE: eGeMAPS (Eyben et al., IEEE TAC 2016) and ComParE (Schuller et al.,
Interspeech 2016), as functionals of a whole clip or as low-level descriptors.

openSMILE is free for research and private use; other use needs a licence of audEERING's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from embedkit.encoders.base import Encoder, LayerSink
from embedkit.errors import EncoderError
from embedkit.registry import import_extra

SAMPLING_RATE = 16_000
HOP_SAMPLES = 160
WINDOW_SAMPLES = 960
"""The longest analysis window of both sets, 60 ms: of less, openSMILE gives nothing."""

FEATURE_SETS: Mapping[str, tuple[str, bool]] = {
    "egemaps": ("eGeMAPSv02", False),
    "egemaps-lld": ("eGeMAPSv02", True),
    "compare": ("ComParE_2016", False),
    "compare-lld": ("ComParE_2016", True),
}
"""The feature set, and whether its low-level descriptors are meant instead of its functionals."""


class OpensmileEncoder(Encoder):
    """Features of one clip after the other.

    Functionals are one vector a clip: one frame, whatever its length (the frame rate is 0). Low-level descriptors come
    every 10 ms: 2 + (samples - 960) // 160 frames. A clip shorter than 960 samples is padded with zeros to that.

    Args:
        name: "egemaps", "egemaps-lld", "compare" or "compare-lld".

    Raises:
        EncoderError: opensmile is not installed.
    """

    sampling_rate = SAMPLING_RATE
    layers = (0,)
    smallest_input = WINDOW_SAMPLES
    default_frame_dtype = "float32"

    def __init__(self, name: str) -> None:
        self.name = name
        self.feature_set, self.descriptors = FEATURE_SETS[name]
        library = import_extra("opensmile", extra="opensmile", needed_by=f"The encoder {name!r}", error=EncoderError)
        level = "LowLevelDescriptors" if self.descriptors else "Functionals"
        self._smile = library.Smile(
            feature_set=library.FeatureSet[self.feature_set],
            feature_level=library.FeatureLevel[level],
            sampling_rate=SAMPLING_RATE,
        )
        self.dimensions = int(self._smile.num_features)
        self.frame_rate = SAMPLING_RATE / HOP_SAMPLES if self.descriptors else 0.0
        if self.descriptors:
            self.default_levels, self.default_head = ("utterance", "frame"), "lstm"

    def identity(self) -> dict[str, Any]:
        """Return everything that determines the numbers."""
        return {
            "name": self.name,
            "family": "opensmile",
            "source": "opensmile",
            "revision": None,
            "weights_digest": None,
            "layers": list(self.layers),
            "sampling_rate": self.sampling_rate,
            "frame_rate": self.frame_rate,
            "dimensions": self.dimensions,
            "normalisation": "none",
            "window": {"samples": WINDOW_SAMPLES, "hop_samples": HOP_SAMPLES},
            "feature_set": self.feature_set,
            "feature_level": "low-level descriptors" if self.descriptors else "functionals",
            "precision": "fp32",
            "versions": {"opensmile": version("opensmile")},
        }

    def frame_count(self, samples: int) -> int:
        """Return 1 for functionals, 2 + (samples - 960) // 160 for descriptors, after padding to `smallest_input`."""
        return 2 + (max(samples, WINDOW_SAMPLES) - WINDOW_SAMPLES) // HOP_SAMPLES if self.descriptors else 1

    def encode(self, waveforms: Sequence[Tensor], sink: LayerSink) -> None:
        """Compute the features of each clip `[samples]`, handed over as one layer `[batch, frames, dimensions]`."""
        clips = [self._encode_clip(waveform) for waveform in waveforms]
        sink(0, pad_sequence(clips, batch_first=True), torch.tensor([len(clip) for clip in clips]))

    def _encode_clip(self, waveform: Tensor) -> Tensor:
        padded = pad(waveform, (0, max(0, WINDOW_SAMPLES - len(waveform))))
        (features,) = self._smile(padded.numpy(), SAMPLING_RATE)
        return torch.from_numpy(features.T.copy())
