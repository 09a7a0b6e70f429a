"""Batches of unequal clips for models that are used as transformers has them."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import group_norm, pad

from embedkit.devices import takes_clips_alone
from embedkit.encoders.device_copies import lengths_on
from embedkit.encoders.exact import centre, padding_mask

MASKS = ("attention_mask", "padding_mask")
"""Under which names feature extractors say which of their values are a clip's own."""


class Joiner:
    """Puts what a feature extractor gives for each clip into one batch.

    Args:
        short, long: The inputs of two clips of unequal lengths, which show where time runs.
        mask_name: What the model calls the mask; None where it takes none.
    """

    def __init__(self, short: Mapping[str, Tensor], long: Mapping[str, Tensor], mask_name: str | None) -> None:
        self.mask_name = mask_name
        self._axes = {name: _unequal_axis(value, long[name]) for name, value in short.items()}
        self._main = next(name for name in short if name not in MASKS)

    def length(self, inputs: Mapping[str, Tensor]) -> int:
        """Return how many features a clip has, the extractor's padding included."""
        axis = self._axes[self._main]
        return inputs[self._main].shape[1 if axis is None else axis]

    def own_length(self, inputs: Mapping[str, Tensor]) -> int:
        """Return how many of the features of a clip are its own: those that the extractor does not mark as padding."""
        mask = next((inputs[name] for name in MASKS if name in inputs), None)
        return self.length(inputs) if mask is None else int(mask.sum())

    def join(self, alone: Sequence[Mapping[str, Tensor]], ends: Sequence[int]) -> dict[str, Tensor]:
        """Pad the inputs of clips with zeros to the longest.

        Args:
            alone: What the feature extractor gives for each clip.
            ends: Where the mask of each clip ends, if their lengths differ.
        """
        longest = max(map(self.length, alone))
        batch = {
            name: torch.cat([_pad(inputs[name], axis, longest) for inputs in alone])
            for name, axis in self._axes.items()
        }
        if self._masks(ends):
            batch |= self._mask(str(self.mask_name), ends, longest, torch.device("cpu"))
        return batch

    def name(self, values: Tensor, own: Sequence[int], ends: Sequence[int]) -> dict[str, Tensor]:
        """Name what was computed for a whole batch as the extractor does, and mask it as `join` would.

        Args:
            values: The features of all clips, `[clips, ...]`.
            own: How many of a clip's features are its own.
            ends: Where the mask of each clip ends, if their lengths differ.
        """
        axis = self._axes[self._main]
        longest, batch = values.shape[1 if axis is None else axis], {self._main: values}
        for name in self._axes:
            if name in MASKS:
                longest = values.shape[-1] if axis is None else longest
                batch |= self._mask(name, own, longest, values.device)
        return batch | (self._mask(str(self.mask_name), ends, longest, values.device) if self._masks(ends) else {})

    def marked(self, own: Sequence[int], ends: Sequence[int]) -> list[int] | None:
        """Return how much of each clip the attention mask of a batch marks; None where it has none."""
        if self._masks(ends) and self.mask_name == "attention_mask":
            return list(ends)
        return list(own) if "attention_mask" in self._axes else None

    def _masks(self, ends: Sequence[int]) -> bool:
        return self.mask_name is not None and self._axes[self._main] is not None and len(set(ends)) > 1

    def _mask(self, name: str, ends: Sequence[int], longest: int, device: torch.device) -> dict[str, Tensor]:
        return {name: (torch.arange(longest, device=device) < lengths_on(ends, device)[:, None]).long()}


def _unequal_axis(one: Tensor, other: Tensor) -> int | None:
    return next((axis for axis in range(one.ndim) if one.shape[axis] != other.shape[axis]), None)


def _pad(values: Tensor, axis: int | None, length: int) -> Tensor:
    if axis is None:
        return values
    return pad(values, (0, 0) * (values.ndim - 1 - axis) + (0, length - values.shape[axis]))


def name_of_mask(model: nn.Module) -> str | None:
    """Return what a model calls the mask of its input; None where it takes none."""
    taken = inspect.signature(model.forward).parameters
    return next((name for name in MASKS if name in taken), None)


class PaddingGuard:
    """Lets convolutions of a padded batch see zeros beyond each clip's end, and norms over time nothing of it.

    A layer is told by the length of its input which clips end where: the lengths go through the convolutions with it.
    """

    def __init__(self, model: nn.Module) -> None:
        self._running = threading.local()
        for module in model.modules():
            if isinstance(module, nn.Conv1d):
                module.register_forward_pre_hook(self._before_convolution)
            elif isinstance(module, nn.GroupNorm):
                module.register_forward_hook(self._after_group_norm)

    def __deepcopy__(self, memo: object) -> PaddingGuard:
        """Return itself: it holds nothing of the model."""
        return self

    @contextmanager
    def over(self, lengths: Sequence[int]) -> Iterator[None]:
        """Watch a pass over inputs of clips with so many features each; where all have as many there is no padding."""
        self._running.ends = {max(lengths): list(lengths)} if min(lengths) < max(lengths) else {}
        try:
            yield
        finally:
            self._running.ends = {}

    def _ends(self, values: Tensor) -> list[int] | None:
        ends: dict[int, list[int]] = getattr(self._running, "ends", {})
        return ends.get(values.shape[-1]) if values.ndim == 3 else None

    def _before_convolution(self, module: nn.Conv1d, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        values: Tensor = inputs[0]
        own = self._ends(values)
        if own is None:
            return None
        window = module.dilation[0] * (module.kernel_size[0] - 1)
        added = window if module.padding == "same" else 0 if module.padding == "valid" else 2 * int(module.padding[0])
        after = [max(0, (length + added - window - 1) // module.stride[0] + 1) for length in (values.shape[-1], *own)]
        self._running.ends.setdefault(after[0], after[1:])
        padding = padding_mask(own, values.shape[-1], values.device)
        return None if padding is None or not added else (values.masked_fill(padding[:, None], 0.0), *inputs[1:])

    def _after_group_norm(self, module: nn.GroupNorm, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
        values: Tensor = inputs[0]
        own = self._ends(values)
        if own is None:
            return None
        if not takes_clips_alone(values.device):
            return _norm_groups(values, own, module)
        for row, length in enumerate(own):
            clip = values[row : row + 1, :, :length]
            output[row, :, :length] = group_norm(clip, module.num_groups, module.weight, module.bias, module.eps)[0]
        return output


def _norm_groups(values: Tensor, own: Sequence[int], module: nn.GroupNorm) -> Tensor:
    """Norm `[batch, channels, frames]` by each clip's own frames, all clips at once; zero groups beyond their ends."""
    groups = torch.unflatten(values.mT, -1, (module.num_groups, -1))
    _, centred, count = centre(groups, own, over=(1, 3))
    variance = centred.square().sum((1, 3), keepdim=True) / count
    normed = (centred / torch.sqrt(variance + module.eps)).to(values).flatten(2).mT
    if module.weight is None:
        return normed
    return normed * module.weight[:, None] + module.bias[:, None]
