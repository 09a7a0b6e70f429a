"""A terminal of so many columns, as far as embedkit steers one: what stays on it after all is written."""

from __future__ import annotations

import io
import re

_PIECES = re.compile(
    r"\x1b\[(?P<count>\d*)(?P<what>[A-Za-z])|\x1b\[[?\d;]*[a-zA-Z]|(?P<control>[\r\n])|(?P<text>[^\x1b\r\n])"
)


class Screen(io.StringIO):
    """Takes what is written as a terminal would, without an end below."""

    def __init__(self, columns: int = 80) -> None:
        super().__init__()
        self.columns = columns

    def isatty(self) -> bool:
        """Pretend to be a terminal."""
        return True

    def lines(self) -> list[str]:
        """Return what can be read, line by line."""
        rows: list[list[str]] = [[]]
        row = column = 0
        for piece in _PIECES.finditer(self.getvalue()):
            if piece["what"] == "A":
                row -= int(piece["count"] or 1)
            elif piece["what"] == "K":
                rows[row] = []
            elif piece["control"] == "\r":
                column = 0
            elif piece["control"] == "\n" or (piece["text"] and column == self.columns):
                row, column = row + 1, 0
            if piece["text"]:
                rows += [[] for _ in range(row + 1 - len(rows))]
                rows[row] += " " * (column - len(rows[row]))
                rows[row][column : column + 1] = piece["text"]
                column += 1
            rows += [[] for _ in range(row + 1 - len(rows))]
        return ["".join(one).rstrip() for one in rows]
