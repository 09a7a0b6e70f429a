"""Several encoders side by side on the dimension axis (`hubert+mfcc`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from embedkit.encoders.base import Encoder, LayerSink
from embedkit.errors import EncoderError

T = TypeVar("T", int, float)


class ConcatenatedEncoder(Encoder):
    """The vectors of all parts, on the frames of the first.

    The frame of another part that is nearest in time is taken (frame i is centred at (i + 0.5) / frame rate), the
    part's last one where it ends earlier; one vector a clip stands beside every frame. Utterance
    embeddings are statistics over these aligned frames. A part with one layer is repeated beside every layer of the
    others; parts with several must have equally many.

    Of several many-layer parts, only the last one streams: the layers of the others are kept until its turn.

    Raises:
        EncoderError: fewer than two parts, or parts that do not fit together.
    """

    def __init__(self, parts: Sequence[Encoder], name: str | None = None) -> None:
        self.parts = tuple(parts)
        self._check_parts()
        deepest = max(self.parts, key=lambda part: len(part.layers))
        self.name = name or "+".join(part.name for part in self.parts)
        self.sampling_rate = self.parts[0].sampling_rate
        self.frame_rate = self.parts[0].frame_rate
        self.layers = deepest.layers
        self.dimensions = sum(part.dimensions for part in self.parts)
        self.smallest_input = max(part.smallest_input for part in self.parts)
        self.largest_input = _least(part.largest_input for part in self.parts)
        places = [torch.device(part.device) for part in self.parts]
        self.device = next((place for place in places if place.type != "cpu"), places[0])
        self.default_max_seconds = _least(part.default_max_seconds for part in self.parts)
        self.equal_lengths = any(part.equal_lengths for part in self.parts)
        self.reentrant = all(part.reentrant for part in self.parts)
        self.default_levels = tuple(
            level for level in self.parts[0].default_levels if all(level in part.default_levels for part in self.parts)
        )
        widest = any(part.default_frame_dtype == "float32" for part in self.parts)
        self.default_frame_dtype = "float32" if widest else "float16"
        # A part with fewer default levels decides: its head needs no frames that are not kept.
        usual = min(self.parts, key=lambda part: len(part.default_levels)).default_head
        # Vectors of several kinds are no spectrogram: what lies side by side in them is no neighbour in frequency.
        self.default_head = "lstm" if usual == "cnn" else usual

    def _check_parts(self) -> None:
        if len(self.parts) < 2:
            raise EncoderError("A concatenation needs two encoders or more, joined as in 'hubert+mfcc'.")
        if not self.parts[0].frame_rate:
            raise EncoderError(
                f"The encoder {self.parts[0].name!r} gives one vector a clip, which has no frames to join others to; "
                "name it last."
            )
        rates = {part.sampling_rate for part in self.parts}
        if len(rates) > 1:
            told = ", ".join(f"{part.name} {part.sampling_rate} Hz" for part in self.parts)
            raise EncoderError(f"Encoders of different sampling rates cannot be concatenated ({told}); take others.")
        depths = {len(part.layers) for part in self.parts} - {1}
        if len(depths) > 1:
            told = ", ".join(f"{part.name} {len(part.layers)}" for part in self.parts)
            raise EncoderError(
                f"Encoders with different numbers of layers cannot be concatenated ({told}); "
                "choose equally many by --layers, for instance --layers last."
            )

    def identity(self) -> dict[str, Any]:
        """Return everything that determines the numbers; `parts` holds the identities of the parts."""
        parts = [part.identity() for part in self.parts]
        precisions = {part["precision"] for part in parts}
        trained = [known for part in parts if (known := part.pop("trained_on", None))]
        return {
            "name": self.name,
            "family": "concatenation",
            "source": None,
            "revision": None,
            "weights_digest": None,
            "layers": list(self.layers),
            "sampling_rate": self.sampling_rate,
            "frame_rate": self.frame_rate,
            "dimensions": self.dimensions,
            "normalisation": "that of the parts",
            "window": None,
            "alignment": "nearest frame of the first part",
            "precision": "+".join(sorted(precisions)),
            "versions": {key: version for part in parts for key, version in part["versions"].items()},
            "parts": parts,
            **(
                {"trained_on": {**trained[0], "before": [*trained[0].get("before", ()), *trained[1:]]}}
                if trained
                else {}
            ),
        }

    def frame_count(self, samples: int) -> int:
        """Return the first part's number of frames, after padding to `smallest_input`."""
        return self.parts[0].frame_count(max(samples, self.smallest_input))

    def encode(self, waveforms: Sequence[Tensor], sink: LayerSink) -> None:
        """Run every part on clips `[samples]`; hand over each layer once its share of all parts is known."""
        missing = [max(0, self.smallest_input - len(waveform)) for waveform in waveforms]
        clips = [pad(wave, (0, more)) if more else wave for wave, more in zip(waveforms, missing, strict=True)]
        lengths = torch.tensor([self.frame_count(len(clip)) for clip in clips])
        # sorted() is stable: single-layer parts first, then many-layer ones in their order.
        *early, streaming = sorted(range(len(self.parts)), key=lambda index: len(self.parts[index].layers))
        kept = {index: self._collect(index, clips, lengths) for index in early}

        def join(position: int, values: Tensor) -> None:
            beside = {index: layers[min(position, len(layers) - 1)] for index, layers in kept.items()}
            beside[streaming] = values
            vectors = [beside[index].to(self.device) for index in range(len(self.parts))]
            sink(position, torch.cat(vectors, dim=-1), lengths)

        self._run(streaming, clips, lengths, join)

    def _collect(self, index: int, clips: Sequence[Tensor], lengths: Tensor) -> list[Tensor]:
        layers: list[Tensor] = []
        self._run(index, clips, lengths, lambda _, values: layers.append(values))
        return layers

    def _run(self, index: int, clips: Sequence[Tensor], lengths: Tensor, take: Callable[[int, Tensor], None]) -> None:
        """Call `take(position, values)` for each layer of a part, its frames aligned with the first part's."""
        part = self.parts[index]

        def align(position: int, values: Tensor, own_lengths: Tensor) -> None:
            frames = nearest_frames(lengths, self.frame_rate, own_lengths, part.frame_rate).to(values.device)
            clip = torch.arange(len(values), device=values.device)[:, None]
            take(position, values[clip, frames])

        part.encode(clips, align)


def _least(limits: Iterable[T | None]) -> T | None:
    return min((limit for limit in limits if limit is not None), default=None)


def nearest_frames(lengths: Tensor, frame_rate: float, other_lengths: Tensor, other_rate: float) -> Tensor:
    """Find, for each frame, the frame of another grid whose centre is nearest in time (the later one of two).

    Shape:
        Input: lengths `[batch]` of both grids, output: int64 `[batch, max(lengths)]`, every index a frame that exists.
    """
    centres = torch.arange(int(lengths.max()), dtype=torch.float64) + 0.5
    nearest = torch.floor(centres * (other_rate / frame_rate)).long()
    return torch.minimum(nearest[None, :], other_lengths.to(torch.int64)[:, None] - 1)
