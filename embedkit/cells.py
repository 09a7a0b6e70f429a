"""Cells of CSV that no spreadsheet runs: formulas get a leading apostrophe, and are read back as they were."""

from __future__ import annotations

import re
from typing import Any

# What a spreadsheet may run (OWASP, "CSV Injection"), full-width signs as well, after any apostrophes, so that every
# text comes back.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def write_cell(value: Any) -> Any:
    """Return a value as it is written: a text that begins like a formula gets an apostrophe, numbers stay.

    >>> write_cell("=1+1"), write_cell("-0.5"), write_cell("'quoted'")
    ("'=1+1", '-0.5', "'quoted'")
    """
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        return "'" + value
    return value


def read_cell(text: str) -> str:
    """Return the text that `write_cell` was given.

    >>> read_cell("'=1+1"), read_cell("'quoted'")
    ('=1+1', "'quoted'")
    """
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
