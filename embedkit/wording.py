"""Words of the sentences that users read."""

from __future__ import annotations

from collections.abc import Iterable


def count_noun(count: int, noun: str) -> str:
    """Write a count with its noun: "1 file", "1,200 files"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def list_some(names: Iterable[str], most: int) -> str:
    """Write the first of some names, and how many more there are.

    >>> list_some(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    found = list(names)
    return ", ".join(found[:most]) + (f" and {len(found) - most:,} more" if len(found) > most else "")


def list_words(words: Iterable[str], last: str = "and") -> str:
    """Write words as a sentence lists them.

    >>> list_words(["a", "b", "c"], "or")
    'a, b or c'
    """
    found = list(words)
    return f" {last} ".join(filter(None, [", ".join(found[:-1]), *found[-1:]]))


def format_bytes(count: float) -> str:
    """Write a number of bytes for people, in decimal units ("43.9 MB")."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
