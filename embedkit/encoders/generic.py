"""Any other audio encoder of transformers, in exact batches: padded where that is exact, else of equal length."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from embedkit.devices import takes_clips_alone
from embedkit.encoders.base import NORMED_STATE, LayerSink, select_layers
from embedkit.encoders.batched_extractors import BatchedExtractor, find_batched
from embedkit.encoders.checkpoint import load_model, quiet
from embedkit.encoders.device_copies import to_device
from embedkit.encoders.frame_rule import FrameCounter, find_own_rule
from embedkit.encoders.kernels import pack_linears, watching_products
from embedkit.encoders.layout import PREPROCESSOR_FILE, PROCESSOR_FILE
from embedkit.encoders.own_window import MASKED, find_own_window, mask_padding
from embedkit.encoders.padded import Joiner, PaddingGuard, name_of_mask
from embedkit.encoders.precision import true_fp32
from embedkit.encoders.pretrained import EncoderRequest, PretrainedEncoder
from embedkit.encoders.relative_key import share_distances
from embedkit.encoders.unread_masks import leave_masks_unread
from embedkit.errors import EncoderError
from embedkit.libraries import load_transformers, muted

TRIED_SECONDS = (0.31, 0.47, 1.0)
EXACT = 1e-5
"""How far a clip in a padded batch may be from the clip alone, relative to its norm."""
CHECKED_SECONDS = (0.31, 0.73, 1.5, 2.11)
LONGEST_HOP_SECONDS = 2.0


class GenericEncoder(PretrainedEncoder):
    """A model whose hidden states are `[batch, frames, dimensions]`, equally many frames in each.

    How its parts treat padding is tried out when it is loaded: where clips in a padded batch are what they are alone
    (1e-5), any may share one, else those of the same number of samples. A model that pads every clip to a window of its
    own takes clips of any lengths up to that window, and hands over the frames of each. The feature extractor sees each
    clip alone. Layers are the model's hidden states, the first one is layer 0, the last one `last_hidden_state`; all of
    them are computed whichever are kept. Of models with a decoder only the encoder runs; an adapter behind it does not.

    Raises:
        EncoderError: no feature extractor for audio, or no such hidden states, or a window of an unknown kind.
    """

    equal_lengths = True
    tunable = frozenset({"layers"})
    _count: FrameCounter

    def __init__(self, request: EncoderRequest) -> None:
        self._extractor = _load_extractor(request)
        model: Any = load_model(request.checkpoint, request.config)
        super().__init__(request, model)
        self.sampling_rate = int(self._extractor.sampling_rate)
        self._model: nn.Module = model.to(self.device)
        self._called = self._model
        leave_to_encoder(model)
        if not request.trainable:
            share_distances(model)
        if not takes_clips_alone(self.device):
            leave_masks_unread(model)
        self._guard = PaddingGuard(model)
        self._batched: BatchedExtractor | None = None
        self._input_dtype, self._strided_mask = torch.float32, False
        clips = [_noise(int(seconds * self.sampling_rate)) for seconds in TRIED_SECONDS]
        with watching_products(model) as products:
            highest, vectors, self.dimensions = self._check_states(clips)
        self._batched = self._find_batched(clips)
        self.layers = select_layers(request.layers, highest)
        self._normed_last &= self.layers[-1] == highest
        self._window = find_own_window(self._extractor, request.config, vectors)
        if self._window is None:
            self._try_lengths(clips, vectors, request.trainable)
        else:
            self.equal_lengths = False
            self.smallest_input, self.largest_input = self._window.smallest, self._window.samples
            self._count, self.frame_rate = self._window.own_frames, self.sampling_rate / self._window.hop
        self._model.to(self.dtype)
        self._input_dtype = self.dtype
        packed = self.device.type == "cpu" and not request.trainable
        self.linear_kernel = pack_linears(model, products) if packed else "torch"
        try:
            self._states(clips[0])
        except (RuntimeError, AttributeError, TypeError) as error:
            raise EncoderError(
                f"The model of {self.name!r} ({self.family}) does not run in {request.precision} on {self.device.type} "
                f"({type(error).__name__}); expected another --precision."
            ) from error

    def identity(self) -> dict[str, Any]:
        """Return everything that determines the numbers."""
        last = {"last_layer": NORMED_STATE} if self._normed_last else {}
        own = {} if self._window is None else {"own_window": asdict(self._window)}
        kinds = {"normalisation": type(self._extractor).__name__, "linear_kernel": self.linear_kernel}
        return super().identity() | kinds | last | own

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
        if self.equal_lengths and len({len(clip) for clip in clips}) > 1:
            raise EncoderError(
                f"The encoder {self.name!r} ({self.family}) is exact only for clips of equal length; "
                "expected one length in a batch."
            )
        states, marked = self._forward(clips)
        own = torch.tensor([min(most, self.frame_count(len(clip))) for most, clip in zip(marked, clips, strict=True)])
        for position, layer in enumerate(self.layers):
            values = states[layer].float()
            arranged = values if self._window is None else self._window.arrange(values)[:, : int(own.max())]
            sink(position, arranged, own)

    def _forward(self, clips: Sequence[Tensor], *, tried: bool = False) -> tuple[tuple[Tensor, ...], list[int]]:
        """Return the hidden states and every clip's own frames, as far as the extractor marks them.

        What a model marks itself is read in trials alone, from which frames are counted: the host waits for it.
        """
        output, longest, marked = self._outputs(clips)
        states: tuple[Tensor, ...] = output.hidden_states or ()
        if not states:
            return states, []
        last = output.get("last_hidden_state")
        if last is not None and last.shape == states[-1].shape:
            states = (*states[:-1], last)
        mask = output.get("attention_mask") if tried else None
        if mask is not None and mask.shape == states[0].shape[:2]:
            return states, mask.sum(1).tolist()
        frames = states[0].shape[1]
        return states, marked if marked is not None and longest == frames else [frames] * len(clips)

    def _outputs(self, clips: Sequence[Tensor]) -> tuple[Any, int, list[int] | None]:
        """Return what the model gives, the features of the longest clip, and how many of each clip's are marked."""
        batch, lengths, own = self._inputs(clips)
        joined = mask_padding(self.family, batch)
        moved = {key: to_device(value, self.device) for key, value in joined.items()}
        cast = {
            key: value.to(self._input_dtype) if value.is_floating_point() else value for key, value in moved.items()
        }
        marked = None if self.family in MASKED else self._joiner.marked(own, self._mask_ends(own))
        with self._guard.over(lengths):
            return self._called(**cast, output_hidden_states=True), max(lengths), marked

    def _inputs(self, clips: Sequence[Tensor]) -> tuple[dict[str, Tensor], list[int], list[int]]:
        """Return what the model is given, and the features of each clip: all of them, and its own."""
        if self._batched is not None:
            values, lengths, own = self._batched(clips)
            return self._joiner.name(values, own, self._mask_ends(own)), lengths, own
        alone = [self._extract(clip) for clip in clips]
        own = [self._joiner.own_length(inputs) for inputs in alone]
        return self._joiner.join(alone, self._mask_ends(own)), [self._joiner.length(one) for one in alone], own

    def _find_batched(self, clips: Sequence[Tensor]) -> BatchedExtractor | None:
        """Return what stands in for the extractor on a device, where it gives what the extractor gives."""
        expected, *counts = self._inputs(clips)
        self._batched = find_batched(self._extractor, self.device)
        if self._batched is None:
            return None
        found, *others = self._inputs(clips)
        alike = counts == others and expected.keys() == found.keys()
        return self._batched if alike and all(map(_near, found.values(), expected.values())) else None

    def _extract(self, clip: Tensor) -> Any:
        masks = {"return_attention_mask": True} if self.family in MASKED else {}
        return self._extractor(clip.numpy(), sampling_rate=self.sampling_rate, return_tensors="pt", **masks)

    def _mask_ends(self, own: Sequence[int]) -> list[int]:
        """Return where the masks of clips end: for models that look at every hop-th value alone, after the last one."""
        if not self._strided_mask:
            return list(own)
        hop = round(self.sampling_rate / self.frame_rate)
        return [(self._count(samples) - 1) * hop + 1 for samples in own]

    def _check_states(self, clips: Sequence[Tensor]) -> tuple[int, int, int]:
        """Return the number of the last layer, the vectors of a second, and the dimensions."""
        try:
            with torch.inference_mode(), true_fp32():
                mask = name_of_mask(self._model)
                self._joiner = Joiner(self._extract(clips[0]), self._extract(clips[-1]), mask)
                output, *_ = self._outputs(clips[-1:])
        except Exception as error:
            raise EncoderError(
                f"The model of {self.name!r} ({self.family}) does not run on audio alone ({type(error).__name__}); "
                "expected an audio encoder."
            ) from error
        states: tuple[Tensor, ...] = output.hidden_states or ()
        last = output.get("last_hidden_state")
        self._normed_last = bool(states) and last is not None and not same(last, states[-1])
        shapes = {tuple(state.shape) for state in states}
        shape = shapes.pop() if len(shapes) == 1 else ()
        if len(shape) != 3 or shape[0] != 1:
            raise EncoderError(
                f"The model of {self.name!r} ({self.family}) gives no hidden states of one shape "
                "[batch, frames, dimensions]; expected a transformer encoder over time."
            )
        return len(states) - 1, shape[1], shape[2]

    def _try_lengths(self, clips: Sequence[Tensor], vectors: int, trainable: bool) -> None:
        """Find how many frames clips of other lengths have, and whether they may share a batch."""
        alone = [self._states(clip) for clip in clips]
        seen = {len(clip): marked[0] for clip, (_, marked) in zip(clips, alone, strict=True)}
        self.smallest_input, self._count, self.frame_rate = self._find_frames(seen)
        if not self.frame_rate:
            raise EncoderError(
                f"The model of {self.name!r} ({self.family}) has {vectors} vectors for every clip: what it hears "
                "of a long clip, and which vectors belong to a short one, is unknown; expected AST, or a feature "
                "extractor of Whisper's kind: take another encoder."
            )
        # Batch norms that are trained would see the padding.
        exact = not trainable and self._is_exact_when_padded(clips, [states for states, _ in alone])
        self.equal_lengths = not exact

    def _states(self, *clips: Tensor) -> tuple[tuple[Tensor, ...], list[int]]:
        with torch.inference_mode(), true_fp32(), muted():
            return self._forward(clips, tried=True)

    def _probe(self, clip: Tensor) -> int:
        """Return the frames of a clip; 0 where the model cannot make sense of so short a one."""
        try:
            states, marked = self._states(clip)
        except Exception:
            return 0
        return marked[0] if all(bool(state.isfinite().all()) for state in states) else 0

    def _features(self, samples: int) -> int:
        """Return how many features a clip of so many samples has; 0 where the extractor cannot make sense of it."""
        try:
            with muted():
                inputs = self._extract(_tone(samples))
        except Exception:
            return 0
        finite = all(bool(value.isfinite().all()) for value in inputs.values() if value.is_floating_point())
        return self._joiner.own_length(inputs) if finite else 0

    def _find_frames(self, seen: Mapping[int, int]) -> tuple[int, FrameCounter, float]:
        """Return the smallest input, the rule from samples to frames, and the frames per second.

        By the model's own rule where that agrees with the frames that were seen of so many samples, else by as many
        passes as it takes.
        """
        tried = lru_cache(maxsize=None)(lambda samples: self._probe(_tone(samples)))
        features = lru_cache(maxsize=None)(self._features)
        rule = find_own_rule(self._model, {features(samples): frames for samples, frames in seen.items()})

        def counted(samples: int) -> int:
            return max(0, rule(features(samples))) if rule is not None and features(samples) else 0

        smallest = find_smallest_input(counted, self.sampling_rate)
        if counted(smallest) == 0 or tried(smallest) != counted(smallest):
            counted = tried
            smallest = find_smallest_input(counted, self.sampling_rate)
        return smallest, *find_frame_count(counted, smallest, self.sampling_rate)

    def _is_exact_when_padded(self, clips: Sequence[Tensor], alone: Sequence[tuple[Tensor, ...]]) -> bool:
        """Tell whether clips of several lengths are in one batch what they are alone, by a trial."""
        if self._joiner.mask_name is None or not self.frame_rate or min(map(len, clips)) < self.smallest_input:
            return False
        for self._strided_mask in (False, True):
            with contextlib.suppress(RuntimeError, ValueError, IndexError):
                together, frames = self._states(*clips)
                own = [min(most, self._count(len(clip))) for most, clip in zip(frames, clips, strict=True)]
                if all(
                    float((state[row, :count] - layer[0, :count]).norm()) <= EXACT * float(layer[0, :count].norm())
                    for row, (count, layers) in enumerate(zip(own, alone, strict=True))
                    for state, layer in zip(together, layers, strict=True)
                ):
                    return True
        self._strided_mask = False
        return False


