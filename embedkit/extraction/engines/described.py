"""An encoder that lives in another process, described here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from embedkit.encoders.base import Encoder, LayerSink
from embedkit.errors import ExtractionError

_ATTRIBUTES = (
    "name",
    "sampling_rate",
    "frame_rate",
    "layers",
    "dimensions",
    "smallest_input",
    "largest_input",
    "equal_lengths",
    "reentrant",
    "default_levels",
    "default_frame_dtype",
    "default_head",
    "default_max_seconds",
)


def describe_encoder(encoder: Encoder) -> dict[str, Any]:
    """Return what `DescribedEncoder` needs to stand for an encoder in another process."""
    return {
        "attributes": {name: getattr(encoder, name) for name in _ATTRIBUTES},
        "device": torch.device(encoder.device).type,
        "identity": encoder.identity(),
    }


class DescribedEncoder(Encoder):
    """Everything that an encoder says of itself; it encodes nothing here."""

    def __init__(self, description: dict[str, Any]) -> None:
        for name, value in description["attributes"].items():
            setattr(self, name, value)
        self.device = torch.device(description["device"])
        self._identity: dict[str, Any] = description["identity"]

    def identity(self) -> dict[str, Any]:
        """Return what the encoder said."""
        return dict(self._identity)

    def frame_count(self, samples: int) -> int:
        """Return how many frames a clip has at most; the exact number is known where the encoder is."""
        return math.ceil(max(samples, self.smallest_input) * self.frame_rate / self.sampling_rate) + 1

    def encode(self, waveforms: Sequence[Tensor], sink: LayerSink) -> None:
        """Refuse clips `[samples]`: the encoder is elsewhere."""
        raise ExtractionError(f"{self.name} was loaded by other processes, expected one that is loaded here.")
