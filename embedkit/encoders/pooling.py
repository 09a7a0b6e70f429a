"""Mean and standard deviation of every clip's own frames, padding left out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from embedkit.devices import takes_clips_alone
from embedkit.encoders.device_copies import lengths_on
from embedkit.kernels import using_threads


def pool_frames(values: Tensor, own: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return mean and population standard deviation `[batch, dimensions]` of each clip's own frames, in float32.

    On a CPU each clip is reduced by itself, so that the result is the same to the bit whatever the padding; on other
    devices padding is masked. Deviations are taken from the mean (two passes).

    Args:
        values: `[batch, frames, dimensions]`; padding may hold anything.
        own: Own frames of each clip.
    """
    return _pool_each(values, own) if takes_clips_alone(values.device) else pool_masked(values, own)


def _pool_each(values: Tensor, own: Sequence[int]) -> tuple[Tensor, Tensor]:
    means, variances = [], []
    # A clip's layer is so small that threads would wait for each other four times as long as one takes.
    with using_threads(1):
        for clip, length in zip(values, own, strict=True):
            mean, variance = _moments(clip[:length])
            means.append(mean)
            variances.append(variance)
    return torch.stack(means).float(), torch.stack(variances).float().sqrt_()


def _moments(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and population variance over `[frames, dimensions]`, in float64; NaN without frames."""
    if not len(frames):
        unknown = frames.new_full(frames.shape[1:], torch.nan, dtype=torch.float64)
        return unknown, unknown
    # One call for what sums and squares take five; in float64, because it adds frame after frame.
    mean, variance = torch.batch_norm_update_stats(frames.double().contiguous(), None, None, 0.0)
    return mean, variance


def pool_masked(values: Tensor, own: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Do what `pool_frames` does for all clips `[batch, frames, dimensions]` at once."""
    mean, counts, padding = _masked_mean(values, own)
    squares = (values.float() - mean[:, None]).masked_fill_(padding, 0.0).square_()
    return mean, (squares.sum(dim=1) / counts).sqrt_()


def mean_frames(values: Tensor, own: Sequence[int]) -> Tensor:
    """Return the mean `[batch, dimensions]` of each clip's own frames, in float32, with gradients."""
    if takes_clips_alone(values.device):
        return torch.stack([clip[:length].float().mean(dim=0) for clip, length in zip(values, own, strict=True)])
    return _masked_mean(values, own)[0]


def _masked_mean(values: Tensor, own: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Return means `[batch, dimensions]`, own frames `[batch, 1]`, and what is padding, `[batch, frames, 1]`."""
    counts = lengths_on(own, values.device)[:, None]
    padding = (torch.arange(values.shape[1], device=values.device) >= counts)[..., None]
    return values.float().masked_fill(padding, 0.0).sum(dim=1) / counts, counts, padding
