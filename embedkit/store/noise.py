"""Stores of noisy recordings: what they are called, and what they say of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedkit.system import safe_name

_MARK = "@snr"


def noisy_path(path: Path, snr: float, folder: str | None) -> Path:
    """Return where a store of noisy recordings lies: beside that of the clean ones, such as `mfcc@snr20.h5`.

    Args:
        path: Where the clean one lies.
        snr: Signal-to-noise ratio in decibels.
        folder: Where recorded noise comes from, after which the store is called; None for white noise.
    """
    kind = "" if folder is None else f"-{safe_name(Path(folder).name, default='noise')}"
    return path.with_name(f"{path.stem}{_MARK}{snr:g}{kind}{path.suffix}")


def is_noisy_path(path: Path) -> bool:
    """Tell whether a store is called as those of noisy recordings are."""
    return _MARK in path.stem


def describe_noise(told: Mapping[str, Any]) -> str:
    """Say which noise was added, as `noise` in a store's options tells it."""
    return f"{'recorded' if told.get('recordings') else 'white'} noise at {told['snr']:g} dB"
