"""Threads: how many compute, and work that is done ahead in some of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

from embedkit.kernels import using_threads

T = TypeVar("T")
Result = TypeVar("Result")


@contextmanager
def computing_with(threads: int) -> Iterator[None]:
    """Let torch, and the linear algebra behind numpy, compute with so many threads for a while.

    Results differ in the last bits with their number.
    """
    with using_threads(threads), threadpool_limits(limits=threads, user_api="blas"):
        yield


# Before Python 3.14 (`buffersize`), Executor.map takes all items at once: more audio than memory holds.
class Ahead:
    """Threads in which a function is called on what comes, before its results are wanted; see `open_ahead`."""

    def __init__(self, executor: Executor, size: int) -> None:
        self._executor, self._size = executor, size

    def map(self, function: Callable[[T], Result], items: Iterable[T]) -> Iterator[Result]:
        """Call a function on every item and hand on what it returns, in order.

        Beyond the result that is handed on, as many calls are under way or done as there are threads; items are taken
        as they are called for.
        """
        for (result,) in self.map_groups(function, ([item] for item in items)):
            yield result

    def map_groups(self, function: Callable[[T], Result], groups: Iterable[Iterable[T]]) -> Iterator[list[Result]]:
        """Do what `map` does for all items of a group before the next group."""
        waiting: deque[list[Future[Result]]] = deque()
        for group in groups:
            waiting.append([self._executor.submit(function, item) for item in group])
            if len(waiting) > self._size:
                yield [call.result() for call in waiting.popleft()]
        while waiting:
            yield [call.result() for call in waiting.popleft()]


@contextmanager
def open_ahead(size: int, threads: int | None = None) -> Iterator[Ahead]:
    """Open threads, in each of which torch computes with so many; after an error no further call starts."""
    with ThreadPoolExecutor(size, initializer=_start_thread, initargs=(threads,)) as executor:
        try:
            yield Ahead(executor, size)
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise


def _start_thread(threads: int | None) -> None:
    if threads is not None:
        # A new thread takes the process's number at its first question; one given before would be lost.
        torch.get_num_threads()
        torch.set_num_threads(threads)
