"""How CPUs compute: threads, and matrix products by oneDNN.

PyTorch hands fp32 products to MKL, which takes its narrow code path on CPUs of other vendors: 93 against 213
GFLOP/s on one core of an AMD Zen 5. oneDNN does not care who made the CPU.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

_logger = logging.getLogger("embedkit")

WORTH_A_CALL = 500_000
"""Multiplications of one matrix product from which calling oneDNN for it alone pays."""


WORTH_COMPILING = 2**11
"""Numbers of an utterance, all layers together, from which compiled loops pay."""


CACHED = 2**18
"""Numbers of four bytes that stay in a core's cache from one operation to the next."""


def cached_pieces(groups: int, numbers: int, *, at_once: bool) -> Iterator[slice]:
    """Divide groups of so many numbers each into those that a CPU best computes together; all of them at once."""
    step = groups if at_once else max(1, CACHED // max(1, numbers))
    return (slice(start, start + step) for start in range(0, groups, step))


@contextmanager
def using_threads(threads: int) -> Iterator[None]:
    """Let torch compute with so many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@cache
def compiled_loops() -> ModuleType | None:
    """Return `embedkit.compiled`: some seconds once on a machine, then 0.7 s a process; None where numba fails."""
    _logger.debug("Loading numba's loops, which it compiles for some seconds where it has not kept them.")
    try:
        from embedkit import compiled
    except Exception as error:
        # numba is bound to releases of Python, numpy and LLVM, and each breaks in its own way; torch does the same.
        _logger.info("numba cannot be used, so heads train more slowly: %s: %s", type(error).__name__, error)
        return None
    return compiled


def flat(*tensors: Tensor) -> list[NDArray[Any]]:
    """Return contiguous tensors of any shape as arrays `[numbers]` on the same memory."""
    return [tensor.detach().view(-1).numpy() for tensor in tensors]


@cache
def has_onednn() -> bool:
    """Say whether this build of PyTorch has oneDNN's linear operators."""
    operators: Any = torch.ops.mkldnn
    backend: Any = torch.backends.mkldnn
    return bool(backend.is_available()) and all(
        hasattr(operators, name) for name in ("_linear_pointwise", "_reorder_linear_weight")
    )


def batch_product(values: Tensor, weight: Tensor) -> Tensor:
    """Multiply values `[n, rows, inputs]` by weights `[n, outputs, inputs]`, transposed: `[n, rows, outputs]`.

    Gradients are not tracked.
    """
    if torch.compiler.is_exporting():
        # A graph for elsewhere holds no operators of this machine, and its sizes are not known yet.
        return torch.bmm(values, weight.transpose(1, 2))
    work = values.shape[1] * weight.shape[1] * weight.shape[2]
    fits = values.device.type == "cpu" and values.dtype == weight.dtype == torch.float32
    if not (fits and work >= WORTH_A_CALL and has_onednn()):
        return torch.bmm(values, weight.transpose(1, 2))
    pairs = zip(values.unbind(), weight.unbind(), strict=True)
    products = [torch.ops.mkldnn._linear_pointwise(one, other, None, "none", [], "") for one, other in pairs]
    return products[0].unsqueeze(0) if len(products) == 1 else torch.stack(products)
