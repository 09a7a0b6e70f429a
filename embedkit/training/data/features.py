"""Embeddings as heads read them: one copy in memory or on disk, gathered by index, standardised by fold."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedkit.devices import to_float64
from embedkit.errors import StoreError
from embedkit.heads.base import HeadInputs, Pool
from embedkit.heads.frames import average_runs
from embedkit.kernels import cached_pieces
from embedkit.system import read_memory
from embedkit.training.data.folds import Indices, Names


@dataclass(frozen=True, kw_only=True)
class Standardiser:
    """Mean and inverse standard deviation of a training set, float32 `[layers, dimensions]` (or stacked)."""

    mean: Tensor
    scale: Tensor

    @classmethod
    def from_moments(cls, mean: NDArray[np.float64], variance: NDArray[np.float64]) -> Standardiser:
        """Build one from float64 moments `[layers, dimensions]`; a dimension that never varies is only centred."""
        deviation = np.sqrt(np.maximum(variance, 0.0))
        constant = deviation <= 1e-6 * np.maximum(1.0, np.abs(mean))
        scale = np.where(constant, 1.0, 1.0 / np.where(constant, 1.0, deviation))
        return cls(mean=torch.from_numpy(mean.astype(np.float32)), scale=torch.from_numpy(scale.astype(np.float32)))

    @classmethod
    def identity(cls, like: Standardiser) -> Standardiser:
        """Build one of the same shape that leaves everything as it is."""
        return cls(mean=torch.zeros_like(like.mean), scale=torch.ones_like(like.scale))

    @classmethod
    def stack(cls, parts: list[Standardiser], device: torch.device) -> Standardiser:
        """Join the standardisers of several groups: `[groups, layers, dimensions]`."""
        return cls(
            mean=torch.stack([part.mean for part in parts]).to(device),
            scale=torch.stack([part.scale for part in parts]).to(device),
        )

    def first(self, dimensions: int) -> Standardiser:
        """Return the same for the first dimensions alone: means without deviations."""
        return Standardiser(mean=self.mean[..., :dimensions], scale=self.scale[..., :dimensions])

    def take(self, groups: Indices) -> Standardiser:
        """Return the standardisers of some of the groups, `[n]`."""
        rows = torch.from_numpy(groups).to(self.mean.device)
        return Standardiser(mean=self.mean[rows], scale=self.scale[rows])

    def apply(self, values: Tensor) -> Tensor:
        """Standardise `[groups, ..., layers, dimensions]` in place, group by group."""
        shape = (self.mean.shape[0], *[1] * (values.dim() - 3), *self.mean.shape[1:])
        return values.sub_(self.mean.view(shape)).mul_(self.scale.view(shape))

    def lay_out(self, values: Tensor, groups: slice, out: Tensor) -> None:
        """Standardise `[n, batch, layers, dimensions]`, which is lost, into `[n, layers, batch, dimensions]`."""
        centred = values.sub_(self.mean[groups].unsqueeze(1))
        torch.mul(centred.transpose(1, 2), self.scale[groups].unsqueeze(2), out=out)


class Features(ABC):
    """The embeddings of a study's utterances.

    Attributes:
        level: "utterance" or "frame".
        layers, dimensions: Shape of one vector.
        device: Where gathered batches are put.
        live: Whether an encoder runs whenever something is gathered.
    """

    level: str
    layers: int
    dimensions: int
    device: torch.device
    live = False

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of utterances."""

    @abstractmethod
    def moments(self, index: Indices) -> Standardiser:
        """Compute the standardiser of a training set from exactly these utterances, `[n]`."""

    @abstractmethod
    def normalise_by(self, owners: Names) -> None:
        """Centre and scale the utterances of each owner (speaker), `[utterances]`, by the statistics of all of them.

        What belongs to an owner with a single vector becomes zero. Utterances of test sets take part in these
        statistics, though never their labels.
        """

    def norms_of(self, owners: Names) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return by what each utterance is shifted and scaled, `[utterances, layers, dimensions]` both."""
        norms = np.empty((2, len(self), self.layers, self.dimensions), dtype=np.float32)
        for index in members_of(owners):
            own = self.moments(index)
            norms[0, index], norms[1, index] = own.mean.numpy(), own.scale.numpy()
        return norms[0], norms[1]

    @abstractmethod
    def gather(self, index: Indices, standardiser: Standardiser) -> HeadInputs:
        """Collect utterances `[groups, batch]` and standardise each group by its own statistics."""

    def averaged(self, run: int) -> Features:
        """Return the same with every `run` neighbouring frames averaged into one, where that saves doing it again."""
        return self

    def pooled(self, pool: Pool) -> Features:
        """Return what a head reads that pools so: the same, or of means and deviations the means alone."""
        return self

    @property
    def durations(self) -> NDArray[np.int64] | None:
        """Frames per utterance, `[utterances]`, for batches of similar length; None where length does not matter."""
        return None

    def train(self, training: bool) -> None:
        """Say whether what is gathered next is trained on; it matters where an encoder is trained as well."""
        return

    def step(self) -> None:
        """Let an encoder that is trained follow the gradient of what was gathered last."""
        return

    def keep(self) -> None:
        """Remember an encoder that is trained as it is now: its head is the best so far."""
        return


class UtteranceFeatures(Features):
    """Utterance means `[utterances, layers, dimensions]`, held once.

    Args:
        values: The means, or means and deviations side by side.
        means: How many of the dimensions are means; None for all.
    """

    level = "utterance"

    def __init__(
        self, values: NDArray[np.float32], device: torch.device | str = "cpu", means: int | None = None
    ) -> None:
        self.device = torch.device(device)
        self.values = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(self.device)
        self.layers, self.dimensions = self.values.shape[1:]
        self.means = means or self.dimensions

    def pooled(self, pool: Pool) -> UtteranceFeatures:
        return MeansAlone(self) if pool == "mean" and self.means < self.dimensions else self

    def __len__(self) -> int:
        return int(self.values.shape[0])

    def moments(self, index: Indices) -> Standardiser:
        parts = cut_chunks(index)
        mean = reduce(torch.add, (_sum(self.read(part)) for part in parts)) / len(index)
        squares = reduce(torch.add, (_sum(self.read(part), mean) for part in parts))
        return Standardiser.from_moments(mean.cpu().numpy(), (squares / len(index)).cpu().numpy())

    def normalise_by(self, owners: Names) -> None:
        for index in members_of(owners):
            rows = torch.from_numpy(index).to(self.device)
            own = Standardiser.stack([self.moments(index)], self.device)
            self.values[rows] = own.apply(self.values[rows][None])[0]

    def read(self, index: Indices) -> Tensor:
        """Return a copy of some utterances' means, `[n, layers, dimensions]`."""
        return self.values.index_select(0, self.tensor(index))

    def tensor(self, index: Indices) -> Tensor:
        """Put indices `[n]` where the values are."""
        return torch.from_numpy(index).to(self.device)

    @property
    def at_once(self) -> bool:
        """Whether a mini-batch is read for all groups together; else piece by piece, in a processor's cache."""
        return self.device.type != "cpu"

    def gather(self, index: Indices, standardiser: Standardiser) -> HeadInputs:
        groups, batch = index.shape
        laid_out = torch.empty(groups, self.layers, batch, self.dimensions, device=self.device)
        for own in cached_pieces(groups, batch * self.layers * self.dimensions, at_once=self.at_once):
            values = self.read(index[own].reshape(-1)).view(-1, batch, self.layers, self.dimensions)
            standardiser.lay_out(values, own, laid_out[own])
        return HeadInputs(values=laid_out.transpose(1, 2))


