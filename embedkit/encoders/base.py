"""The contract of every encoder: waveforms in, a padded tensor per kept layer out; and what determines its numbers."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from embedkit.encoders.spec_augment import SpecAugment
from embedkit.errors import EncoderError

LayerSink: TypeAlias = Callable[[int, Tensor, Tensor], None]
"""Called once per kept layer, in order: position in `Encoder.layers`, values `[batch, frames, dimensions]`
on the encoder's device (padding frames hold anything), and lengths `[batch]` (own frames per clip, on the CPU)."""


class Encoder(ABC):
    """An encoder. An utterance's embedding never depends on what shares its batch.

    Attributes:
        name: What the user called it; used in paths and tables.
        sampling_rate: Hertz expected of the waveforms.
        frame_rate: Frames per second.
        layers: Numbers of the layers kept, ascending (0 is the input of the first transformer layer;
            single-layer encoders have (0,)).
        dimensions: Size of a frame's vector.
        smallest_input: Samples; a shorter clip is padded with zeros to this before anything else.
        largest_input: Samples; a longer clip is refused. None where there is no limit.
        device: Where its values are.
        dtype: What its network computes in; None where that cannot be chosen.
        parts: The encoders that it is made of; empty where it is one.
        equal_lengths: True where clips of a batch must have the same number of samples to be exact.
        reentrant: True where `encode` may run in several threads at once, each with a batch of its own: faster on a
            CPU than one batch on all cores.
        default_levels: What `extract` keeps by default: ("utterance",) or ("utterance", "frame").
        default_frame_dtype: "float16" or "float32".
        default_head: The head that `fit` takes by default.
        default_max_seconds: Longer clips are encoded in overlapping windows of this length, unless asked otherwise;
            None: only those longer than the encoder takes.
        network: What `forward` trains, with its parameters in fp32; None where nothing can be trained.
        tunable: What its training can do beside: "layers" and "convolutions" (train some of its parts), "recompute",
            "specaugment", "speed" (clips may change their length).
        layerdrop: Share of the transformer layers that are left out at random in training.
    """

    name: str
    sampling_rate: int
    frame_rate: float
    layers: tuple[int, ...]
    dimensions: int
    smallest_input: int
    largest_input: int | None = None
    device: torch.device = torch.device("cpu")
    dtype: torch.dtype | None = None
    parts: tuple[Encoder, ...] = ()
    equal_lengths: bool = False
    reentrant: bool = False
    default_levels: tuple[str, ...] = ("utterance",)
    default_frame_dtype: str = "float16"
    default_head: str = "linear"
    default_max_seconds: float | None = None
    network: nn.Module | None = None
    tunable: frozenset[str] = frozenset({"speed"})
    layerdrop: float = 0.0

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Return everything that determines the numbers, ready for JSON.

        Keys: name, family, source, revision, weights_digest, layers, sampling_rate, frame_rate, dimensions,
        normalisation, window, precision, versions, and whatever else the family needs.
        """

    @abstractmethod
    def frame_count(self, samples: int) -> int:
        """Return how many frames a clip of so many samples has, after padding to `smallest_input`."""

    @abstractmethod
    def encode(self, waveforms: Sequence[Tensor], sink: LayerSink) -> None:
        """Run one batch and hand every kept layer to the sink as soon as it is known.

        Args:
            waveforms: One float32 tensor `[samples]` per clip, on the CPU, at `sampling_rate`.
            sink: Receives the layers; nothing is kept here, so that pooling needs one layer's memory at a time.
        """

    def forward(self, waveforms: Sequence[Tensor], sink: LayerSink) -> None:
        """Run clips `[samples]` as `encode` does, with gradients, and with dropout where the network trains.

        Raises:
            EncoderError: the encoder has no weights to train, or was not loaded to be trained.
        """
        raise EncoderError(
            f"The encoder {self.name!r} cannot be trained; expected a transformers checkpoint or VGGish: "
            "keep its features as they are, with --mode cached or frozen."
        )

    def prepare_training(self, *, recompute: bool = False, masking: SpecAugment | None = None) -> nn.Module:
        """Get ready for `forward` and return the network.

        Args:
            recompute: Compute activations of the layers again for the gradient instead of keeping them.
            masking: What hides parts of the input in training.

        Raises:
            EncoderError: there is no network, or the encoder was not loaded to be trained.
        """
        if self.network is None:
            raise EncoderError(f"The encoder {self.name!r} was loaded as it is; to train it, load it trainable.")
        return self.network

    def draw(self, seed: int) -> bool:
        """Give a network that starts from random weights new ones; return whether it is one."""
        return False

    def save(self, folder: Path, network: nn.Module | None = None) -> None:
        """Write the network, or another one in its place, into a folder that `load_encoder` reads.

        Raises:
            EncoderError: there is no network.
        """
        raise EncoderError(f"The encoder {self.name!r} has no weights to be saved.")


_CIRCUMSTANCES = frozenset({"versions", "linear_kernel"})
_ORIGIN = frozenset({"name", "source", "revision"})

LAST_STATE = "last_hidden_state"
"""What the last layer of every transformer is."""
NORMED_STATE = "last_hidden_state, which hidden_states[-1] is not"
"""The same, of models whose `hidden_states[-1]` lacks their final norm: stores of before hold that."""
UNNORMED_STATE = "hidden_states[-1]"
"""What published classifiers that weigh layers read: in some models it lacks their final norm."""


def determining(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out versions and kernels, and, where a digest of the weights tells more, what the encoder is called.

    The last layer is told where stores of before may hold another one.
    """
    left_out = _CIRCUMSTANCES | (_ORIGIN if identity.get("weights_digest") else frozenset())
    kept = {name: value for name, value in identity.items() if name not in left_out}
    if kept.get("last_layer") == LAST_STATE:
        del kept["last_layer"]
    if "parts" in kept:
        kept |= {"name": None, "parts": [determining(part) for part in kept["parts"]]}
    return kept


def select_layers(spec: str, highest: int) -> tuple[int, ...]:
    """Turn `all`, `last`, `6`, `4-9` or `0,6,12` into layer numbers, ascending.

    Args:
        spec: The option's text.
        highest: Number of the last layer; 0 is the input of the first transformer layer.

    Raises:
        EncoderError: not of that form, or a layer that the encoder does not have.
    """
    text = spec.strip().lower()
    if text == "all":
        return tuple(range(highest + 1))
    if text == "last":
        return (highest,)
    kept: set[int] = set()
    for item in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", item)
        if match is None:
            raise EncoderError(f"Layers {spec!r} cannot be read; expected all, last, a number, or a range such as 4-9.")
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last or last > highest:
            there = f"numbers from 0 to {highest}, ascending" if highest else "0, the only one"
            raise EncoderError(f"Layers {spec!r} are not there; expected {there}.")
        kept.update(range(first, last + 1))
    return tuple(sorted(kept))
