"""Which columns of a table say where an utterance lies in its file, and how they are read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TypeAlias

_WORDS = {
    "start": ("start", "begin", "beg", "onset", "tmin", "xmin", "tbeg"),
    "end": ("end", "stop", "finish", "tmax", "xmax", "tend"),
    "duration": ("duration", "dur", "tdur"),
    "offset": ("offset",),
    "length": ("length", "len"),
}
_UNITS: Mapping[str, Decimal] = {
    **dict.fromkeys(("", "s", "sec", "secs", "second", "seconds", "ssmsec", "hhmmssms"), Decimal(1)),
    **dict.fromkeys(("ms", "msec", "msecs", "millis", "millisecond", "milliseconds"), Decimal("1e-3")),
    **dict.fromkeys(("us", "usec", "microseconds"), Decimal("1e-6")),
    **dict.fromkeys(("ns", "nanoseconds"), Decimal("1e-9")),
}
_COUNTS = ("sample", "samples", "frame", "frames", "idx", "index", "byte", "bytes")
_PARTS = ("segment", "seg", "utterance", "utt", "clip", "audio", "time", "t")
_NAME = re.compile(
    rf"(?P<before>{'|'.join(_COUNTS[:4])}|{'|'.join(_PARTS)})?"
    rf"(?P<word>{'|'.join(word for words in _WORDS.values() for word in words)})"
    rf"(?:timestamp|time|point|position|pos|at)?(?:in)?(?P<unit>{'|'.join([*filter(None, _UNITS), *_COUNTS])})?"
)
_CLOCK = re.compile(r"(?P<hours>\d+):(?P<minutes>[0-5]?\d):(?P<seconds>[0-5]?\d(?:[.,]\d+)?)")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")


Refuse: TypeAlias = Callable[[str], Exception]
"""Makes an error of columns or a value that may mean several things: a text that continues a sentence on them."""


@dataclass(frozen=True)
class TimeColumn:
    """A column of times: its name, and the seconds that one of its units lasts."""

    name: str
    unit: Decimal


@dataclass(frozen=True)
class TimeColumns:
    """The columns that say where an utterance starts and ends; each may be missing.

    Attributes:
        start, end, duration: The columns; where there is no `end`, it is `start` plus `duration`.
    """

    start: TimeColumn | None = None
    end: TimeColumn | None = None
    duration: TimeColumn | None = None

    def uses(self) -> dict[str, str]:
        """Say of every column what it is used as."""
        found = (
            (self.start, "start"),
            (self.end, "end"),
            (self.duration, "end = start + duration" + (f" where {self.end.name} is empty" if self.end else "")),
        )
        return {column.name: f"{use}{_told_unit(column)}" for column, use in found if column is not None}

    def segment(
        self, value: Callable[[str], str], refuse: Refuse, *, comma: bool = False
    ) -> tuple[float | None, float | None]:
        """Read the start and the end of a row in seconds; None where nothing is said.

        Args:
            value: Gives the row's text in a column.
            refuse: Makes the error that is raised where a value is no time.
            comma: Whether "1,5" is a number.
        """
        start, end, duration = (
            None if column is None else _read(column, value(column.name), refuse, comma=comma)
            for column in (self.start, self.end, self.duration)
        )
        if duration is not None and end is None and (self.end is None or start is not None):
            end = (start or Decimal(0)) + duration
        return (None if start is None else float(start)), (None if end is None else float(end))


def find_times(names: Sequence[str], refuse: Refuse) -> TimeColumns:
    """Find the columns of times by their names ("start", "End_Time (ms)", "onset" with "offset" or "duration", ...).

    "offset" is the end beside "onset", and the start beside "duration". A duration alone is the file's.

    Args:
        names: Of all columns.
        refuse: Makes the error that is raised where names may mean several things, or a unit is no time.
    """
    found: dict[str, list[TimeColumn]] = {kind: [] for kind in _WORDS}
    counted: list[str] = []
    for name in names:
        if (read := _understand(name)) is not None:
            kind, unit = read
            if unit is None:
                counted += [name] if kind not in ("duration", "length") else []
            else:
                found[kind].append(TimeColumn(name, unit))
    if counted:
        raise refuse(f"has times in samples or frames ({', '.join(counted)}); write start and end in seconds")
    start, end, duration, offset, length = (_choose(kind, columns, refuse) for kind, columns in found.items())
    if offset is not None:
        onset = start is not None and "onset" in _compact(start.name)
        if onset and end is None:
            end = offset
        elif start is None and (duration is not None or end is not None):
            start = offset
        else:
            raise refuse(f"has a column {offset.name!r}, which may be a start or an end; call it start or end")
    if start is not None and end is None and duration is None and length is not None:
        raise refuse(
            f"has a start ({start.name!r}) and a column {length.name!r}, which may be of audio or of text; call it "
            "duration, or another name"
        )
    return TimeColumns(start, end, duration if start is not None else None)


def _understand(name: str) -> tuple[str, Decimal | None] | None:
    """Return what a name is of times and the unit, None for samples and frames; None for another name."""
    match = _NAME.fullmatch(_compact(name))
    if match is None:
        return None
    kind = next(kind for kind, words in _WORDS.items() if match["word"] in words)
    if kind == "duration" and match["before"] == "audio":
        kind = "length"
    counts = match["before"] in _COUNTS or match["unit"] in _COUNTS
    return kind, None if counts else _UNITS[match["unit"] or ""]


def _compact(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())


def _choose(kind: str, columns: Sequence[TimeColumn], refuse: Refuse) -> TimeColumn | None:
    """Return the column of the plain name, else the only one."""
    plain = [column for column in columns if column.name == kind]
    if len(columns) > 1 and not plain:
        names = ", ".join(repr(column.name) for column in columns)
        raise refuse(f"has several columns that may be the {kind} ({names}); call one of them {kind}")
    return next(iter(plain or columns), None)


def _read(column: TimeColumn, text: str, refuse: Refuse, *, comma: bool) -> Decimal | None:
    if not text:
        return None
    if match := _CLOCK.fullmatch(text):
        seconds = Decimal(match["seconds"].replace(",", "."))
        return 3600 * int(match["hours"]) + 60 * int(match["minutes"]) + seconds
    try:
        number = Decimal(text.replace(",", ".") if comma and _DECIMAL_COMMA.fullmatch(text) else text)
    except InvalidOperation:
        number = Decimal("nan")
    if "_" in text or not number.is_finite():
        unit = "seconds such as 1.25" if column.unit == 1 else f"a number{_told_unit(column)}"
        raise refuse(f"has {text!r} as {column.name}, expected {unit}, or nothing")
    return number * column.unit


def _told_unit(column: TimeColumn) -> str:
    units = {Decimal("1e-3"): " in ms", Decimal("1e-6"): " in microseconds", Decimal("1e-9"): " in ns"}
    return units.get(column.unit, "")
