"""Draw what was found on a machine as one table for a terminal, and what mends it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby

from rich import box
from rich.table import Table
from rich.text import Text

from embedkit.diagnosis.rows import Examination, Row
from embedkit.terminal import WIDTH, draw_lines

_FOUND_WIDTH = 44
_TITLES = {"broken": "Does not work:", "note": "To know:", "missing": "Not installed, if it is needed:"}


def render_examination(examination: Examination, *, bold: bool = False) -> str:
    """Draw an examination in 80 columns, with bold type where asked for."""
    lines = draw_lines(_table(examination), bold=bold)
    for state, title in _TITLES.items():
        told = [row for row in examination.rows if row.state == state and row.command]
        lines += ["", title, *_list(told)] if told else []
    verdict = "All that is installed works." if examination.ok else "Something that is installed does not work."
    return "\n".join([*lines, "", verdict])


def _table(examination: Examination) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column(Text("part"), width=WIDTH - _FOUND_WIDTH - 11, no_wrap=True)
    table.add_column(Text("found"), width=_FOUND_WIDTH, overflow="fold")
    table.add_column(Text("state"), width=7, no_wrap=True)
    for section, rows in groupby(examination.rows, key=lambda row: row.section):
        table.add_row(Text(section, style="bold"))
        for row in rows:
            style = "bold" if row.state == "broken" else ""
            table.add_row(
                Text(f"  {row.name}"), Text("\n".join(_wrap(row.found, _FOUND_WIDTH))), Text(row.state, style=style)
            )
    return table


def _list(rows: list[Row]) -> Iterator[str]:
    """Write problems, and below those that one command mends, the command."""
    for command in dict.fromkeys(row.command or "" for row in rows):
        for row in rows:
            if row.command == command:
                first, *others = _wrap(row.problem or f"{row.name}: {row.found}", WIDTH - 2)
                yield from (f"- {first}", *(f"  {line}" for line in others))
        yield from wrap_command(command)


def _wrap(text: str, width: int) -> list[str]:
    """Break a text at spaces, and a path that is longer than a line after a slash."""
    lines = [""]
    for word in text.split():
        gap = " " if lines[-1] else ""
        for part in re.findall(r"[^/\\]*[/\\]|[^/\\]+", word) if len(word) > width else [word]:
            if len(lines[-1] + gap + part) > width:
                lines.append(part)
            else:
                lines[-1] += gap + part
            gap = ""
    return list(filter(None, lines))


def wrap_command(command: str) -> list[str]:
    r"""Write a command in lines that can be pasted as they are: all but the last end in `\`; quotes stay whole."""
    lines = [""]
    for word in re.findall(r"(?:'[^']*'|\S)+", command):
        if lines[-1] and len(lines[-1]) + len(word) + 3 > WIDTH - 4:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return [f"    {line}" for line in (*(f"{line} \\" for line in lines[:-1]), lines[-1])]
