"""What of an encoder's identity determines its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_CIRCUMSTANCES = frozenset({"versions", "linear_kernel"})
_ORIGIN = frozenset({"name", "source", "revision"})


def determining(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out versions and kernels, and, where a digest of the weights tells more, what the encoder is called."""
    left_out = _CIRCUMSTANCES | (_ORIGIN if identity.get("weights_digest") else frozenset())
    kept = {name: value for name, value in identity.items() if name not in left_out}
    if "parts" in kept:
        kept |= {"name": None, "parts": [determining(part) for part in kept["parts"]]}
    return kept
