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


@contextmanager
def open_pool(size: int, threads: int = 1) -> Iterator[Executor]:
    """Open a pool in which torch computes with so many threads for each call; after an error no other call starts."""
    with ThreadPoolExecutor(size, initializer=torch.set_num_threads, initargs=(threads,)) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def run_ahead(pool: Executor, most: int, function: Callable[[T], Result], items: Iterable[T]) -> Iterator[Result]:
    """Call a function on every item and hand on what it returns, in order.

    Args:
        pool: Where it is called.
        most: Calls that may be under way, or finished, beyond the one that is handed on.
        function: What is called.
        items: Taken as calls are made.
    """
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
