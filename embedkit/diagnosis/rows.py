"""What was found on a machine: rows in sections, without the names of people's folders."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

State = Literal["ok", "note", "missing", "broken"]

FORMAT = 1
"""Of the JSON; another number where a key changes its meaning or goes."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One thing that was looked at.

    Attributes:
        section, name: What it is; together they are unique.
        found: What was found, as the table shows it.
        state: "ok"; "note", works and yet should be known; "missing", something optional; "broken", does not work.
        problem: What is wrong, in one sentence.
        command: What mends it.
        facts: What was found, as values; sizes in bytes, times in seconds.
    """

    section: str
    name: str
    found: str
    state: State = "ok"
    problem: str | None = None
    command: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Examination:
    """What a machine has and what works there.

    Attributes:
        rows: What was found, in the order of the table.
    """

    rows: tuple[Row, ...]

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Examination:
        """Take rows, with `~` in place of the home folder."""
        return cls(tuple(Row(**_without_home(asdict(row))) for row in rows))

    @property
    def ok(self) -> bool:
        """Whether all that is installed works."""
        return all(row.state != "broken" for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as values for JSON: sections of rows by name, beside `format` and `ok`."""
        found: dict[str, Any] = {"format": FORMAT, "ok": self.ok}
        for row in self.rows:
            values = asdict(row)
            found.setdefault(values.pop("section"), {})[values.pop("name")] = values
        return found


def _without_home(row: dict[str, Any]) -> dict[str, Any]:
    home = str(Path.home())
    short: dict[str, Any] = _shorten(row, home) if len(home) > 1 else row
    if short["command"]:
        # Shells expand no ~ within quotes.
        short["command"] = short["command"].replace("'~/", "~/'")
    return short


def _shorten(value: Any, home: str) -> Any:
    if isinstance(value, dict):
        return {key: _shorten(item, home) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shorten(item, home) for item in value]
    return re.sub(rf"(?<![\w/.-]){re.escape(home)}(?![\w.-])", "~", value) if isinstance(value, str) else value
