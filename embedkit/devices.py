"""Where tensors are computed: the devices of this machine, and what MPS (Apple's GPUs) lacks.

MPS has no float64; what needs it is computed on the CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor

from embedkit.errors import ConfigError
from embedkit.wording import count_noun

EXPECTED = "auto, cpu, cuda, cuda:N or mps"
ALONE = {"cpu"}
"""Kinds of devices on which each clip of a batch is computed by itself."""
CPU = torch.device("cpu")


def list_devices() -> list[str]:
    """Return the names of this machine's devices, the CPU first.

    >>> list_devices()
    ['cpu', 'cuda:0', 'cuda:1']
    """
    cards = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    return ["cpu", *(f"cuda:{card}" for card in cards), *(["mps"] if torch.backends.mps.is_available() else [])]


def has_accelerator() -> bool:
    """Tell whether there is anything but the CPU to compute on."""
    return len(list_devices()) > 1


def resolve_device(device: str | torch.device) -> torch.device:
    """Turn `auto` (cuda before mps before cpu), `cpu`, `cuda`, `cuda:1` or `mps` into a device that is there.

    Raises:
        ConfigError: no such device; the sentence lists those that are there.
    """
    here = list_devices()
    kinds = [name.partition(":")[0] for name in here]
    if device == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if kind in kinds))
    name, (kind, _, number) = str(device), str(device).partition(":")
    if kind not in ("cpu", "cuda", "mps") or (":" in name and not number.isdecimal()):
        raise ConfigError(f"The device is {name!r}, expected {EXPECTED} (here: {', '.join(here)}).")
    if int(number or 0) >= kinds.count(kind):
        cards = count_noun(kinds.count(kind), f"{kind.upper()} device")
        raise ConfigError(f"There is no device {name!r} here: {cards}; take one of {', '.join(here)}.")
    return torch.device(kind, int(number)) if kind == "cuda" and number else torch.device(kind)


def takes_clips_alone(device: torch.device) -> bool:
    """Tell whether what concerns one clip of a batch is computed clip by clip on a device, or for all at once.

    On a CPU no bit of a clip then depends on the others. A GPU would wait for the host, which starts every operation.
    """
    return device.type in ALONE


def place_of_float64(device: torch.device) -> torch.device:
    """Return where that is computed in float64 which is used on a device: there, or on the CPU."""
    return CPU if device.type == "mps" else device


def to_float64(values: Tensor) -> Tensor:
    """Return values of any shape, `[...]`, in float64, on the CPU where their device has none; gradients flow back."""
    return values.to(place_of_float64(values.device)).double()


def has_room(device: torch.device, size: int) -> bool:
    """Tell whether so many bytes may stay on a device: at most half of what is free on a card, for passes need room."""
    return device.type == "cuda" and 2 * size <= torch.cuda.mem_get_info(device)[0]


def release_memory() -> None:
    """Give back what torch keeps of the memory of accelerators for later."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
