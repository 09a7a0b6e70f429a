"""emotion2vec's weights: read them from one file, and fit them to the network exactly."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from embedkit.encoders.layout import EMOTION2VEC_FILE, Checkpoint, describe_damage, explain_unreadable
from embedkit.encoders.weights import read_plain
from embedkit.errors import EncoderError, lacks_memory
from embedkit.libraries import load_transformers
from embedkit.wording import list_some

CONVOLUTIONS = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))
"""Kernel and stride of each."""

POSITIONAL_LAYERS, POSITIONAL_KERNEL, POSITIONAL_GROUPS = 5, 19, 16
CONTEXT_BLOCKS, BLOCKS = 4, 8
SHOWN_KEYS = 6

_AUDIO = "modality_encoders.AUDIO."
_PREFIX = re.compile(r"^d2v_model\.")
_LEFT_OUT = re.compile(rf"_ema(\..+)?|({re.escape(_AUDIO)})?decoder\..+|proj\.(weight|bias)")
"""The average that pretraining keeps, its decoder, and the classifier of emotion2vec+."""

_RECIPE = (
    "if you trust whoever made it, write its tensors anew with python -c \"import torch; state = torch.load('{name}', "
    "map_location='cpu', weights_only=False)['model']; torch.save({{'model': {{key: value for key, value in "
    "state.items() if torch.is_tensor(value)}}}}, 'tensors.pt')\", which runs what it holds, and name tensors.pt"
)

_logger = logging.getLogger("embedkit")


def build_network(checkpoint: Checkpoint, *, with_classifier: bool = False) -> Any:
    """Build the network in fp32 and evaluation mode, with every weight from the checkpoint's one file.

    Unless the classifier of emotion2vec+ is read beside, it is told that it is left out.

    It is transformers' network of data2vec-audio, of which emotion2vec was made (Ma et al., "emotion2vec", ACL 2024),
    with `extra_tokens` `[1, tokens, dimensions]` and `alibi_scale` `[1, 1, heads, 1, 1]` beside it. Sizes follow from
    the shapes of the weights.

    Raises:
        EncoderError: the file cannot be read without running code, is of another family, or does not fit.
    """
    found = _read(checkpoint)
    if "proj.weight" in found and not with_classifier:
        _tell_of_classifier(checkpoint.source)
    state = {name: value for name, value in found.items() if not _LEFT_OUT.fullmatch(name)}
    model = _outline(state, checkpoint)
    wanted = {name: value.shape for name, value in _published(model).items()}
    _require_fit(wanted, state, checkpoint)
    own: dict[str, Tensor] = {}
    for name, targets in published_names().items():
        # Copies: memory mapped from a file is aligned differently, which changes the last bits of matrix products.
        values = state[name].to(torch.float32, copy=True)
        own |= {target: part.contiguous() for target, part in zip(targets, values.chunk(len(targets)), strict=True)}
    model.load_state_dict(own, assign=True)
    return model.eval().requires_grad_(False)


def read_classifier(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what the file holds of emotion2vec+'s classifier: `proj.weight` `[classes, dimensions]`, `proj.bias`."""
    return {name: value for name, value in _read(checkpoint).items() if name in ("proj.weight", "proj.bias")}


def write_network(model: nn.Module, folder: Path) -> None:
    """Write a network's weights under their published names, into a folder that `load_encoder` reads."""
    state = {name: values.detach().cpu().contiguous() for name, values in _published(model).items()}
    save_file(state, folder / EMOTION2VEC_FILE, metadata={"format": "pt"})


