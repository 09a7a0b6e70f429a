"""Number formats: what fp32, bf16, fp16 and auto mean, and keeping fp32 free of TF32."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from threading import Lock
from typing import Any

import torch

from embedkit.errors import EncoderError
from embedkit.system import read_cpu_flags

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_precision(precision: str, device: torch.device) -> str:
    """Turn `auto` into what the device does fast and safely; check what was asked for.

    Returns:
        "fp32", "bf16" or "fp16". `auto` is bf16 where the device has instructions for it, else fp32.

    Raises:
        EncoderError: an unknown precision, or one that is of no use on the device, or was never tried there.
    """
    if precision == "auto":
        return "bf16" if has_fast_bf16(device) else "fp32"
    if precision not in DTYPES:
        raise EncoderError(f"Unknown precision {precision!r}; expected auto, fp32, bf16 or fp16.")
    if precision == "fp16" and device.type == "cpu":
        raise EncoderError(
            "Precision fp16 is hundreds of times slower than fp32 on a CPU; expected fp32, bf16 or auto there."
        )
    if precision != "fp32" and device.type == "mps":
        raise EncoderError(f"Precision {precision} is untried on MPS; expected fp32 or auto there.")
    return precision


def has_fast_bf16(device: torch.device) -> bool:
    """Say whether a device multiplies bf16 matrices in hardware."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(read_cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16"})


class _TrueFp32:
    """Settings of the whole process: the first one to enter keeps what they were, the last one to leave restores it."""

    def __init__(self) -> None:
        libraries: Any = torch.backends
        self._backends = (
            libraries.cuda.matmul,
            libraries.cudnn.conv,
            libraries.cudnn.rnn,
            libraries.mkldnn.matmul,
            libraries.mkldnn.conv,
        )
        self._inside = 0
        self._before: list[str] = []
        self._changing = Lock()

    def enter(self) -> None:
        with self._changing:
            if not self._inside:
                self._before = [backend.fp32_precision for backend in self._backends]
                self._set(["ieee"] * len(self._before))
            self._inside += 1

    def leave(self) -> None:
        with self._changing:
            self._inside -= 1
            if not self._inside:
                self._set(self._before)

    def _set(self, values: list[str]) -> None:
        for backend, value in zip(self._backends, values, strict=True):
            backend.fp32_precision = value


_true_fp32 = _TrueFp32()


@contextlib.contextmanager
def true_fp32() -> Iterator[None]:
    """Keep fp32 matrix products, convolutions and recurrent layers in full fp32 (no TF32, no bf16) while inside.

    Several threads may be inside at once.
    """
    _true_fp32.enter()
    try:
        yield
    finally:
        _true_fp32.leave()
