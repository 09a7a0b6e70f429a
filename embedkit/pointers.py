"""Files that git-lfs leaves in the place of large ones."""

from __future__ import annotations

import re
from pathlib import Path

from embedkit.received import open_regular

_POINTER = re.compile(rb"version https://git-lfs\.github\.com/spec/v1\r?\n(?:.*\n)*?size (\d{1,18})\b")
_LONGEST = 1024
"""Bytes; a pointer has fewer (https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md)."""


def describe_pointer(path: Path) -> str | None:
    """Say that a file is a git-lfs pointer, and what to do; None where it is none, or cannot be read."""
    try:
        with open_regular(path) as file:
            found = _POINTER.match(file.read(_LONGEST))
    except OSError:
        return None
    if found is None:
        return None
    return (
        f"{path.name} is a git-lfs pointer, not the {int(found[1]):,} bytes it stands for; run `git lfs pull` in "
        f"{str(path.parent)!r}"
    )