def published_names() -> dict[str, tuple[str, ...]]:
    """Return the network's names for each published one: three for query, key and value, which are published as one."""
    names: dict[str, tuple[str, ...]] = {f"{_AUDIO}{name}": (name,) for name in ("extra_tokens", "alibi_scale")}
    layers: dict[str, tuple[str, ...]] = {
        f"{_AUDIO}project_features.1": ("feature_projection.layer_norm",),
        f"{_AUDIO}project_features.2": ("feature_projection.projection",),
        f"{_AUDIO}context_encoder.norm": ("encoder.layer_norm",),
    }
    for number in range(len(CONVOLUTIONS)):
        theirs, ours = f"{_AUDIO}local_encoder.conv_layers.{number}", f"feature_extractor.conv_layers.{number}"
        names[f"{theirs}.0.weight"] = (f"{ours}.conv.weight",)
        layers[f"{theirs}.2.1"] = (f"{ours}.layer_norm",)
    for number in range(POSITIONAL_LAYERS):
        layers[f"{_AUDIO}relative_positional_encoder.{number + 1}.0"] = (
            f"encoder.pos_conv_embed.layers.{number}.conv",
        )
    for number in range(CONTEXT_BLOCKS + BLOCKS):
        before = number < CONTEXT_BLOCKS
        theirs = f"{_AUDIO}context_encoder.blocks.{number}" if before else f"blocks.{number - CONTEXT_BLOCKS}"
        ours = f"encoder.layers.{number}"
        layers |= {
            f"{theirs}.norm1": (f"{ours}.layer_norm",),
            f"{theirs}.attn.qkv": tuple(f"{ours}.attention.{part}_proj" for part in "qkv"),
            f"{theirs}.attn.proj": (f"{ours}.attention.out_proj",),
            f"{theirs}.norm2": (f"{ours}.final_layer_norm",),
            f"{theirs}.mlp.fc1": (f"{ours}.feed_forward.intermediate_dense",),
            f"{theirs}.mlp.fc2": (f"{ours}.feed_forward.output_dense",),
        }
    for theirs, targets in layers.items():
        for kind in ("weight", "bias"):
            names[f"{theirs}.{kind}"] = tuple(f"{target}.{kind}" for target in targets)
    return names


def _published(model: nn.Module) -> dict[str, Tensor]:
    own = model.state_dict()
    return {name: torch.cat([own[part] for part in parts]) for name, parts in published_names().items()}


