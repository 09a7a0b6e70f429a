"""What all encoders from transformers checkpoints share: placing, identity, running, training."""

from __future__ import annotations

import logging
import shutil
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint

from embedkit.arguments import fits
from embedkit.encoders.base import LAST_STATE, Encoder, LayerSink
from embedkit.encoders.checkpoint import digest_weights, write_model
from embedkit.encoders.layout import PREPROCESSOR_FILE, PROCESSOR_FILE, Checkpoint
from embedkit.encoders.precision import DTYPES, true_fp32
from embedkit.encoders.sources import read_card
from embedkit.encoders.spec_augment import SpecAugment
from embedkit.errors import EncoderError

LARGEST_SAMPLING_RATE = 768_000
DEFAULT_SAMPLING_RATE = 16_000

_logger = logging.getLogger("embedkit")


@dataclass(frozen=True, kw_only=True)
class EncoderRequest:
    """An encoder as asked for, with the checkpoint's settings already read."""

    name: str
    checkpoint: Checkpoint
    config: Any
    preprocessor: Mapping[str, Any]
    layers: str
    device: torch.device
    precision: str
    window: str | float
    trainable: bool = False


class PretrainedEncoder(Encoder):
    """A transformers model.

    Attributes:
        family: transformers' name of the architecture.
        recompute: Whether layers compute their activations again for the gradient instead of keeping them.
        masking: What hides parts of the input in training; None for nothing.
        algorithm: Raised when embedkit computes other numbers from the same weights and options.
    """

    algorithm = 1
    recompute = False
    masking: SpecAugment | None = None
    tunable = frozenset({"layers", "convolutions", "recompute", "specaugment", "speed"})

    def __init__(self, request: EncoderRequest, model: nn.Module) -> None:
        self.name = request.name
        self.family: str = request.config.model_type
        self.device = request.device
        self.precision = request.precision
        self.trainable = request.trainable
        self.network = model if request.trainable else None
        self.dtype: torch.dtype = torch.float32 if request.trainable else DTYPES[request.precision]
        self.layerdrop = float(getattr(request.config, "layerdrop", getattr(request.config, "encoder_layerdrop", 0.0)))
        self.checkpoint = request.checkpoint
        self.weights_digest = digest_weights(model)
        self.trained_on = read_card(request.checkpoint.folder).get("trained_on", {})
        self.sampling_rate = _sampling_rate(request)

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
            "last_layer": LAST_STATE,
            "precision": self.precision,
            "algorithm": self.algorithm,
            "versions": {"torch": torch.__version__, "transformers": version("transformers")},
            **({"trained_on": self.trained_on} if self.trained_on else {}),
        }

    def encode(self, waveforms: Sequence[Tensor], sink: LayerSink) -> None:
        """Run clips `[samples]`; hand over every kept layer, float32 `[batch, frames, dimensions]`, once it is known.

        Raises:
            EncoderError: a clip that is longer than `largest_input`, or clips of unequal length where the family
                needs equal ones.
        """
        with torch.inference_mode():
            self._pass(waveforms, sink)

    def forward(self, waveforms: Sequence[Tensor], sink: LayerSink) -> None:
        """Run clips `[samples]` as `encode` does, with gradients, and with dropout where the network trains."""
        if self.network is None:
            raise EncoderError(
                f"The encoder {self.name!r} was loaded to be kept as it is; load it with trainable=True."
            )
        self._pass(waveforms, sink)

    def prepare_training(self, *, recompute: bool = False, masking: SpecAugment | None = None) -> nn.Module:
        """Get ready for `forward` and return the network."""
        self.recompute, self.masking = recompute, masking
        return super().prepare_training()

    def save(self, folder: Path, network: nn.Module | None = None) -> None:
        """Write the network and its feature extractor's settings as transformers does, ready for `load_encoder`.

        Args:
            folder: Where to.
            network: What to write in the place of its own network.
        """
        write_model(network or self.network, folder)
        for file in (PREPROCESSOR_FILE, PROCESSOR_FILE):
            settings = self.checkpoint.folder / file
            if settings.is_file():
                shutil.copyfile(settings, folder / file)

    def _pass(self, waveforms: Sequence[Tensor], sink: LayerSink) -> None:
        if not waveforms:
            return
        clips = [self._stretched(waveform) for waveform in waveforms]
        mixed = self.trainable and self.precision != "fp32"
        with true_fp32(), torch.autocast(self.device.type, DTYPES[self.precision], enabled=mixed):
            self._run(clips, sink)

    @property
    def _learning(self) -> bool:
        return self.network is not None and self.network.training and torch.is_grad_enabled()

    def _through(self, layer: Callable[..., Tensor], hidden: Tensor, *arguments: Any, trained: bool) -> Tensor:
        """Run one transformer layer; in training it may be dropped (Fan et al. 2020), or computed again later."""
        if self._learning and trained and self.layerdrop and float(torch.rand(())) < self.layerdrop:
            return hidden
        if not (self._learning and self.recompute):
            return layer(hidden, *arguments)
        again: Tensor = checkpoint(layer, hidden, *arguments, use_reentrant=False)
        return again

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


def _sampling_rate(request: EncoderRequest) -> int:
    rate = request.preprocessor.get("sampling_rate", DEFAULT_SAMPLING_RATE)
    if not fits(rate, int) or not 0 < rate <= LARGEST_SAMPLING_RATE:
        raise EncoderError(
            f"The checkpoint {request.name!r} has the sampling rate {str(rate)[:40]!r}, expected a whole number of Hz "
            f"up to {LARGEST_SAMPLING_RATE:,}."
        )
    return int(rate)
