"""Names that the Tab key completes."""

from __future__ import annotations

import re
from collections.abc import Callable

from embedkit.registry import load_object


def complete_names(catalogue: str) -> Callable[[str], list[str]]:
    """Complete the names in a catalogue (`module:REGISTRY`) by the Tab key, also those after `,` and `+`."""

    def complete(incomplete: str) -> list[str]:
        before, start = re.fullmatch(r"(.*[,+])?(.*)", incomplete).groups("")  # type: ignore[union-attr]
        return [before + name for name in load_object(catalogue) if name.startswith(start)]

    return complete
