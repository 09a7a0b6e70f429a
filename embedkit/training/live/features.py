"""Embeddings that are computed whenever heads read them: the encoder runs in every epoch, frozen or in training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint

from embedkit.encoders.base import Encoder
from embedkit.encoders.device_copies import to_device
from embedkit.encoders.pooling import mean_frames, pool_frames
from embedkit.extraction.batches import batch_clips
from embedkit.extraction.passes import ROUNDS, run_beside
from embedkit.extraction.threads import open_ahead
from embedkit.heads.base import HeadInputs
from embedkit.kernels import using_threads
from embedkit.training.data.features import Features, FrameFeatures, Standardiser, UtteranceFeatures
from embedkit.training.data.folds import Indices, Names
from embedkit.training.live.fine_tuner import FineTuner
from embedkit.training.processes import ALONE, Processes

Result = TypeVar("Result")

BATCH_SECONDS = {"cpu": 8.0, "cuda": 160.0, "mps": 30.0}
"""Audio in one pass, by kind of device."""


class LiveFeatures(Features):
    """The embeddings of utterances, encoded anew in every call.

    What is standardised by is measured once, with the encoder as it is then, as from a store.

    Args:
        encoder: The encoder.
        read: Returns the waveform `[samples]` of an utterance.
        samples: Samples of each utterance, at least roughly; clips of similar length share a pass.
        level: "utterance" or "frame".
        threads: Threads of the encoder on a CPU.
        processes: Each encodes its share of every mini-batch.
    """

    live = True

    def __init__(
        self,
        encoder: Encoder,
        read: Callable[[int], Tensor],
        samples: Indices,
        level: str,
        *,
        threads: int,
        processes: Processes = ALONE,
    ) -> None:
        self.encoder, self.read, self.samples, self.level = encoder, read, samples, level
        self.layers, self.dimensions = len(encoder.layers), encoder.dimensions
        self.device = torch.device(encoder.device)
        self.threads, self.processes = threads, processes
        self.pass_threads = threads
        self.tuned: FineTuner | None = None
        self.training = False
        self.owners: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None

    def __len__(self) -> int:
        return len(self.samples)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Frames of each utterance, `[utterances]`."""
        return np.array([self.encoder.frame_count(int(count)) for count in self.samples], dtype=np.int64)

    @property
    def durations(self) -> NDArray[np.int64] | None:
        return self.lengths if self.level == "frame" else None

    @cached_property
    def measured(self) -> Features:
        """Means and deviations of all utterances by the encoder as it was at first."""
        means = np.empty((len(self), self.layers, self.dimensions), dtype=np.float32)
        deviations = np.empty_like(means)
        passes = list(self._passes(np.arange(len(self))))
        for rows, (own, found) in zip(passes, self._each(self._measure, passes), strict=True):
            self.lengths[rows] = own
            means[rows], deviations[rows] = (torch.stack(part, 1).cpu().numpy() for part in zip(*found, strict=True))
        if self.level == "utterance":
            return UtteranceFeatures(means, self.device)
        starts = np.zeros(len(self), dtype=np.int64)
        return FrameFeatures(np.empty(0), starts, self.lengths, means, deviations, self.device)

    def moments(self, index: Indices) -> Standardiser:
        return self.measured.moments(index)

    def normalise_by(self, owners: Names) -> None:
        self.owners = self.norms_of(owners)
        self.measured.normalise_by(owners)

    def train(self, training: bool) -> None:
        self.training = training
        if self.tuned is not None:
            self.tuned.train(training)

    def step(self) -> None:
        if self.tuned is not None:
            self.tuned.step()

    def keep(self) -> None:
        if self.tuned is not None:
            self.tuned.keep()

    def gather(self, index: Indices, standardiser: Standardiser) -> HeadInputs:
        unique, inverse = np.unique(index, return_inverse=True)
        order = to_device(torch.from_numpy(inverse.reshape(-1)), self.device)
        found, frames = self._compute(unique)
        found = found.index_select(0, order)
        values = standardiser.apply(found.view(*index.shape, *found.shape[1:]))
        if self.level == "utterance":
            return HeadInputs(values=values)
        lengths = to_device(frames, self.device)[order].view(index.shape)
        padding = torch.arange(values.shape[2], device=self.device) >= lengths[..., None]
        return HeadInputs(values=values.masked_fill(padding[..., None, None], 0.0), lengths=lengths)

    def _compute(self, index: Indices) -> tuple[Tensor, Tensor]:
        """Return means `[utterances, layers, dimensions]` or frames `[utterances, frames, layers, dimensions]`.

        And own frames, `[utterances]`, on the CPU. The utterances are in ascending order.
        """
        tuner = self.tuned if self.training else None
        passes = list(self._passes(self.processes.share(index), 1 if tuner is None else tuner.parts))
        values, own = zip(*self._each(partial(self._pass, tuner=tuner), passes), strict=True)
        if self.level == "frame":
            longest = max(block.shape[1] for block in values)
            values = tuple(pad(block, (0, 0, 0, 0, 0, longest - block.shape[1])) for block in values)
        rows = np.concatenate(passes)
        order = torch.from_numpy(np.argsort(rows))
        joined = self._normalised(rows, torch.cat(values)).index_select(0, to_device(order, self.device))
        return self.processes.join(index, joined, torch.cat(own)[order])

    def _each(self, encode: Callable[[Indices], Result], passes: Sequence[Indices]) -> Iterator[Result]:
        """Run passes, as an extraction does: on a CPU many of them side by side, each on one core."""
        together = run_beside(self.encoder) and self.tuned is None
        if together and self.threads > 1 and len(passes) >= ROUNDS * self.threads:
            self.pass_threads = 1
            with open_ahead(self.threads, 1) as ahead:
                yield from ahead.map(encode, passes)
        else:
            self.pass_threads = self.threads
            yield from map(encode, passes)

    def _pass(self, rows: Indices, tuner: FineTuner | None) -> tuple[Tensor, Tensor]:
        """Return what `_compute` does of the utterances of one pass, in their order."""
        waves = [self.read(int(row)) for row in rows]
        if tuner is None:
            return self._collect(waves, self.encoder.encode)
        waves = [tuner.change(wave) for wave in waves]
        if tuner.parts == 1:
            return self._collect(waves, self.encoder.forward)
        # Each part is computed again when its gradient is due, so that one part's activations are held at a time. The
        # state of a GPU's random numbers, and with it dropout, is kept only where an argument lies on that GPU.
        wanted = torch.zeros((), requires_grad=True, device=self.device)
        kept: tuple[Tensor, Tensor] = checkpoint(
            lambda _: self._collect(waves, self.encoder.forward), wanted, use_reentrant=False
        )
        return kept

    def _collect(self, waves: Sequence[Tensor], run: Callable[..., None]) -> tuple[Tensor, Tensor]:
        layers: list[Tensor] = []
        own = torch.zeros(len(waves), dtype=torch.int64)

        def sink(position: int, values: Tensor, lengths: Tensor) -> None:
            own.copy_(lengths)
            pooled = self.level == "utterance"
            layers.append(mean_frames(values, lengths.tolist()) if pooled else values[:, : int(lengths.max())].float())

        with using_threads(self.pass_threads):
            run(waves, sink)
        # Out of inference mode, so that heads may train on it.
        return torch.stack(layers, dim=-2).clone(), own

    def _measure(self, rows: Indices) -> tuple[list[int], list[tuple[Tensor, Tensor]]]:
        """Return the own frames of some utterances, and their means and deviations layer by layer."""
        own: list[int] = []
        found: list[tuple[Tensor, Tensor]] = []

        def sink(position: int, values: Tensor, lengths: Tensor) -> None:
            own[:] = lengths.tolist()
            found.append(pool_frames(values, own))

        with using_threads(self.pass_threads):
            self.encoder.encode([self.read(int(row)) for row in rows], sink)
        return own, found

    def _normalised(self, rows: Indices, values: Tensor) -> Tensor:
        if self.owners is None:
            return values
        parts = (torch.from_numpy(part[rows]) for part in self.owners)
        if self.level == "frame":
            parts = (part[:, None] for part in parts)
        shift, factor = (to_device(part, values.device) for part in parts)
        return (values - shift) * factor

    def _passes(self, index: Indices, parts: int = 1) -> Iterator[Indices]:
        """Divide utterances into passes of clips of similar length, at least so many."""
        longest_first = index[np.argsort(-self.samples[index], kind="stable")]
        passes = batch_clips(
            longest_first,
            lambda row: int(self.samples[row]),
            BATCH_SECONDS.get(self.device.type, BATCH_SECONDS["cpu"]) * self.encoder.sampling_rate,
            most_clips=-(-len(index) // parts),
            least_share=1.0 if self.encoder.equal_lengths else 0.0,
        )
        return map(np.array, passes)
