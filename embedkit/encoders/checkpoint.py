"""Read a transformers checkpoint without running its code, and refuse one that does not fit."""

from __future__ import annotations

import contextlib
import copy
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from embedkit.encoders.layout import WEIGHT_FILES, Checkpoint, describe_damage, explain_unreadable
from embedkit.encoders.settings import refuse_settings
from embedkit.encoders.weights import Weights, read_weights
from embedkit.errors import EncoderError, lacks_memory
from embedkit.libraries import load_transformers, muted
from embedkit.wording import list_some

MASKING_VECTOR = "masked_spec_embed"
"""What only masked training reads: it may be missing, or be there without a use."""

SHOWN_KEYS = 6
SMALL_MODEL = 100_000_000
"""Weights that any machine has room for: which of them do not fit is told by name."""


def read_config(checkpoint: Checkpoint) -> Any:
    """Read config.json.

    Raises:
        EncoderError: it is not JSON, of a family that transformers does not know, or asks for more than its weights.
    """
    refuse_settings(checkpoint)
    loader = load_transformers("AutoConfig")
    try:
        with quiet():
            return loader.from_pretrained(checkpoint.folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise _unusable_config(checkpoint, error) from error


def _unusable_config(checkpoint: Checkpoint, error: Exception) -> EncoderError:
    return EncoderError(
        f"The config.json of {checkpoint.source!r} cannot be used ({explain_unreadable(error)}); "
        "expected an audio encoder that transformers knows without code of its own."
    )


def load_model(checkpoint: Checkpoint, config: Any) -> nn.Module:
    """Build the encoder of a family in fp32 and evaluation mode, with every weight from the checkpoint.

    Args:
        checkpoint: Where the files lie.
        config: The configuration that was read from it.

    Raises:
        EncoderError: the weights cannot be read without running code, names or shapes do not fit, or numbers are not
            finite.
    """
    try:
        encoder, prefixes = _outline(config)
    except Exception as error:
        raise _unusable_config(checkpoint, error) from error
    try:
        with quiet():
            weights = read_weights(checkpoint.folder)
            _check_size(checkpoint, encoder, weights)
            prefix = next((one for one in prefixes if any(name.startswith(one) for name in weights)), "")
            model, report = type(encoder).from_pretrained(
                None,
                config=encoder.config,
                state_dict=_without_heads(encoder, weights, prefix),
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
    except EncoderError:
        raise
    except Exception as error:
        if lacks_memory(error):
            raise EncoderError(
                f"There is too little memory for the weights of {checkpoint.source!r}; close other programs, or take a "
                "smaller encoder."
            ) from error
        if damage := describe_damage(checkpoint):
            raise EncoderError(f"The weights of {checkpoint.source!r} cannot be loaded: {damage}.") from error
        raise EncoderError(
            f"The weights of {checkpoint.source!r} cannot be loaded ({explain_unreadable(error)}); "
            "expected safetensors, or a PyTorch file of plain tensors."
        ) from error
    _check(checkpoint, model, report, sorted(weights), prefixless=not prefix)
    model.eval().requires_grad_(False)
    loaded: nn.Module = model
    return loaded


def _outline(config: Any) -> tuple[Any, list[str]]:
    """Return a family's encoder without weights, and what its names may begin with in a checkpoint, the longest first.

    Models with a decoder, or with a head that transformers counts as theirs, hold their encoder as a model of its own.
    """
    with quiet(), torch.device("meta"):
        whole = load_transformers("AutoModel").from_config(config)
    for encoder in (getattr(whole, "speech_encoder", whole), whole.get_encoder(modality="audio"), whole.get_encoder()):
        if encoder is not whole and isinstance(encoder, load_transformers("PreTrainedModel")):
            part = next(name for name, module in whole.named_modules() if module is encoder)
            return encoder, [f"{whole.base_model_prefix}.{part}.", f"{part}.", ""]
    return whole, [f"{whole.base_model_prefix}.", ""]


def _without_heads(encoder: Any, weights: Weights, prefix: str) -> Weights:
    """Return the weights below the encoder's prefix: all others are heads of a task."""
    kept = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    return {name: value for name, value in kept.items() if name != MASKING_VECTOR or hasattr(encoder, name)}


def _check_size(checkpoint: Checkpoint, outline: Any, weights: Weights) -> None:
    """Refuse a configuration that asks for many more numbers than there are, before memory is taken for them."""
    asked = sum(values.numel() for values in outline.parameters())
    found = sum(values.numel() for values in weights.values())
    if asked > max(2 * found, SMALL_MODEL):
        raise EncoderError(
            f"The config.json of {checkpoint.source!r} describes {asked:,} weights, and there are {found:,}; check "
            "that it belongs to them."
        )


def _check(checkpoint: Checkpoint, model: Any, report: dict[str, Any], names: list[str], *, prefixless: bool) -> None:
    missing = [key for key in report["missing_keys"] if key != MASKING_VECTOR]
    wrong = [item[0] if isinstance(item, tuple) else item for item in report["mismatched_keys"]]
    state = model.state_dict()
    if len(missing) == len(state.keys() - {MASKING_VECTOR}):
        raise EncoderError(
            f"The weights of {checkpoint.source!r} are none of {type(model).__name__}'s (there are "
            f"{list_some(names, SHOWN_KEYS)}); expected a checkpoint with the encoder of the model_type in its "
            "config.json."
        )
    # Of a checkpoint without prefixes only what lies in a part of the encoder can be meant for it.
    parts = {name for name, _ in model.named_children()} if prefixless else set()
    surplus = [key for key in report["unexpected_keys"] if not prefixless or key.partition(".")[0] in parts]
    problems = [
        f"{word}: {list_some(sorted(keys), SHOWN_KEYS)}"
        for word, keys in (
            ("missing", missing),
            ("unexpected", surplus),
            ("of another shape", wrong),
        )
        if keys
    ]
    if problems:
        raise EncoderError(
            f"The weights of {checkpoint.source!r} do not fit {type(model).__name__} ({'; '.join(problems)}); "
            "expected every weight of the encoder and no other, so check that config.json belongs to them."
        )
    # A sum is not finite as soon as one of its terms is not, and float64 holds those of all float32 numbers.
    broken = [name for name, values in state.items() if not values.sum(dtype=torch.float64).isfinite()]
    if broken:
        raise EncoderError(
            f"The weights of {checkpoint.source!r} hold numbers that are not finite (in "
            f"{list_some(sorted(broken), SHOWN_KEYS)}): the model diverged in training, or was converted to a type too "
            "small for it; take another checkpoint."
        )


def write_model(model: Any, folder: Path) -> None:
    """Write a model's config.json and weights as transformers looks for them, without its renaming on saving.

    Whisper's encoder is written as the part of the whole model that it is.
    """
    config, prefix = copy.deepcopy(model.config), ""
    if config.model_type == "whisper":
        config.architectures, prefix = ["WhisperModel"], "encoder."
    state = {f"{prefix}{name}": values.detach().cpu().contiguous() for name, values in model.state_dict().items()}
    save_file(state, folder / WEIGHT_FILES[0], metadata={"format": "pt"})
    with quiet():
        config.save_pretrained(folder)


def digest_weights(model: nn.Module) -> str:
    """Return the SHA-256 of all parameters and buffers: names, types, shapes and bytes, sorted by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if name == MASKING_VECTOR:
            continue
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).numpy())
    return digest.hexdigest()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' reports and bars from the user: what matters of them becomes an error."""
    reports = load_transformers("utils.logging")
    bars = reports.is_progress_bar_enabled()
    reports.disable_progress_bar()
    try:
        with muted("transformers"):
            yield
    finally:
        if bars:
            reports.enable_progress_bar()
