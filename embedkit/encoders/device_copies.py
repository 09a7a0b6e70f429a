"""Copies between the host and a GPU that wait for nothing and run beside its computing."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from embedkit.devices import takes_clips_alone


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor of any shape, `[...]`, to a device; to a GPU from pinned memory, on a stream of its own."""
    if device.type != "cuda":
        return values.to(device)
    current, side = torch.cuda.current_stream(device), _side_stream(device, "up")
    with torch.cuda.stream(side):
        moved = values.pin_memory().to(device, non_blocking=True)
    current.wait_stream(side)
    # Its memory belongs to the side stream, which must not hand it out again while the current one reads it.
    moved.record_stream(current)
    return moved


def lengths_on(lengths: Sequence[int], device: torch.device) -> Tensor:
    """Return lengths as an int64 tensor `[clips]` on a device."""
    return to_device(torch.tensor(lengths), device)


def clips_on(clips: Sequence[Tensor], device: torch.device) -> Tensor:
    """Return clips `[samples]` of the CPU as one batch `[clips, samples]` on a device, zeros beyond the end of each."""
    if takes_clips_alone(device):
        return to_device(pad_sequence(list(clips), batch_first=True), device)
    joined = to_device(torch.cat(list(clips)), device)
    own = lengths_on([len(clip) for clip in clips], device)[:, None]
    place = torch.arange(max(map(len, clips)), device=device)
    index = (own.cumsum(0) - own + place).clamp_(max=len(joined) - 1)
    return joined[index].masked_fill_(place >= own, 0.0)


class ToHost:
    """Copies to pinned host memory beside whatever the device computes next; whole after `wait`."""

    def __init__(self) -> None:
        self._done: Any = None

    def __call__(self, values: Tensor) -> Tensor:
        """Start a copy, or where it cannot run beside anything make it; a tensor on the CPU is returned as it is."""
        if values.device.type != "cuda":
            return values.cpu()
        side = _side_stream(values.device, "down")
        side.wait_stream(torch.cuda.current_stream(values.device))
        with torch.cuda.stream(side):
            host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            host.copy_(values, non_blocking=True)
            self._done = side.record_event()
        values.record_stream(side)
        return host

    def wait(self) -> None:
        """Wait for every copy that was started."""
        if self._done is not None:
            self._done.synchronize()


@cache
def _side_stream(device: torch.device, direction: str) -> Any:
    """Return one stream for each direction: what goes up does not wait for what comes down, nor for what makes it."""
    stream: Any = torch.cuda.Stream
    return stream(device)