def _read(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Read all weights under their published names."""
    path = checkpoint.weights or checkpoint.folder
    try:
        content = read_plain(path)
    # Damaged files raise a dozen types, UnpicklingError among them.
    except Exception as error:
        raise _unreadable(error, checkpoint, path) from error
    while isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        content = content["model"]
    named = content if isinstance(content, Mapping) else {}
    state = {_PREFIX.sub("", str(name)): value for name, value in named.items()}
    if not state.keys() & published_names().keys():
        _refuse_family(checkpoint, path, list(state))
    return state


def _unreadable(error: Exception, checkpoint: Checkpoint, path: Path) -> EncoderError:
    if lacks_memory(error):
        return EncoderError(
            f"There is too little memory for the weights of {checkpoint.source!r}; close other programs, or take a "
            "smaller encoder."
        )
    if damage := describe_damage(checkpoint):
        return EncoderError(f"The weights of {checkpoint.source!r} cannot be loaded: {damage}.")
    todo = "get the file again"
    if "weights_only" in str(error) or type(error).__name__ == "UnpicklingError":
        todo = _RECIPE.format(name=path.name)
    return EncoderError(f"The weights of {checkpoint.source!r} cannot be loaded ({explain_unreadable(error)}); {todo}.")


def _refuse_family(checkpoint: Checkpoint, path: Path, names: list[str]) -> None:
    holds = list_some(names, 2) if names else "no named weights"
    raise EncoderError(
        f"{path.name} of {checkpoint.source!r} holds {holds}, which is not emotion2vec, and its folder holds no "
        "config.json that says what it is; expected emotion2vec's weights, or the folder of a checkpoint in the layout "
        "that transformers writes (config.json, preprocessor_config.json, model.safetensors)."
    )


@cache
def _tell_of_classifier(source: str) -> None:
    _logger.warning(
        "The checkpoint %r also holds a classifier of emotions (proj), which is left out: an encoder ends before it.",
        source,
    )


def _outline(state: Mapping[str, Any], checkpoint: Checkpoint) -> Any:
    """Return the network in the sizes that some shapes tell, without memory for its weights."""
    told = {
        "tokens": (f"{_AUDIO}extra_tokens", 3, 1),
        "heads": (f"{_AUDIO}alibi_scale", 5, 2),
        "channels": (f"{_AUDIO}project_features.2.weight", 2, 1),
        "dimensions": (f"{_AUDIO}project_features.2.weight", 2, 0),
        "wide": ("blocks.0.mlp.fc1.weight", 2, 0),
    }
    shapes = {name: tuple(value.shape) for name, value in state.items() if isinstance(value, Tensor)}
    sizes = {
        size: shape[axis]
        for size, (name, rank, axis) in told.items()
        if len(shape := shapes.get(name, ())) == rank and shape[axis] > 0
    }
    dimensions = sizes.get("dimensions", 0)
    if len(sizes) < len(told) or dimensions % sizes["heads"] or dimensions % POSITIONAL_GROUPS:
        # Published ones, to name what is wrong.
        sizes = {"tokens": 10, "heads": 12, "channels": 512, "dimensions": 768, "wide": 3072}
    config = load_transformers("Data2VecAudioConfig")(
        hidden_size=sizes["dimensions"],
        num_hidden_layers=CONTEXT_BLOCKS + BLOCKS,
        num_attention_heads=sizes["heads"],
        intermediate_size=sizes["wide"],
        conv_dim=(sizes["channels"],) * len(CONVOLUTIONS),
        conv_kernel=tuple(kernel for kernel, _ in CONVOLUTIONS),
        conv_stride=tuple(stride for _, stride in CONVOLUTIONS),
        conv_bias=False,
        num_conv_pos_embeddings=POSITIONAL_LAYERS,
        conv_pos_kernel_size=POSITIONAL_KERNEL,
        num_conv_pos_embedding_groups=POSITIONAL_GROUPS,
        # As in the configuration of its pretraining (FunASR's template.yaml).
        hidden_dropout=0.1,
        attention_dropout=0.1,
        activation_dropout=0.0,
        feat_proj_dropout=0.0,
        layerdrop=0.05,
        mask_time_prob=0.0,
        mask_feature_prob=0.0,
    )
    config.model_type = "emotion2vec"
    with torch.device("meta"):
        model = load_transformers("Data2VecAudioModel")(config)
        model.extra_tokens = nn.Parameter(torch.empty(1, sizes["tokens"], sizes["dimensions"]))
        model.alibi_scale = nn.Parameter(torch.empty(1, 1, sizes["heads"], 1, 1))
    return model


def _require_fit(wanted: Mapping[str, torch.Size], state: Mapping[str, Any], checkpoint: Checkpoint) -> None:
    problems = {
        "missing": wanted.keys() - state.keys(),
        "unexpected": state.keys() - wanted.keys(),
        "of another shape": {name for name in wanted.keys() & state.keys() if not _fits(state[name], wanted[name])},
    }
    problems["not finite"] = {
        name
        for name in wanted.keys() & state.keys() - problems["of another shape"]
        if not bool(state[name].isfinite().all())
    }
    told = [f"{word}: {list_some(sorted(names), SHOWN_KEYS)}" for word, names in problems.items() if names]
    if told:
        raise EncoderError(
            f"The weights of {checkpoint.source!r} do not fit emotion2vec ({'; '.join(told)}); expected every weight "
            "of its encoder, all of them numbers, so get the file again."
        )


def _fits(value: Any, shape: torch.Size) -> bool:
    """Tell whether a weight has the wanted shape, and as many numbers in the file as that takes."""
    return (
        isinstance(value, Tensor)
        and value.is_floating_point()
        and value.shape == shape
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )
