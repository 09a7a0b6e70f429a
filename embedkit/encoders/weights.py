"""Read the weights of a checkpoint, by name, as they are written."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors.torch import load_file
from torch import Tensor

from embedkit.encoders.layout import INDEX_ENDING, WEIGHT_FILES, read_shards
from embedkit.received import require_regular

Weights: TypeAlias = dict[str, Tensor]


def read_weights(folder: Path) -> Weights:
    """Read all weights; those of files that can be mapped take no memory before they are used.

    Raises:
        Exception: of whatever kind the libraries raise for files that cannot be read, or that would run code.
    """
    first = next(folder / name for name in WEIGHT_FILES if (folder / name).is_file())
    files = [folder / name for name in read_shards(first)] if first.name.endswith(INDEX_ENDING) else [first]
    weights: Weights = {}
    for file in files:
        weights |= _read(file)
    return weights


def read_plain(file: Path) -> Any:
    """Read what a file of weights holds, running nothing of it; what can be mapped is not read before it is used.

    Raises:
        Exception: as `read_weights`.
    """
    require_regular(file)
    if file.suffix == ".safetensors":
        return load_file(file)
    is_archive = zipfile.is_zipfile(file)
    if is_archive:
        with zipfile.ZipFile(file) as archive:
            # PyTorch would map the packed bytes, and take them for numbers.
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError(f"{file.name} was packed again by another program than PyTorch")
    return torch.load(file, map_location="cpu", weights_only=True, mmap=is_archive)


def _read(file: Path) -> Weights:
    content = read_plain(file)
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise TypeError(f"{file.name} holds other things than tensors by name")
    return {str(name): value for name, value in content.items()}
