"""Compute with a fixed number of threads: results differ in the last bits with their number."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

from embedkit.kernels import using_threads


@contextmanager
def computing_with(threads: int) -> Iterator[None]:
    """Let torch, and the linear algebra behind numpy, compute with so many threads for a while."""
    with using_threads(threads), threadpool_limits(limits=threads, user_api="blas"):
        yield
