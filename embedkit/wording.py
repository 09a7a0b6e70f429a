"""Words of the sentences that users read."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Categories of characters that steer what shows them: controls, formats (as right-to-left), halves, line breaks."""
_JOINERS = "\u200c\u200d"
"""Formats that words of some languages, and emoji, are spelt with."""


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


def escape_controls(text: str, keep: str = "") -> str:
    r"""Write a text so that it steers no terminal and no page that shows it: what is not seen, as Python escapes it.

    >>> escape_controls("a\nb\x1b[2J")
    'a\\nb\\x1b[2J'
    """
    if text.isprintable():
        return text
    return "".join(
        letter.encode("unicode_escape").decode() if _is_no_text(letter) and letter not in keep else letter
        for letter in text
    )


def _is_no_text(letter: str) -> bool:
    # The last two of every plane are no characters, and no XML may hold them.
    invisible = unicodedata.category(letter) in _INVISIBLE and letter not in _JOINERS
    return invisible or ord(letter) & 0xFFFE == 0xFFFE


def escape_all(value: Any) -> Any:
    """Escape every text in mappings and lists; see `escape_controls`."""
    if isinstance(value, str):
        return escape_controls(value)
    if isinstance(value, Mapping):
        return {escape_all(key): escape_all(item) for key, item in value.items()}
    return [escape_all(item) for item in value] if isinstance(value, list | tuple) else value
