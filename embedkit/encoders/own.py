"""Encoders of the user's own, by `package.module:MyEncoder`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from embedkit.devices import resolve_device
from embedkit.encoders.base import Encoder, select_layers
from embedkit.errors import EncoderError
from embedkit.registry import load_own as load_part
from embedkit.signatures import accepted_names

DEFAULTS: Mapping[str, Any] = {"layers": "all", "precision": "fp32", "window": "clip"}
_REQUIRED = ("sampling_rate", "frame_rate", "layers", "dimensions", "smallest_input")


def load_own(name: str, options: Mapping[str, Any]) -> Encoder:
    """Make an encoder of the user's own class.

    Its `__init__` may take any of `device`, `layers`, `precision` and `window`; its name is set from outside.

    Raises:
        UnknownNameError: the module or the class does not exist.
        CodeError: the user has neither typed nor allowed it.
        EncoderError: no encoder class, an incomplete one, or an option that it does not take.
    """
    cls = load_part(name)
    if not (isinstance(cls, type) and issubclass(cls, Encoder)):
        raise EncoderError(f"The encoder {name!r} is {cls!r}, expected a subclass of embedkit.encoders.base.Encoder.")
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(cls.__abstractmethods__))
        raise EncoderError(f"The encoder {name!r} lacks the methods {missing}; see docs/adding-an-encoder.md.")
    accepted = accepted_names(cls)
    given = {**options, "device": str(resolve_device(options["device"]))}
    encoder: Encoder = cls(**{key: value for key, value in given.items() if key in accepted})
    encoder.name = name
    if "device" in accepted and encoder.device is Encoder.device:
        encoder.device = torch.device(given["device"])
    absent = [attribute for attribute in _REQUIRED if not hasattr(encoder, attribute)]
    if absent:
        raise EncoderError(f"The encoder {name!r} lacks the attribute {absent[0]!r}; see docs/adding-an-encoder.md.")
    for key, default in DEFAULTS.items():
        if key not in accepted and not _is_met(encoder, key, options[key], default):
            raise EncoderError(f"The encoder {name!r} has no {key} option; expected {default!r}, got {options[key]!r}.")
    return encoder


def _is_met(encoder: Encoder, key: str, value: Any, default: Any) -> bool:
    if key == "layers":
        return value == default or select_layers(value, max(encoder.layers)) == encoder.layers
    return value == default or (key == "precision" and value == "auto")
