"""A device that stands for MPS: its tensors are no CPU's, know no float64, and compute on this machine's CPU.

Inside torch they lie on the device "lazy", which every build knows, but none computes on; code under test sees "mps".
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

INSIDE, SHOWN = torch.device("lazy:0"), torch.device("mps:0")


class MpsTensor(Tensor):
    """A tensor of the CPU that is only reached by operations."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> MpsTensor:
        if held.dtype in (torch.float64, torch.complex128):
            raise TypeError(
                "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64."
            )
        return Tensor._make_wrapper_subclass(  # type: ignore[attr-defined, no-any-return]
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=INSIDE,
        )

    def __init__(self, held: Tensor) -> None:
        self.held = held

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


def compute(func: Any, args: Any, kwargs: Any) -> Any:
    """Run an operation on what the tensors hold; refuse what MPS would."""
    tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
    ours = [one for one in tensors if isinstance(one, MpsTensor)]
    name, device = func.name(), kwargs.get("device")
    copies = name in ("aten::_to_copy", "aten::copy_")
    # Numbers without a dimension, and indices, may lie on the CPU.
    strangers = [one for one in tensors if not isinstance(one, MpsTensor) and one.dim()]
    if ours and strangers and not copies and "index" not in name:
        raise RuntimeError(f"Expected all tensors to be on the same device, but found mps:0 and cpu ({name}).")
    plain_args, plain = tree_map(lambda one: one.held if isinstance(one, MpsTensor) else one, (args, kwargs))
    if device is not None:
        plain["device"] = torch.device("cpu") if is_inside(device) else device
    found = func(*plain_args, **plain)
    if name == "aten::_local_scalar_dense":
        return found
    here = isinstance(args[0], MpsTensor) if name == "aten::copy_" else is_inside(device) if device else bool(ours)
    found = tree_map(lambda one: MpsTensor(one) if here and isinstance(one, Tensor) else one, found)
    return return_and_correct_aliasing(func, args, kwargs, found) if ours else found


def is_inside(device: Any) -> bool:
    """Tell whether this is where the tensors lie inside torch."""
    return device is not None and torch.device(device).type == INSIDE.type


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if is_inside(kwargs.get("device")) or any(isinstance(one, MpsTensor) for one in tree_leaves((args, kwargs))):
            return compute(func, args, kwargs)
        return func(*args, **kwargs)


class _Names(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = tree_map(_hidden, (args, kwargs or {}))
        if func is Tensor.tolist and isinstance(args[0], MpsTensor):
            return args[0].cpu().tolist()
        if func is torch.tensor and is_inside(kwargs.get("device")):
            return func(*args, **{**kwargs, "device": "cpu"}).to(INSIDE)
        found = func(*args, **kwargs)
        return SHOWN if isinstance(found, torch.device) and found.type == INSIDE.type else found


def _hidden(value: Any) -> Any:
    if isinstance(value, torch.device):
        return INSIDE if value.type == "mps" else value
    return str(INSIDE) if isinstance(value, str) and value in ("mps", "mps:0") else value


@contextmanager
def on_a_mac(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have a device "mps" in this thread, and in those that are started."""
    run = threading.Thread.run

    def run_here(thread: threading.Thread) -> None:
        with _Operations(), _Names():
            run(thread)

    with monkeypatch.context() as patch, _Operations(), _Names():
        patch.setattr(torch.backends.mps, "is_available", lambda: True)
        patch.setattr(torch.mps, "empty_cache", lambda: None)
        patch.setattr(threading.Thread, "run", run_here)
        # Views of such tensors cannot be made in inference mode.
        patch.setattr(torch.inference_mode, "__enter__", _enter)
        patch.setattr(torch.inference_mode, "__exit__", _leave)
        yield


def _enter(mode: Any) -> None:
    mode.instead = torch.no_grad()
    mode.instead.__enter__()


def _leave(mode: Any, *error: Any) -> None:
    mode.instead.__exit__(*error)