class MeansAlone(UtteranceFeatures):
    """The means of embeddings that hold deviations as well."""

    def __init__(self, whole: UtteranceFeatures) -> None:
        self.whole, self.device = whole, whole.device
        self.layers, self.dimensions = whole.layers, whole.means
        self.means = whole.means

    def __len__(self) -> int:
        return len(self.whole)

    @property
    def at_once(self) -> bool:
        return self.whole.at_once

    def read(self, index: Indices) -> Tensor:
        return self.whole.read(index)[..., : self.dimensions].contiguous()


class StreamedFeatures(UtteranceFeatures):
    """Utterance means that stay on disk and are read by the mini-batch, with the same result.

    Args:
        take: Reads rows `[n]` of means, or of means and deviations side by side, `[n, layers, dimensions]`.
        rows: The row of each utterance.
        shape: Layers and dimensions.
        means: How many of the dimensions are means.
    """

    def __init__(
        self,
        take: Callable[[Indices], NDArray[np.float32]],
        rows: Indices,
        shape: tuple[int, int],
        device: torch.device | str = "cpu",
        means: int | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.take, self.rows = take, rows
        self.layers, self.dimensions = shape
        self.means = means or self.dimensions
        self.owners: Indices | None = None
        self.norms: list[Standardiser] = []

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def at_once(self) -> bool:
        return True

    def normalise_by(self, owners: Names) -> None:
        members = members_of(owners)
        norms = [self.moments(index) for index in members]
        numbers = np.empty(len(self), dtype=np.int64)
        for number, index in enumerate(members):
            numbers[index] = number
        self.owners, self.norms = numbers, norms

    def read(self, index: Indices) -> Tensor:
        values = torch.from_numpy(self.take(self.rows[index]))
        if self.owners is not None:
            own = Standardiser.stack([self.norms[number] for number in self.owners[index]], values.device)
            values = own.apply(values[:, None])[:, 0]
        return values.to(self.device)


CHUNK = 4096
"""Utterances of which moments are summed at once: in the same order, in memory or not."""


COLUMNS = 1024
"""Dimensions of all layers that are in float64 at once: a multiple of what processors add together, so that every sum
keeps its bits."""


def cut_chunks(index: Indices) -> list[Indices]:
    return [index[start : start + CHUNK] for start in range(0, len(index), CHUNK)]


def _sum(values: Tensor, mean: Tensor | None = None) -> Tensor:
    """Add up utterances `[n, layers, dimensions]` in float64, or the squares of what they are off a mean."""
    columns = torch.split(values.flatten(1), COLUMNS, 1)
    if mean is None:
        sums = [to_float64(own).sum(0) for own in columns]
    else:
        middles = torch.split(mean.flatten(), COLUMNS)
        sums = [to_float64(own).sub_(middle).square_().sum(0) for own, middle in zip(columns, middles, strict=True)]
    return torch.cat(sums).view(values.shape[1:])


class FrameFeatures(Features):
    """Frames of all utterances in one flat array `[frames, layers, dimensions]`, possibly on disk.

    Args:
        values: Flat frames, any float type; read by slices, so a memory map stays on disk.
        starts, lengths: First row and number of rows of each utterance.
        means, deviations: Utterance statistics `[utterances, layers, dimensions]`; with the lengths they give the
            moments over frames without a pass over the frames.
        layers: Which layers of `values` are read, as many as the statistics have.
    """

    level = "frame"
    run = 1

    def __init__(
        self,
        values: Any,
        starts: Indices,
        lengths: Indices,
        means: NDArray[np.float32],
        deviations: NDArray[np.float32],
        device: torch.device | str = "cpu",
        layers: slice = slice(None),
    ) -> None:
        self.values, self.starts, self.lengths, self.kept = values, starts, lengths, layers
        self.means, self.deviations = means, deviations
        self.shifts: NDArray[np.float32] | None = None
        self.factors: NDArray[np.float32] | None = None
        self.device = torch.device(device)
        self.layers, self.dimensions = means.shape[1:]
        self._averaged: dict[int, AveragedFrames] = {}

    def __len__(self) -> int:
        return len(self.starts)

    def averaged(self, run: int) -> FrameFeatures:
        if run != self.run and run not in self._averaged:
            self._averaged[run] = AveragedFrames(self, run)
        return self if run == self.run else self._averaged[run]

    def read(self, utterance: int) -> NDArray[Any]:
        """Return the frames `[frames, layers, dimensions]` of an utterance."""
        start = self.starts[utterance]
        frames: NDArray[Any] = self.values[start : start + self.lengths[utterance]][:, self.kept]
        return frames

    @property
    def durations(self) -> NDArray[np.int64] | None:
        return self.lengths

    def moments(self, index: Indices) -> Standardiser:
        weights = (self.lengths[index] / self.lengths[index].sum())[:, None, None]
        means = self.means[index].astype(np.float64)
        squares = self.deviations[index].astype(np.float64) ** 2 + means**2
        mean = (weights * means).sum(0)
        return Standardiser.from_moments(mean, (weights * squares).sum(0) - mean**2)

    def normalise_by(self, owners: Names) -> None:
        self.shifts, self.factors = shifts, factors = self.norms_of(owners)
        self.means, self.deviations = (self.means - shifts) * factors, self.deviations * factors

    def gather(self, index: Indices, standardiser: Standardiser) -> HeadInputs:
        lengths = -(-self.lengths[index] // self.run)
        padded = np.zeros((*index.shape, int(lengths.max()), self.layers, self.dimensions), dtype=np.float32)
        for place in np.ndindex(*index.shape):
            length = lengths[place]
            padded[place][:length] = self.read(int(index[place]))
            if self.shifts is not None and self.factors is not None:
                padded[place][:length] -= self.shifts[index[place]]
                padded[place][:length] *= self.factors[index[place]]
        # Either is NaN where anything is.
        if not np.isfinite([padded.min(), padded.max()]).all():
            raise StoreError("The frames of a store are not finite; run embedkit verify on it.")
        values = standardiser.apply(torch.from_numpy(padded).to(self.device))
        own = torch.from_numpy(lengths).to(self.device)
        padding = torch.arange(values.shape[2], device=self.device) >= own[..., None]
        return HeadInputs(values=values.masked_fill_(padding[..., None, None], 0.0), lengths=own, run=self.run)


class AveragedFrames(FrameFeatures):
    """Frames of which every `run` neighbours are averaged into one: once, or where memory is short whenever read."""

    def __init__(self, whole: FrameFeatures, run: int) -> None:
        super().__init__(
            whole.values, whole.starts, whole.lengths, whole.means, whole.deviations, whole.device, whole.kept
        )
        self.shifts, self.factors, self.run = whole.shifts, whole.factors, run
        # A memory map stays on disk, and rows that utterances share stay shared.
        own = 4 * int((-(-self.lengths // run)).sum()) * self.layers * self.dimensions
        in_memory = type(whole.values) is np.ndarray and own <= 2 * whole.values.nbytes
        self._averages = [self._average(utterance) for utterance in range(len(self))] if in_memory else None

    def read(self, utterance: int) -> NDArray[Any]:
        return self._average(utterance) if self._averages is None else self._averages[utterance]

    def _average(self, utterance: int) -> NDArray[Any]:
        values = torch.from_numpy(np.array(super().read(utterance), dtype=np.float32))
        whole = HeadInputs(values=values[None, None], lengths=torch.tensor([[len(values)]]))
        return average_runs(whole, self.run).values[0, 0].numpy()


MOST_HELD = 3e9
"""Bytes of utterance means above which they stay on disk: reading them by the mini-batch takes no longer."""


def fits_in_memory(size: int, memory_gb: float | None, most: float = math.inf) -> bool:
    """Tell whether so many bytes may be held; None for at most a quarter of the machine's memory, and `most`."""
    return size < min(memory_for(memory_gb) * 1e9, math.inf if memory_gb is not None else most)


def memory_for(memory_gb: float | None) -> float:
    """Return how many gigabytes embeddings may take; None for a quarter of the machine's memory."""
    return read_memory().total / 4e9 if memory_gb is None else memory_gb


def members_of(owners: Names) -> list[Indices]:
    return [np.flatnonzero(owners == owner) for owner in np.unique(owners)]
