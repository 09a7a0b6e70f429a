"""What of an encoder's identity determines its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_CIRCUMSTANCES = frozenset({"versions", "linear_kernel"})
_ORIGIN = frozenset({"name", "source", "revision"})

LAST_STATE = "last_hidden_state"
"""What the last layer of every transformer is."""
NORMED_STATE = "last_hidden_state, which hidden_states[-1] is not"
"""The same, of models whose `hidden_states[-1]` lacks their final norm: stores of before hold that."""
UNNORMED_STATE = "hidden_states[-1]"
"""What published classifiers that weigh layers read: in some models it lacks their final norm."""


def determining(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out versions and kernels, and, where a digest of the weights tells more, what the encoder is called.

    The last layer is told where stores of before may hold another one.
    """
    left_out = _CIRCUMSTANCES | (_ORIGIN if identity.get("weights_digest") else frozenset())
    kept = {name: value for name, value in identity.items() if name not in left_out}
    if kept.get("last_layer") == LAST_STATE:
        del kept["last_layer"]
    if "parts" in kept:
        kept |= {"name": None, "parts": [determining(part) for part in kept["parts"]]}
    return kept
