"""Which layers are kept."""

from __future__ import annotations

import re

from embedkit.errors import EncoderError


def select_layers(spec: str, highest: int) -> tuple[int, ...]:
    """Turn `all`, `last`, `6`, `4-9` or `0,6,12` into layer numbers, ascending.

    Args:
        spec: The option's text.
        highest: Number of the last layer; 0 is the input of the first transformer layer.

    Raises:
        EncoderError: not of that form, or a layer that the encoder does not have.
    """
    text = spec.strip().lower()
    if text == "all":
        return tuple(range(highest + 1))
    if text == "last":
        return (highest,)
    kept: set[int] = set()
    for item in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", item)
        if match is None:
            raise EncoderError(f"Layers {spec!r} cannot be read; expected all, last, a number, or a range such as 4-9.")
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last or last > highest:
            there = f"numbers from 0 to {highest}, ascending" if highest else "0, the only one"
            raise EncoderError(f"Layers {spec!r} are not there; expected {there}.")
        kept.update(range(first, last + 1))
    return tuple(sorted(kept))
