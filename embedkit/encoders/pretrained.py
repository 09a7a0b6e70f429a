"""What all encoders from transformers checkpoints share: loading, placing, identity, running."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from embedkit.encoders.base import Encoder, LayerSink
from embedkit.encoders.checkpoint import digest_weights, read_config, read_preprocessor
from embedkit.encoders.precision import DTYPES, resolve_device, resolve_precision, true_fp32
from embedkit.encoders.sources import Checkpoint, find_checkpoint
from embedkit.errors import EncoderError

ALGORITHM = 1
"""Raised when embedkit computes other numbers from the same weights and options."""

DEFAULT_SAMPLING_RATE = 16_000


@dataclass(frozen=True, kw_only=True)
class Request:
    """An encoder as asked for, with the checkpoint's settings already read."""

    name: str
    checkpoint: Checkpoint
    config: Any
    preprocessor: Mapping[str, Any]
    layers: str
    device: torch.device
    precision: str
    window: str | float


def load_pretrained(
    name: str,
    source: str,
    *,
    layers: str = "all",
    device: str = "cpu",
    precision: str = "fp32",
    window: str | float = "clip",
) -> PretrainedEncoder:
    """Load an encoder from a local folder or a Hugging Face id; the family decides how it runs.

    Raises:
        EncoderError: a source, a checkpoint, a device or an option that cannot be used.
    """
    from embedkit.encoders.conv_transformer import FAMILIES, ConvTransformerEncoder
    from embedkit.encoders.generic import GenericEncoder
    from embedkit.encoders.whisper import WhisperEncoder

    place = resolve_device(device)
    resolved = resolve_precision(precision, place)
    checkpoint = find_checkpoint(source, name=name)
    config = read_config(checkpoint)
    request = Request(
        name=name,
        checkpoint=checkpoint,
        config=config,
        preprocessor=read_preprocessor(checkpoint),
        layers=layers,
        device=place,
        precision=resolved,
        window=window,
    )
    if config.model_type == "whisper":
        return WhisperEncoder(request)
    refuse_window(request)
    if config.model_type in FAMILIES:
        return ConvTransformerEncoder(request)
    return GenericEncoder(request)


def refuse_window(request: Request) -> None:
    """Raise an EncoderError where a window was asked of an encoder that has none."""
    if request.window != "clip":
        raise EncoderError(
            f"The encoder {request.name!r} reads every clip as it is; expected the window 'clip', "
            f"got {request.window!r} (only Whisper encoders have a window)."
        )


class PretrainedEncoder(Encoder):
    """A frozen transformers model.

    Attributes:
        family: transformers' name of the architecture.
        largest_input: Samples; a longer clip is refused. None where there is no limit.
        forward_passes: Batches run so far.
    """

    largest_input: int | None = None

    def __init__(self, request: Request, model: nn.Module) -> None:
        self.name = request.name
        self.family: str = request.config.model_type
        self.device = request.device
        self.precision = request.precision
        self.dtype = DTYPES[request.precision]
        self.checkpoint = request.checkpoint
        self.weights_digest = digest_weights(model)
        self.sampling_rate = int(request.preprocessor.get("sampling_rate", DEFAULT_SAMPLING_RATE))
        self.forward_passes = 0

    def identity(self) -> dict[str, Any]:
        """Return everything that determines the numbers."""
        return {
            "name": self.name,
            "family": self.family,
            "source": self.checkpoint.source,
            "revision": self.checkpoint.revision,
            "weights_digest": self.weights_digest,
            "layers": list(self.layers),
            "sampling_rate": self.sampling_rate,
            "frame_rate": self.frame_rate,
            "dimensions": self.dimensions,
            "smallest_input": self.smallest_input,
            "normalisation": "none",
            "window": "clip",
            "precision": self.precision,
            "algorithm": ALGORITHM,
            "versions": {"torch": torch.__version__, "transformers": version("transformers")},
        }

    def encode(self, waveforms: Sequence[Tensor], sink: LayerSink) -> None:
        """Run one batch and hand every kept layer, as float32, to the sink as soon as it is known.

        Raises:
            EncoderError: a clip that is longer than `largest_input`, or clips of unequal length where the family
                needs equal ones.
        """
        if not waveforms:
            return
        clips = [self._stretched(waveform) for waveform in waveforms]
        self.forward_passes += 1
        with torch.inference_mode(), true_fp32():
            self._run(clips, sink)

    @abstractmethod
    def _run(self, clips: list[Tensor], sink: LayerSink) -> None:
        """Run clips of legal length; called without gradients and with true fp32."""

    def _stretched(self, waveform: Tensor) -> Tensor:
        if waveform.ndim != 1:
            raise EncoderError(f"Expected a mono clip [samples], got a tensor of shape {list(waveform.shape)}.")
        if self.largest_input is not None and len(waveform) > self.largest_input:
            raise EncoderError(
                f"A clip of {len(waveform)} samples is too long for {self.name!r}, which takes at most "
                f"{self.largest_input} ({self.largest_input / self.sampling_rate:g} s); split it, or take another "
                "window or encoder."
            )
        missing = self.smallest_input - len(waveform)
        return pad(waveform, (0, missing)) if missing > 0 else waveform
