"""Batches of unequal clips in which each clip gets exactly what it would get alone.

Padding can leak in three places, and each is closed here: statistics over time (the group norm after the first
convolution), convolutions that look beyond a clip's end (the positional one), and attention to padded frames.
Sequences are `[batch, frames, channels]` in memory throughout, which convolutions call "channels last".
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, layer_norm, linear
from torch.nn.utils.rnn import pad_sequence

from embedkit.devices import takes_clips_alone, to_float64
from embedkit.encoders.device_copies import lengths_on
from embedkit.encoders.kernels import pack_product

BLOCK_FRAMES = 32
"""Frames that pass through all convolutions at a time on a CPU: what lies between stays in its cache."""


def padding_mask(lengths: Sequence[int], frames: int, device: torch.device) -> Tensor | None:
    """Return `[batch, frames]`, True beyond each clip's end; None where no clip is padded."""
    if min(lengths) == frames:
        return None
    return torch.arange(frames, device=device) >= lengths_on(lengths, device)[:, None]


def attention_bias(padding: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Return what is added to attention scores, `[batch, 1, 1, frames]`: minus infinity on padded keys."""
    if padding is None:
        return None
    bias = torch.zeros(padding.shape, dtype=dtype, device=padding.device)
    return bias.masked_fill_(padding, float("-inf"))[:, None, None]


def centre(values: Tensor, lengths: Sequence[int], over: Sequence[int] = (1,)) -> tuple[Tensor, Tensor, Tensor]:
    """Take the mean of each clip's own values, in float64, away from them.

    Args:
        values: `[batch, time, ...]`.
        lengths: Own times of each clip.
        over: Axes that the mean is taken over, time among them.

    Returns:
        The mean, what is left, zero beyond each clip's end, and of how many values the mean is, `[batch, 1, ...]`.
    """
    exact = to_float64(values)
    shape = (-1, *[1] * (values.ndim - 1))
    own = lengths_on(lengths, exact.device).view(shape)
    padding = torch.arange(values.shape[1], device=exact.device).view(1, *shape[:-1]) >= own
    count = own * math.prod(values.shape[axis] for axis in over if axis != 1)
    mean = exact.masked_fill(padding, 0.0).sum(tuple(over), keepdim=True) / count
    return mean, (exact - mean).masked_fill(padding, 0.0), count


def silence(values: Tensor, padding: Tensor | None) -> Tensor:
    """Set the padded frames of `[batch, frames, channels]` to zero."""
    return values if padding is None else values.masked_fill(padding[..., None], 0.0)


class ConvStack:
    """The convolutional feature encoder of wav2vec 2.0 and its relatives.

    The first layer, which alone may have a norm over time, is always computed in fp32.

    Args:
        layers: Layers of a transformers feature encoder (`conv`, `activation`, perhaps `layer_norm`).
        dtype: Number format of all layers but the first.
        trainable: Whether the layers' weights may change, and are read anew in every pass.
    """

    def __init__(self, layers: Iterable[nn.Module], dtype: torch.dtype, *, trainable: bool = False) -> None:
        self._modules = list(layers)
        first, *rest = self._modules
        over_time = isinstance(getattr(first, "layer_norm", None), nn.GroupNorm)
        self.layers = [
            (_TimeNormedConvLayer if over_time else _FirstConvLayer)(first, dtype, trainable),
            *(_ConvLayer(layer, dtype, trainable) for layer in rest),
        ]

    def __call__(self, waveforms: Tensor, lengths: Sequence[int]) -> tuple[Tensor, list[int]]:
        """Encode a padded batch.

        Args:
            waveforms: `[batch, samples]`.
            lengths: Own samples of each clip.

        Returns:
            Features `[batch, frames, channels]`, and the own frames of each clip.
        """
        if takes_clips_alone(waveforms.device) and not self._learns():
            clips = [self._in_blocks(clip[:length]) for clip, length in zip(waveforms, lengths, strict=True)]
            return pad_sequence(clips, batch_first=True), list(map(len, clips))
        first, *rest = self.layers
        with torch.autocast(waveforms.device.type, enabled=False):
            values, own = first(waveforms[..., None], list(lengths))
        for layer in rest:
            values, own = layer(values, own)
        return values, own

    def _learns(self) -> bool:
        return any(weight.requires_grad for module in self._modules for weight in module.parameters())

    def _in_blocks(self, clip: Tensor) -> Tensor:
        """Encode one clip `[samples]`, some frames at a time: `[frames, channels]`."""
        first, *rest = self.layers
        with torch.autocast("cpu", enabled=False):
            products = [layer.product(clip) for layer in self.layers]
        frames, hop, window = self.frames(len(clip)), self.hop(), self.smallest_input()
        blocks = []
        for start in range(0, frames, BLOCK_FRAMES):
            last = min(start + BLOCK_FRAMES, frames) - 1
            with torch.autocast("cpu", enabled=False):
                values = first.over(clip[start * hop : last * hop + window, None], products[0])
            for layer, product in zip(rest, products[1:], strict=True):
                values = layer.over(values, product)
            blocks.append(values)
        return torch.cat(blocks)

    def frames(self, samples: int) -> int:
        """Return how many frames a clip of so many samples has."""
        for layer in self.layers:
            samples = layer.length(samples)
        return samples

    def smallest_input(self) -> int:
        """Return the samples that give one frame."""
        samples = 1
        for layer in reversed(self.layers):
            samples = (samples - 1) * layer.stride + layer.kernel
        return samples

    def hop(self) -> int:
        """Return the samples from one frame to the next."""
        hop = 1
        for layer in self.layers:
            hop *= layer.stride
        return hop


class _ConvLayer:
    def __init__(self, layer: Any, dtype: torch.dtype, trainable: bool) -> None:
        self.kernel: int = layer.conv.kernel_size[0]
        self.stride: int = layer.conv.stride[0]
        self.dtype = dtype
        self.weights = _Weights(layer.conv, dtype, trainable)
        self.norm = _kept(getattr(layer, "layer_norm", None), dtype, trainable)
        self.activation = layer.activation
        self.packed = None if trainable or layer.conv.weight.device.type != "cpu" else pack_product(*self._flat())

    def length(self, samples: int) -> int:
        return max(0, (samples - self.kernel) // self.stride + 1)

    def __call__(self, values: Tensor, lengths: Sequence[int]) -> tuple[Tensor, list[int]]:
        own = [self.length(length) for length in lengths]
        return self.finish(_convolve(values.to(self.dtype), *self.weights(), stride=self.stride)), own

    def product(self, clip: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the convolution of a clip `[samples]` by windows: `[frames, values]` to `[frames, channels]`."""
        if self.packed is not None:
            return self.packed
        weight, bias = self._flat()
        return partial(linear, weight=weight, bias=bias)

    def over(self, values: Tensor, product: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the layer over `[time, inputs]`, its convolution by a product: `[frames, channels]`."""
        inputs = values.shape[1]
        windows = values.to(self.dtype).flatten().unfold(0, self.kernel * inputs, self.stride * inputs)
        return self.finish(product(windows))

    def finish(self, values: Tensor) -> Tensor:
        """Return the layer's values after its convolution."""
        result: Tensor = self.activation(values if self.norm is None else self.norm(values))
        return result

    def _flat(self) -> tuple[Tensor, Tensor | None]:
        """Return the weight as `[channels, kernel * inputs]`, and the bias."""
        weight, bias = self.weights()
        return weight[:, :, 0].transpose(1, 2).flatten(1), bias


class _FirstConvLayer(_ConvLayer):
    """A convolution of the waveform in fp32.

    Args:
        layer: A layer of a transformers feature encoder.
        dtype: Number format of what it gives.
    """

    def __init__(self, layer: Any, dtype: torch.dtype, trainable: bool) -> None:
        super().__init__(layer, torch.float32, trainable)
        self.result_dtype = dtype

    def finish(self, values: Tensor) -> Tensor:
        """Return the layer's values after its convolution."""
        return super().finish(values).to(self.result_dtype)


class _TimeNormedConvLayer(_FirstConvLayer):
    """A convolution of the waveform in fp32, each channel then normalised over the clip's own frames.

    Every output is a product of a window of samples with the kernel, so that its mean and variance over time follow
    from those of the windows. They are taken in float64 and folded into kernel and bias, one of each per clip:
    more exact than the norm itself, and no pass over the outputs.
    """

    norm: nn.GroupNorm

    def __call__(self, values: Tensor, lengths: Sequence[int]) -> tuple[Tensor, list[int]]:
        own = [self.length(length) for length in lengths]
        windows = values[..., 0].unfold(-1, self.kernel, self.stride)
        if takes_clips_alone(values.device):
            folded = [self._fold(windows[row, :length]) for row, length in enumerate(own)]
            kernels, biases = (torch.stack(parts) for parts in zip(*folded, strict=True))
        else:
            mean, centred, count = centre(windows, own)
            kernels, biases = self._fold_by(mean[:, 0], centred.mT @ centred / count, values.device)
        return self.finish(torch.baddbmm(biases[:, None], windows, kernels)), own

    def product(self, clip: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the convolution of a clip `[samples]`, and its norm, as a map of windows."""
        kernel, bias = self._fold(clip.unfold(-1, self.kernel, self.stride))
        return partial(linear, weight=kernel.T, bias=bias)

    def finish(self, values: Tensor) -> Tensor:
        """Return the layer's values after its convolution and norm."""
        result: Tensor = self.activation(values)
        return result.to(self.result_dtype)

    def _fold(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Return kernel `[samples, channels]` and bias `[channels]` for a clip's windows `[frames, samples]`."""
        exact = to_float64(windows)
        mean = exact.mean(0)
        centred = exact - mean
        return self._fold_by(mean, centred.T @ centred / len(centred), windows.device)

    def _fold_by(self, mean: Tensor, covariance: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return kernel and bias by the mean `[..., samples]` and the covariance `[..., samples, samples]`."""
        kernel = to_float64(self.weights()[0][:, 0, 0].T)
        variance = (kernel * (covariance @ kernel)).sum(-2)
        scale = to_float64(self.norm.weight) / torch.sqrt(variance + self.norm.eps)
        bias = to_float64(self.norm.bias) - (mean @ kernel) * scale
        return (kernel * scale[..., None, :]).float().to(device), bias.float().to(device)


class PositionalConv:
    """The convolutional position embedding, over padded batches.

    Handles the weight-normalised one, HuBERT's with a batch norm before it, and data2vec's stack of several.

    Args:
        module: `pos_conv_embed` of a transformers encoder.
        dtype: Number format.
        trainable: Whether its weights may change, and are read anew in every pass.
    """

    def __init__(self, module: Any, dtype: torch.dtype, *, trainable: bool = False) -> None:
        self.batch_norm = _kept(getattr(module, "batch_norm", None), dtype, trainable)
        self.stages = [_PositionalStage(stage, dtype, trainable) for stage in getattr(module, "layers", [module])]

    def __call__(self, values: Tensor, padding: Tensor | None) -> Tensor:
        """Return the embedding of `[batch, frames, channels]`, same shape."""
        if self.batch_norm is not None:
            values = self.batch_norm(values.transpose(1, 2)).transpose(1, 2)
        for stage in self.stages:
            values = stage(silence(values, padding))
        return values


class _PositionalStage:
    def __init__(self, stage: Any, dtype: torch.dtype, trainable: bool) -> None:
        self.weights = _Weights(stage.conv, dtype, trainable)
        self.groups: int = stage.conv.groups
        self.padding: int = stage.conv.padding[0]
        self.surplus = 1 - stage.conv.kernel_size[0] % 2
        self.normalised = hasattr(stage, "layer_norm")
        self.activation = stage.activation

    def __call__(self, values: Tensor) -> Tensor:
        frames = values.shape[1]
        values = _convolve(values, *self.weights(), padding=self.padding, groups=self.groups)
        if self.surplus:
            values = values[:, :frames]
        if self.normalised:
            values = layer_norm(values, values.shape[-1:])
        result: Tensor = self.activation(values)
        return result


class _Weights:
    """Weight and bias of a 1-D convolution as those of a 2-D one; a weight norm is folded in fp32."""

    def __init__(self, conv: Any, dtype: torch.dtype, trainable: bool) -> None:
        self.conv, self.dtype = conv, dtype
        self.kept = None if trainable else tuple(None if part is None else part.detach() for part in self.read())

    def __call__(self) -> Any:
        return self.kept or self.read()

    def read(self) -> tuple[Tensor, Tensor | None]:
        weight = self.conv.weight[:, :, None].to(self.dtype).contiguous(memory_format=torch.channels_last)
        return weight, None if self.conv.bias is None else self.conv.bias.to(self.dtype)


def _kept(norm: Any, dtype: torch.dtype, trainable: bool) -> Any:
    """Return a norm of the wanted type: the module itself where it is to be trained."""
    return norm if norm is None or trainable else copy.deepcopy(norm).to(dtype)


def _convolve(
    values: Tensor, weight: Tensor, bias: Tensor | None, *, stride: int = 1, padding: int = 0, groups: int = 1
) -> Tensor:
    image = values.transpose(1, 2)[:, :, None]
    result = conv2d(image, weight, bias, stride=(1, stride), padding=(0, padding), groups=groups)
    return result[:, :, 0].transpose(1, 2)
