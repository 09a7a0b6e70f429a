"""Patterns of paths whose parts say something: `{label}/{speaker}_*.wav`."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from itertools import pairwise

from embedkit.errors import ConfigError

_TOKEN = re.compile(r"\{[^{}]*\}|\*\*/|\*\*?|[^{}*]+|.", re.DOTALL)
_FIELD = re.compile(r"\{([^\W\d]\w*)\}")
_WILDCARDS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}


@dataclass(frozen=True)
class PathPattern:
    """A pattern of paths below a folder.

    Attributes:
        text: As it was given.
        fields: The names in braces, in order.
    """

    text: str
    fields: tuple[str, ...]
    _expression: re.Pattern[str]

    def match(self, path: str) -> dict[str, str] | None:
        """Return what the fields are in a path with forward slashes; None where the pattern does not match.

        Case and Unicode normal form make no difference; fields come in NFC. Each is as short as the rest allows, from
        left to right, and never empty.
        """
        found = self._expression.fullmatch(unicodedata.normalize("NFC", path))
        fields = {} if found is None else {name: value.strip() for name, value in found.groupdict().items()}
        return fields if fields and all(fields.values()) else None


def read_pattern(text: str) -> PathPattern:
    """Read a pattern.

    `{name}` is any text without a slash, and the same text where it stands again; `*` is none or any text without a
    slash, `**` with slashes, too.

    Raises:
        ConfigError: braces that do not close, a name that is none, or a field whose end nothing marks.
    """
    tokens = _TOKEN.findall(unicodedata.normalize("NFC", text.replace("\\", "/")).removeprefix("./"))
    for before, behind in pairwise(tokens):
        if _is_open(before) and _is_open(behind) and "{" in before + behind and before != "**/":
            raise ConfigError(
                f"--pattern {text!r} is ambiguous: nothing stands between {before} and {behind}; write what divides "
                "them, as in '{speaker}_*.wav'."
            )
    fields: list[str] = []
    expression = "".join(_translate(text, token, fields) for token in tokens)
    return PathPattern(text, tuple(fields), re.compile(expression, re.IGNORECASE | re.DOTALL))


def _is_open(token: str) -> bool:
    return token in _WILDCARDS or token.startswith("{")


def _translate(text: str, token: str, fields: list[str]) -> str:
    if token in _WILDCARDS:
        return _WILDCARDS[token]
    if not set("{}") & set(token):
        return re.escape(token)
    found = _FIELD.fullmatch(token)
    name = found[1].lower() if found else ""
    if name in ("", "path"):
        raise ConfigError(
            f"--pattern {text!r} has {token!r}, expected a name in braces such as {{label}} or {{speaker}}."
        )
    if name in fields:
        return f"(?P={name})"
    fields.append(name)
    return f"(?P<{name}>[^/]+?)"
