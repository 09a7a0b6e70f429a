"""Attention of transformers on a device, its padding masks taken as they come."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from embedkit.libraries import load_transformers

NAME = "sdpa_unread"


def leave_masks_unread(model: Any) -> None:
    """Keep a model from asking in every pass whether its mask hides anything, for which the host waits for the device.

    transformers leaves out a mask that hides nothing. Whoever pads clips knows that without asking.
    """
    if getattr(model.config, "_attn_implementation", None) != "sdpa":
        return
    attention, masks = (load_transformers(name)() for name in ("AttentionInterface", "AttentionMaskInterface"))
    attention.register(NAME, attention["sdpa"])
    masks.register(NAME, partial(_unread, masks["sdpa"]))
    model.set_attn_implementation(NAME)


def _unread(make: Callable[..., Any], *args: Any, attention_mask: Tensor | None = None, **options: Any) -> Any:
    if attention_mask is not None:
        options["allow_is_bidirectional_skip"] = False
    return make(*args, attention_mask=attention_mask, **options)