def _near(found: Tensor, expected: Tensor) -> bool:
    """Tell whether inputs on a device are those of the extractor."""
    if found.shape != expected.shape:
        return False
    return float((found.cpu() - expected).float().norm()) <= EXACT * float(expected.float().norm())


def leave_to_encoder(model: Any) -> None:
    """Let a model end with its encoder: what shortens the frames behind it, for another model, is left out."""
    if hasattr(model, "avg_pooler"):
        model.avg_pooler = nn.Identity()
    if getattr(model, "adapter", None) is not None:
        model.adapter, model.config.add_adapter = None, False


def same(one: Tensor, other: Tensor) -> bool:
    """Tell whether two states `[batch, frames, dimensions]` are equal, or not of one kind at all."""
    return one.shape != other.shape or bool(torch.equal(one, other))


def find_smallest_input(probe: FrameCounter, sampling_rate: int) -> int:
    """Return the fewest samples that give a frame, by a few trials."""
    refused, accepted = 0, sampling_rate
    while accepted - refused > 1:
        middle = (refused + accepted) // 2
        if probe(middle) > 0:
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


def _noise(samples: int) -> Tensor:
    generator = torch.Generator().manual_seed(samples)
    return 0.1 * (1 + samples % 7) * torch.randn(samples, generator=generator) + 0.01


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
