"""Run clips through the encoder in as few passes as its exactness and the device's memory allow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from threading import Lock
from typing import NamedTuple, TypeAlias, TypeVar

from torch import Tensor

from embedkit.devices import release_memory
from embedkit.encoders.base import Encoder, LayerSink
from embedkit.errors import ExtractionError, lacks_memory
from embedkit.extraction.pooling import Pool
from embedkit.progress import Tell

T = TypeVar("T")


ADVICE = "start again with a smaller --batch-seconds or fewer --threads, or cut long clips with --max-seconds"


ROUNDS = 2
"""Passes for each thread from which they run side by side."""


class Launched(NamedTuple):
    """A pass under way: which clips it holds, and the pool that receives them."""

    indices: list[int]
    pool: Pool


NewPool: TypeAlias = Callable[[], Pool]


def run_beside(encoder: Encoder) -> bool:
    """Tell whether passes may run side by side, each on one core: on a CPU, by encoders without state between calls."""
    return encoder.reentrant and encoder.device.type == "cpu"


class Passes:
    """Start passes, from any thread; where one does not fit into the device's memory, go on with halves, once.

    Args:
        encoder: The encoder.
        tell: Hears that passes are halved.
        advice: What to do where not even halves fit.
    """

    def __init__(self, encoder: Encoder, tell: Tell, advice: str = ADVICE) -> None:
        self._encoder, self._advice = encoder, advice
        self._tell = tell
        self._halved, self._halving = False, Lock()
        self._stopped = False

    def stop(self) -> None:
        """End the passes under way at their next layer that is kept."""
        self._stopped = True

    def start(self, waves: Sequence[Tensor], new_pool: NewPool) -> list[Launched]:
        """Start the passes of one batch of clips `[samples]`; on a GPU they may still run when this returns.

        Raises:
            ExtractionError: not even half of the batch fits into the device's memory.
        """
        halved = self._halved
        try:
            return self._launch(waves, new_pool, halved)
        except (MemoryError, RuntimeError) as error:
            if not lacks_memory(error):
                raise
            if halved or len(waves) < 2:
                raise ExtractionError(self._no_room(waves, halved)) from error
        # Out of the except clause, whose traceback holds on to the tensors of the pass that failed.
        release_memory()
        with self._halving:
            if not self._halved:
                size = self._size(waves)
                self._tell(f"{size} does not fit into the device's memory; going on with batches of half the size.")
            self._halved = True
        return self.start(waves, new_pool)

    def _launch(self, waves: Sequence[Tensor], new_pool: NewPool, halved: bool) -> list[Launched]:
        launched = []
        for indices in self._divide(waves, halved):
            pool = new_pool()
            self._encoder.encode([waves[index] for index in indices], self._guarded(pool))
            pool.close()
            launched.append(Launched(indices, pool))
        return launched

    def _guarded(self, pool: Pool) -> LayerSink:
        def take(position: int, values: Tensor, lengths: Tensor) -> None:
            if self._stopped:
                raise CancelledError
            pool(position, values, lengths)

        return take

    def _divide(self, waves: Sequence[Tensor], halved: bool) -> list[list[int]]:
        by_length: dict[int, list[int]] = {}
        for index, wave in enumerate(waves):
            by_length.setdefault(len(wave) if self._encoder.equal_lengths else 0, []).append(index)
        if not halved:
            return list(by_length.values())
        middles = [(group, (len(group) + 1) // 2) for group in by_length.values()]
        return [half for group, middle in middles for half in (group[:middle], group[middle:]) if half]

    def _size(self, waves: Sequence[Tensor]) -> str:
        seconds = sum(map(len, waves)) / self._encoder.sampling_rate
        return f"A batch of {len(waves)} clips ({seconds:.0f} s)"

    def _no_room(self, waves: Sequence[Tensor], halved: bool) -> str:
        half = ", nor does half of it" if halved and len(waves) > 1 else ""
        return f"{self._size(waves)} does not fit into the device's memory{half}; {self._advice}."


def in_order(launched: Sequence[Launched], read: Callable[[Pool], list[T]]) -> list[T]:
    """Wait for passes and return what is read from their pools, in the order of the clips."""
    found = {index: value for indices, pool in launched for index, value in zip(indices, read(pool), strict=True)}
    return [found[index] for index in range(len(found))]
