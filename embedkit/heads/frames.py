"""What heads on frames share: which frames are an utterance's own, and pooling over them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from embedkit.heads.base import HeadInputs
from embedkit.heads.layers import LayerMix


def own_frames(inputs: HeadInputs) -> Tensor:
    """Return bool `[groups, batch, frames]`: True where a frame is the utterance's own, not padding."""
    positions = torch.arange(inputs.values.shape[2], device=inputs.values.device)
    return positions < own_lengths(inputs).unsqueeze(-1)


def own_lengths(inputs: HeadInputs) -> Tensor:
    """Return int64 `[groups, batch]`: own frames of each utterance."""
    assert inputs.lengths is not None, "a head on frames is given lengths"
    return inputs.lengths


def average_runs(inputs: HeadInputs, run: int) -> HeadInputs:
    """Average every `run` neighbouring frames into one; an utterance's last run over the own frames it holds.

    Inputs that are such averages already are returned as they are.
    """
    if run == inputs.run:
        return inputs
    frames = inputs.values.shape[2]
    runs = (frames + run - 1) // run
    filled = F.pad(inputs.values, (0, 0, 0, 0, 0, runs * run - frames))
    starts = run * torch.arange(runs, device=filled.device)
    own = (own_lengths(inputs).unsqueeze(-1) - starts).clamp(1, run).to(filled.dtype)
    sums = filled.view(*filled.shape[:2], runs, run, *filled.shape[3:]).sum(3)
    return HeadInputs(values=sums / own[..., None, None], lengths=(own_lengths(inputs) + run - 1) // run, run=run)


def mix_frames(mix: LayerMix, values: Tensor) -> Tensor:
    """Mix `[groups, batch, frames, layers, dimensions]` into `[groups, members or 1, batch, frames, dimensions]`."""
    mixed: Tensor = mix(values.flatten(1, 2))
    return split_frames(mixed, values.shape[2])


def split_frames(values: Tensor, frames: int) -> Tensor:
    """Split dimension 2 of `[groups, members, batch * frames, ...]` in two."""
    return values.reshape(*values.shape[:2], -1, frames, *values.shape[3:])


def even_weights(own: Tensor, dtype: torch.dtype) -> Tensor:
    """Return `[groups, 1, batch, frames]`: every own frame's share of the utterance's mean."""
    weights = own.to(dtype).unsqueeze(1)
    return weights / weights.sum(-1, keepdim=True)


def attend(energies: Tensor, own: Tensor) -> Tensor:
    """Turn energies `[groups, members, batch, frames]` into weights over own frames that sum to one."""
    return energies.masked_fill(~own.unsqueeze(1), -torch.inf).softmax(-1)


def pool(weights: Tensor, frames: Tensor) -> Tensor:
    """Sum frames `[groups, members or 1, batch, frames, features]` under every head's weights over frames.

    Returns `[groups, members, batch, features]`.
    """
    if frames.shape[1] == weights.shape[1]:
        return torch.matmul(weights.unsqueeze(-2), frames).squeeze(-2)
    return torch.matmul(weights.transpose(1, 2), frames.squeeze(1)).transpose(1, 2)
