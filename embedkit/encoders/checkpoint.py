"""Read a transformers checkpoint without running its code, and refuse one that does not fit."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from embedkit.encoders.layout import WEIGHT_FILES, Checkpoint, describe_damage, explain_unreadable
from embedkit.encoders.settings import refuse_settings
from embedkit.errors import EncoderError, lacks_memory
from embedkit.libraries import load_transformers, muted
from embedkit.wording import list_some

HARMLESS_MISSING = re.compile(r"(\w+\.)?masked_spec_embed")
"""A vector that only masked training reads."""

HARMLESS_UNEXPECTED = re.compile(
    r"(\w+\.)?(masked_spec_embed|label_embs_concat|label_embeddings_concat)"
    r"|(quantizer|project_q|project_hid|final_proj|dropout_features|speaker_proj"
    r"|lm_head|ctc_proj|classifier|projector|layer_weights|proj_out|audio_classifier)(\..+)?"
    r"|(model\.)?decoder\..+"
)
"""Heads of pretraining and of fine-tuned tasks, and decoders: an encoder does not have them."""

SHOWN_KEYS = 6


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
        raise EncoderError(
            f"The config.json of {checkpoint.source!r} cannot be used ({explain_unreadable(error)}); "
            "expected an audio encoder that transformers knows without code of its own."
        ) from error


def load_model(
    checkpoint: Checkpoint,
    model_class: Any,
    config: Any,
    *,
    key_mapping: dict[str, str] | None = None,
    heads_allowed: bool = False,
) -> nn.Module:
    """Build a model in fp32 and evaluation mode, with every weight from the checkpoint.

    Args:
        checkpoint: Where the files lie.
        model_class: A transformers model class, or an Auto class.
        config: The configuration that was read from it.
        key_mapping: Regular expressions over the checkpoint's names, and what to write instead.
        heads_allowed: Whether names that belong to no part of the model are taken for heads of another task.

    Raises:
        EncoderError: the weights cannot be read without running code, or names or shapes do not fit.
    """
    try:
        with quiet():
            model, report = model_class.from_pretrained(
                checkpoint.folder,
                config=config,
                dtype=torch.float32,
                key_mapping=key_mapping,
                local_files_only=True,
                weights_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
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
    _check(checkpoint, model, report, heads_allowed=heads_allowed)
    model.eval().requires_grad_(False)
    loaded: nn.Module = model
    return loaded


def _check(checkpoint: Checkpoint, model: Any, report: dict[str, Any], *, heads_allowed: bool) -> None:
    missing = [key for key in report["missing_keys"] if not HARMLESS_MISSING.fullmatch(key)]
    unexpected = [key for key in report["unexpected_keys"] if not HARMLESS_UNEXPECTED.fullmatch(key)]
    if heads_allowed:
        own = {name for name, _ in model.named_children()} | {model.base_model_prefix}
        unexpected = [key for key in unexpected if key.split(".")[0] in own]
    wrong = [item[0] if isinstance(item, tuple) else item for item in report["mismatched_keys"]]
    problems = [
        f"{word}: {list_some(sorted(keys), SHOWN_KEYS)}"
        for word, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", wrong))
        if keys
    ]
    if problems:
        raise EncoderError(
            f"The weights of {checkpoint.source!r} do not fit {type(model).__name__} ({'; '.join(problems)}); "
            "expected every weight of the encoder and no other, so check that config.json belongs to them."
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
        if HARMLESS_MISSING.fullmatch(name):
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
