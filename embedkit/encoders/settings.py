"""What a checkpoint's settings may not ask for: code, kernels, quantisers, adapters, other checkpoints."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from embedkit.encoders.layout import (
    ADAPTER_FILE,
    CONFIG_FILE,
    PREPROCESSOR_FILE,
    PROCESSOR_FILE,
    WEIGHT_FILES,
    Checkpoint,
    explain_foreign,
    read_settings_file,
)
from embedkit.errors import EncoderError
from embedkit.trust import walk


class _Rule(NamedTuple):
    """Which values of a setting are known to be harmless, what others would do, and what is there to do about it."""

    harmless: tuple[Any, ...]
    leads_to: str
    remedy: str


_KERNEL = _Rule(
    (None, "eager", "sdpa"), "a kernel that is fetched and run", "write sdpa there, which computes the same"
)
_CODE = _Rule((None, False, {}, []), "code of the checkpoint's own", "take a checkpoint that needs none")
_ELSEWHERE = _Rule(
    (None, False, *WEIGHT_FILES), "weights that lie elsewhere", "take a checkpoint that holds all of its own"
)
_RULES: Mapping[str, _Rule] = {
    "attn_implementation": _KERNEL,
    "experts_implementation": _KERNEL,
    "use_kernels": _KERNEL._replace(harmless=(None, False), remedy="remove it"),
    "kernel_config": _KERNEL._replace(harmless=(None, {}), remedy="remove it"),
    "auto_map": _CODE,
    "configuration_files": _Rule(
        (None, []), "settings in other files", "put those that count into config.json, and remove it"
    ),
    "custom_pipelines": _CODE,
    "trust_remote_code": _CODE,
    "quantization_config": _Rule(
        (None, {}), "code of other packages", "take the checkpoint in full precision (--precision sets that of passes)"
    ),
    "transformers_weights": _ELSEWHERE,
    "backbone": _ELSEWHERE,
    "use_pretrained_backbone": _ELSEWHERE,
    "base_model_name_or_path": _ELSEWHERE,
}
"""By the setting's name without a leading underscore and without "_internal", at any depth.

They were found in what transformers 5.24 takes from a configuration (`configuration_utils.py`, `modeling_utils.py`,
`integrations/hub_kernels.py`).
"""


MOST_LAYERS = 4096
"""As in a store; building more takes minutes before a weight is read."""


def refuse_settings(checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint whose settings ask for anything but numbers from the weights beside them.

    Raises:
        EncoderError: they do; the file, the setting and its value are told.
    """
    if (checkpoint.folder / ADAPTER_FILE).exists():
        raise EncoderError(f"The checkpoint {checkpoint.source!r} {explain_foreign(ADAPTER_FILE.__eq__)}.")
    for file in (CONFIG_FILE, PREPROCESSOR_FILE, PROCESSOR_FILE):
        for field, value in walk(read_settings_file(checkpoint.folder / file) or {}):
            key = field.rpartition(".")[2].strip("_").removesuffix("_internal")
            if key.endswith("layers") and isinstance(value, int) and value > MOST_LAYERS:
                raise EncoderError(
                    f"{file} of {checkpoint.source!r} sets {field} to {reprlib.repr(value)}, expected at most "
                    f"{MOST_LAYERS:,}; it is damaged."
                )
            rule = _RULES.get(key)
            if rule is not None and not _is_harmless(value, rule):
                raise EncoderError(
                    f"{file} of {checkpoint.source!r} sets {field} to {reprlib.repr(value)}, which leads to "
                    f"{rule.leads_to} and is refused; {rule.remedy}."
                )


def _is_harmless(value: Any, rule: _Rule) -> bool:
    """Tell whether a value is known to be harmless; one for each part of the model where all of them are."""
    if value in rule.harmless:
        return True
    return isinstance(value, dict) and bool(value) and all(one in rule.harmless for one in value.values())
