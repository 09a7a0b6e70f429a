"""VGGish's published weights: read or download them, and fit them to the network exactly."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from embedkit import terminal
from embedkit.encoders.layout import explain_unreadable
from embedkit.errors import EncoderError
from embedkit.received import describe_pointer, require_regular

PUBLISHED_URL = "https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth"

SUFFIXES = (".pth", ".pt", ".safetensors")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict from a `.pth`, `.pt` or `.safetensors` file, never running code from it.

    Raises:
        EncoderError: there is no such file, or it holds no state dict.
    """
    if not path.is_file() or path.suffix not in SUFFIXES:
        found = "another kind of file" if path.is_file() else "a folder" if path.is_dir() else "no file"
        raise EncoderError(f"{path} is {found}; VGGish weights are one file ending in {', '.join(SUFFIXES)}: name it.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(require_regular(path))
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    # Damaged files raise a dozen types, UnpicklingError among them.
    except Exception as error:
        reason = describe_pointer(path) or f"{explain_unreadable(error)}; get the file again"
        raise EncoderError(f"Cannot read VGGish weights from {path}: {reason}.") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise EncoderError(f"{path} holds no state dict (names and tensors); expected VGGish's published weights.")
    return state


def download_weights() -> dict[str, Tensor]:
    """Fetch torchvggish's published state dict, checked by its hash, or take it from PyTorch's cache.

    Raises:
        EncoderError: it is not cached and cannot be downloaded.
    """
    try:
        # Its bar is for the user.
        with contextlib.redirect_stderr(terminal.stderr()):
            return torch.hub.load_state_dict_from_url(
                PUBLISHED_URL, map_location="cpu", check_hash=True, weights_only=True, progress=sys.stderr.isatty()
            )
    # Networks, file systems and damaged files in the cache fail in as many ways.
    except Exception as error:
        reason = explain_unreadable(error)
        raise EncoderError(
            f'Cannot get the VGGish weights from {PUBLISHED_URL} ({reason}); set `[encoders] vggish = "path"` '
            "in embedkit.toml to a copy on disk, or take another encoder."
        ) from error


def load_weights(network: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Load a state dict in torchvggish's or torchaudio's layout into a network, as float32.

    Keys `pproc.*` (torchvggish's PCA post-processing) are left out: it is not applied.

    Raises:
        EncoderError: a weight is missing, unexpected or of another shape.
    """
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    weights = {_torchvggish_name(name): value for name, value in state.items() if not name.startswith("pproc.")}
    reshaped = {name for name in wanted.keys() & weights.keys() if wanted[name] != tuple(weights[name].shape)}
    problems = {
        "misses": wanted.keys() - weights.keys(),
        "has unexpected": weights.keys() - wanted.keys(),
        "has other shapes of": reshaped,
    }
    told = "; ".join(f"{problem} {', '.join(sorted(names))}" for problem, names in problems.items() if names)
    if told:
        raise EncoderError(f"The VGGish weights in {source} do not fit: the file {told}; use the published file.")
    # Copies: memory mapped from a file is aligned differently, which changes the last bits of matrix products.
    copies = {name: value.to(torch.float32, copy=True).contiguous() for name, value in weights.items()}
    network.load_state_dict(copies, assign=True)


def _torchvggish_name(name: str) -> str:
    for theirs, ours in (("features_network.", "features."), ("embedding_network.", "embeddings.")):
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


def digest_weights(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over the sorted names and the bytes of their tensors (on the CPU)."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
