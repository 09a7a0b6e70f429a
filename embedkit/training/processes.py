"""Several processes that train one model together: each encodes a share of every mini-batch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from embedkit.devices import resolve_device
from embedkit.errors import FitError
from embedkit.registry import import_extra


class Processes:
    """A process alone.

    Attributes:
        rank, count: Which process this is, and of how many.
        device: Where it computes; None: as asked.
    """

    rank, count = 0, 1
    device: torch.device | None = None

    def share(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return which of these utterances `[n]` this process encodes."""
        return index

    def join(self, index: NDArray[np.int64], own: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return what all processes encoded, in the order of the utterances `[n]`; gradients flow to one's own.

        Args:
            index: The utterances.
            own: What this process encoded of its share, in that order, `[share, frames or layers, ...]`.
            lengths: How many of the frames are an utterance's, `[share]`, on the CPU.

        Returns:
            The same of all utterances.
        """
        return own, lengths

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Add up the gradients of all processes."""

    def wait(self) -> None:
        """Go on once every process is here."""


ALONE = Processes()


class DistributedProcesses(Processes):
    """The processes of `accelerate launch`, each with its own device or share of the cores.

    Every process computes the heads and the loss on the whole mini-batch, from its own embeddings with gradients and
    those of the others without; the gradients of the encoder then add up to those of the whole mini-batch, for losses
    over batch statistics as well.
    """

    def __init__(self, device: str) -> None:
        from accelerate import PartialState

        state = PartialState(cpu=resolve_device(device).type != "cuda")
        self.rank, self.count, self.device = state.process_index, state.num_processes, state.device

    def share(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        # A process without a share encodes something all the same, so that all of them take part in what is sent.
        return index[self.rank :: self.count] if len(index) > self.rank else index[:1]

    def join(self, index: NDArray[np.int64], own: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        from accelerate.utils import gather, pad_across_processes

        block = pad_across_processes(pad_across_processes(own.detach(), dim=0), dim=1).contiguous()
        blocks = [*gather(block).view(self.count, *block.shape)]
        missing = [size for axis in (1, 0) for size in (0, block.shape[axis] - own.shape[axis])]
        blocks[self.rank] = pad(own, [0, 0] * (own.ndim - 2) + missing)
        sizes = gather(pad_across_processes(lengths.to(self.device), dim=0)).view(self.count, -1)
        # Each process has every so many-th utterance.
        return torch.stack(blocks, 1).flatten(0, 1)[: len(index)], sizes.T.flatten()[: len(index)].cpu()

    @torch.no_grad()
    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        from accelerate.utils import reduce

        for parameter in parameters:
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            total = reduce(gradient, reduction="sum")
            # What no process has used keeps still, as it would in one process.
            parameter.grad = total if bool(total.any()) else None

    def wait(self) -> None:
        from accelerate import PartialState

        PartialState().wait_for_everyone()


_COUNTS = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
_RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
"""Where torch's launcher and those of MPI, both behind `accelerate launch`, say how many there are and which one."""


def find_processes(device: str) -> Processes:
    """Return the processes that this one was launched with, alone where it was not.

    Args:
        device: What was asked for: of several processes "auto", "cpu" or "cuda".

    Raises:
        FitError: there are several, and the library accelerate is missing, or another device was asked for.
    """
    if count_processes() < 2:
        return ALONE
    if device not in ("auto", "cpu", "cuda"):
        raise FitError(f"The device is {device!r}, expected auto, cpu or cuda: each process takes one of its own.")
    import_extra("accelerate", extra="finetune", needed_by="Training in several processes", error=FitError)
    return DistributedProcesses(device)


def count_processes() -> int:
    """Return how many processes were launched together."""
    return _environment(_COUNTS, 1)


def is_first() -> bool:
    """Tell whether this process is the one that writes and speaks."""
    return _environment(_RANKS, 0) == 0


def _environment(names: Sequence[str], default: int) -> int:
    return next((int(os.environ[name]) for name in names if name in os.environ), default)
