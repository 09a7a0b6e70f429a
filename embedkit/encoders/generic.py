"""Any other audio encoder of transformers, in batches of equal length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from embedkit.encoders.base import LayerSink
from embedkit.encoders.checkpoint import load_model, quiet
from embedkit.encoders.device_copies import to_device
from embedkit.encoders.layout import PREPROCESSOR_FILE, PROCESSOR_FILE
from embedkit.encoders.precision import true_fp32
from embedkit.encoders.pretrained import EncoderRequest, PretrainedEncoder
from embedkit.encoders.selection import select_layers
from embedkit.errors import EncoderError
from embedkit.libraries import load_transformers, muted

FrameCounter: TypeAlias = Callable[[int], int]

CHECKED_SECONDS = (0.31, 0.73, 1.5, 2.11)
LONGEST_HOP_SECONDS = 2.0
LONGEST_TRIED_SECONDS = 120


class GenericEncoder(PretrainedEncoder):
    """A model whose hidden states are `[batch, frames, dimensions]`, equally many frames in each.

    Nothing is known of how its parts treat padding, so clips of a batch must have the same number of samples; the
    feature extractor sees every clip alone. Layers are the model's hidden states, the first one is layer 0; all of
    them are computed whichever are kept. Of models with a decoder only the encoder runs.

    Raises:
        EncoderError: no feature extractor for audio, or no such hidden states.
    """

    equal_lengths = True
    tunable = frozenset({"layers"})

    def __init__(self, request: EncoderRequest) -> None:
        self._extractor = _load_extractor(request)
        model: Any = load_model(request.checkpoint, request.config)
        super().__init__(request, model)
        self.sampling_rate = int(self._extractor.sampling_rate)
        self._model: nn.Module = model.to(self.device, self.dtype)
        highest, self.dimensions = self._check_states()
        self.layers = select_layers(request.layers, highest)
        self.smallest_input = self._find_smallest_input()
        self._count, self.frame_rate = find_frame_count(
            lru_cache(maxsize=None)(self._probe), self.smallest_input, self.sampling_rate
        )
        if not self.frame_rate:
            self._find_window()

    def identity(self) -> dict[str, Any]:
        """Return everything that determines the numbers."""
        return super().identity() | {"normalisation": type(self._extractor).__name__}

    def frame_count(self, samples: int) -> int:
        """Return how many frames a clip of so many samples has, after padding to `smallest_input`."""
        return self._count(max(samples, self.smallest_input))

    def save(self, folder: Path, network: nn.Module | None = None) -> None:
        """Write the network as transformers does."""
        saved: Any = network or self.network
        with quiet():
            saved.save_pretrained(folder)
        self._extractor.save_pretrained(folder)

    def _run(self, clips: list[Tensor], sink: LayerSink) -> None:
        if len({len(clip) for clip in clips}) > 1:
            raise EncoderError(
                f"The encoder {self.name!r} ({self.family}) is exact only for clips of equal length; "
                "expected one length in a batch."
            )
        states, frames = self._forward(clips)
        own = torch.full((len(clips),), min(frames, self.frame_count(len(clips[0]))))
        for position, layer in enumerate(self.layers):
            sink(position, states[layer].float(), own)

    def _forward(self, clips: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], int]:
        """Return the hidden states and every clip's own frames: those that the extractor does not mark as padding."""
        alone = [self._extract(clip) for clip in clips]
        batch = {key: to_device(torch.cat([inputs[key] for inputs in alone]), self.device) for key in alone[0]}
        cast = {key: value.to(self.dtype) if value.is_floating_point() else value for key, value in batch.items()}
        states: tuple[Tensor, ...] = self._model(**cast, output_hidden_states=True).hidden_states or ()
        mask = batch.get("attention_mask")
        if not states or mask is None or mask.shape != states[0].shape[:2]:
            return states, states[0].shape[1] if states else 0
        return states, int(mask[0].sum())

    def _extract(self, clip: Tensor) -> Any:
        return self._extractor(clip.numpy(), sampling_rate=self.sampling_rate, return_tensors="pt")

    def _check_states(self) -> tuple[int, int]:
        """Return the number of the last layer and the dimensions."""
        try:
            with torch.inference_mode(), true_fp32():
                states, _ = self._forward([_tone(self.sampling_rate)])
        except Exception as error:
            raise EncoderError(
                f"The model of {self.name!r} ({self.family}) does not run on audio alone ({type(error).__name__}); "
                "expected an audio encoder."
            ) from error
        shapes = {tuple(state.shape) for state in states}
        shape = shapes.pop() if len(shapes) == 1 else ()
        if len(shape) != 3 or shape[0] != 1:
            raise EncoderError(
                f"The model of {self.name!r} ({self.family}) gives no hidden states of one shape "
                "[batch, frames, dimensions]; expected a transformer encoder over time."
            )
        return len(states) - 1, shape[2]

    def _probe(self, samples: int) -> int:
        """Return the frames of a clip of so many samples; 0 where the model cannot make sense of so short a one."""
        try:
            with torch.inference_mode(), true_fp32(), muted():
                states, frames = self._forward([_tone(samples)])
        except Exception:
            return 0
        return frames if all(bool(state.isfinite().all()) for state in states) else 0

    def _find_window(self) -> None:
        """Find what a model that pads or cuts every clip to one length hears of it, and which frames are a clip's own.

        Extractors of Whisper's kind say how many samples they pad to; their frames follow each other in time. Of others
        it is tried out which samples change the features; which of their states belong to a clip is unknown, and all
        count, as in the models' own use.
        """
        frames = self._count(self.sampling_rate)
        padded = getattr(self._extractor, "n_samples", None)
        if isinstance(padded, int) and padded % frames == 0:
            hop = padded // frames
            self._count, self.frame_rate = (lambda samples: min(frames, -(-samples // hop))), self.sampling_rate / hop
            self.largest_input = padded
            return
        heard, unheard = 0, LONGEST_TRIED_SECONDS * self.sampling_rate
        if self._hears_beyond(unheard // 2, unheard):
            return
        while unheard - heard > 1:
            middle = (heard + unheard) // 2
            heard, unheard = (middle, unheard) if self._hears_beyond(middle, unheard) else (heard, middle)
        self.largest_input = unheard

    def _hears_beyond(self, samples: int, length: int) -> bool:
        """Tell whether what comes after so many samples changes the features of a clip."""
        tone = _tone(length)
        changed = torch.cat([tone[:samples], 0.5 - tone[samples:]])
        one, other = (self._extract(clip) for clip in (tone, changed))
        return any(not torch.equal(one[key], other[key]) for key in one)

    def _find_smallest_input(self) -> int:
        refused, accepted = 0, self.sampling_rate
        while accepted - refused > 1:
            middle = (refused + accepted) // 2
            if self._probe(middle) > 0:
                accepted = middle
            else:
                refused = middle
        return accepted


def find_frame_count(probe: FrameCounter, smallest: int, sampling_rate: int) -> tuple[FrameCounter, float]:
    """Find the rule from samples to frames by a few trials.

    Args:
        probe: Runs the model on so many samples and counts.
        smallest: Samples that give the first frame.
        sampling_rate: Hertz.

    Returns:
        The rule, and the frames per second. Where no linear rule fits, the rule is the trial itself. A model that
        pads every clip to one length has as many frames for every clip and the rate 0.
    """
    start = max(smallest, sampling_rate // 4)
    first = _next_step(probe, start, sampling_rate)
    second = None if first is None else _next_step(probe, first, sampling_rate)
    checked = [smallest, *(int(seconds * sampling_rate) for seconds in CHECKED_SECONDS)]
    if first is None or second is None:
        constant = probe(start)
        if all(probe(max(samples, smallest)) == constant for samples in checked):
            return lambda samples: constant, 0.0
    else:
        edge, hop, frames = first, second - first, probe(first)

        def rule(samples: int) -> int:
            return frames + (samples - edge) // hop

        if all(probe(max(samples, smallest)) == rule(max(samples, smallest)) for samples in checked):
            return rule, sampling_rate / hop
    return probe, (probe(3 * sampling_rate) - probe(sampling_rate)) / 2


def _next_step(probe: FrameCounter, samples: int, sampling_rate: int) -> int | None:
    """Return the fewest samples with more frames than so many have; None where there are none nearby."""
    before, low, step = probe(samples), samples, 1
    while probe(low + step) <= before:
        low, step = low + step, 2 * step
        if step > LONGEST_HOP_SECONDS * sampling_rate:
            return None
    high = low + step
    while high - low > 1:
        middle = (low + high) // 2
        if probe(middle) > before:
            high = middle
        else:
            low = middle
    return high


def _tone(samples: int) -> Tensor:
    return torch.sin(0.3 * torch.arange(samples, dtype=torch.float32))


def _load_extractor(request: EncoderRequest) -> Any:
    loader = load_transformers("AutoFeatureExtractor")
    try:
        extractor = loader.from_pretrained(request.checkpoint.folder, local_files_only=True, trust_remote_code=False)
        int(extractor.sampling_rate)
    except Exception as error:
        raise EncoderError(
            f"The checkpoint {request.checkpoint.source!r} has no feature extractor for audio "
            f"({type(error).__name__}); expected {PREPROCESSOR_FILE} or {PROCESSOR_FILE} of an audio encoder."
        ) from error
    return extractor
