"""Draw a document as text for a terminal, Markdown, or LaTeX."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from embedkit.reporting.grid import Cell, Document, Grid, closing_notes, say_notes_once
from embedkit.reporting.labels import shorten_names

WIDTH = 80
LABEL_WIDTHS = ((24, 18), (18, 14), (14, 11))
PAGE_WIDTH = 60
HEADER_WIDTH = 10
BOLD = ("\x1b[1m", "\x1b[0m")


def render_text(document: Document, *, bold: bool = False, width: int = WIDTH) -> str:
    """Draw for a terminal: the best cells carry a star, and bold type where asked for."""
    blocks = [_text_grid(grid, bold=bold, width=width) for grid in say_notes_once(document.grids)]
    notes = closing_notes(document, "*")
    return "\n\n".join([*blocks, "\n".join(textwrap.fill(note, width) for note in notes)]).rstrip()


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """How a grid stands on a terminal.

    Attributes:
        labels: Of every line, broken into lines of one text for each column of labels.
        headers: Those of the labels, in the same form.
        sizes: Widths of the columns of labels; one column where intervals, and heads, stand on lines of their own.
        cell: Width of a cell.
        room: How many columns fit beside the labels.
    """

    labels: Sequence[Sequence[Sequence[str]]]
    headers: Sequence[Sequence[str]]
    sizes: Sequence[int]
    cell: int
    room: int

    @property
    def stacked(self) -> bool:
        return len(self.sizes) == 1

    def label(self, texts: Sequence[str]) -> str:
        return "  ".join(f"{text:<{size}}" for text, size in zip_longest(texts, self.sizes, fillvalue=""))


def _text_grid(grid: Grid, *, bold: bool, width: int) -> str:
    headers = [_break(column, "-:,", HEADER_WIDTH) for column in grid.columns]
    layout = _choose_layout(grid, headers, width)
    parts = [textwrap.fill(grid.title, width), "-" * min(width, len(grid.title))]
    for start in range(0, len(grid.columns), layout.room):
        columns = slice(start, start + layout.room)
        parts += _text_block(grid, layout, headers[columns], columns, bold)
        parts.append("")
    parts += [textwrap.fill(note, width) for note in (*grid.legend, *grid.notes)]
    return "\n".join(parts).rstrip()


def _choose_layout(grid: Grid, headers: Sequence[Sequence[str]], width: int) -> _Layout:
    """Narrow labels only as far as all columns then stand side by side, or set intervals below; else wrap columns."""
    cells = [cell for line in grid.lines for cell in line.cells]
    layouts = []
    for stacked in (False, True) if any(cell and cell.interval for cell in cells) else (False,):
        texts = [text for cell in cells for text in _cell_lines(cell, stacked)]
        texts += [f"{piece} " for pieces in headers for piece in pieces] + [f"{cell.mark} " for cell in cells if cell]
        size = max(map(len, texts))
        for widths in LABEL_WIDTHS:
            labels = _break_labels(grid, widths[0], widths[0] if stacked else widths[1], stacked)
            heads = [(text,) for text in grid.label_headers] if stacked else [grid.label_headers]
            columns = zip(*heads, *(row for rows in labels for row in rows), strict=True)
            sizes = [max(map(len, column)) for column in columns]
            room = max(1, (width - sum(sizes) - 2 * (not stacked)) // (size + 1))
            layouts.append(_Layout(labels=labels, headers=heads, sizes=sizes, cell=size, room=room))
            if room >= len(grid.columns):
                return layouts[-1]
    return max(layouts, key=lambda layout: layout.room) if layouts[-1].stacked else layouts[0]


def _break_labels(grid: Grid, first: int, second: int, stacked: bool) -> list[list[tuple[str, ...]]]:
    names = shorten_names([line.labels[0] for line in grid.lines], first)
    broken = [(names[line.labels[0]], _break_head(line.labels[1], second)) for line in grid.lines]
    if stacked:
        return [[(name,), *((piece,) for piece in pieces)] for name, pieces in broken]
    return [list(zip_longest([name], pieces, fillvalue="")) for name, pieces in broken]


def _text_block(grid: Grid, layout: _Layout, headers: Sequence[Sequence[str]], columns: slice, bold: bool) -> list[str]:
    """Lay out as many columns as fit beside the labels."""
    height = max(len(layout.headers), *map(len, headers))
    heads = [[""] * (height - len(pieces)) + list(pieces) for pieces in headers]
    titles = [()] * (height - len(layout.headers)) + [tuple(texts) for texts in layout.headers]
    rows: list[tuple[Sequence[str], Sequence[str]]] = [
        (title, [f"{pieces[level]} ".rjust(layout.cell) for pieces in heads]) for level, title in enumerate(titles)
    ]
    for labels, line in zip(layout.labels, grid.lines, strict=True):
        cells = line.cells[columns]
        if not any(cells) and any(line.cells):
            continue
        own = [_cell_lines(cell, layout.stacked) for cell in cells]
        best = [bool(bold and cell and cell.best) for cell in cells]
        levels = [[_embolden(one[0], layout.cell, how) for one, how in zip(own, best, strict=True)]]
        if layout.stacked:
            levels.append([one[1].rjust(layout.cell) for one in own])
        if any(cell and cell.mark for cell in cells):
            # Marks stand below their numbers, so that as many columns fit as without them.
            levels.append([f"{cell.mark if cell else ''} ".rjust(layout.cell) for cell in cells])
        rows += zip_longest(labels, levels, fillvalue=())
    return [f"{layout.label(label)}{''.join(f' {text}' for text in texts)}".rstrip() for label, texts in rows]


def _cell_lines(cell: Cell | None, stacked: bool) -> list[str]:
    """Write a cell on one line, or its interval on a second one."""
    if cell is None:
        return ["- ", ""]
    star = "*" if cell.best else " "
    return [f"{cell.number}{star}", cell.spread] if stacked else [f"{cell.number} {cell.spread}".strip() + star]


def _embolden(text: str, width: int, bold: bool) -> str:
    return " " * (width - len(text)) + (f"{BOLD[0]}{text}{BOLD[1]}" if bold else text)


def _short_labels(grid: Grid, *widths: int) -> list[tuple[str, str]]:
    first, second = (
        shorten_names([line.labels[side] for line in grid.lines], width) for side, width in enumerate(widths)
    )
    return [(first[line.labels[0]], second[line.labels[1]]) for line in grid.lines]


def _break_head(label: str, width: int) -> list[str]:
    """Break a head's label between its settings, and inside them only where that is not enough."""
    marks = ":," if max(map(len, re.split("(?<=[:,])", label))) <= width else ":,/+"
    return [label] if len(label) <= width else _break(label, marks, width)


def _break(label: str, marks: str, width: int) -> list[str]:
    """Break a label into lines after some characters, and where that is not enough at the width."""
    for mark in marks:
        label = label.replace(mark, f"{mark}\n")
    lines: list[str] = [""]
    for piece in label.split("\n"):
        if len(lines[-1]) + len(piece) > width and lines[-1]:
            lines.append("")
        lines[-1] += piece
    return [line[start : start + width] for line in lines for start in range(0, len(line), width)]


def render_markdown(document: Document) -> str:
    """Draw as Markdown: one heading, table and notes for each grid; best cells in bold."""
    blocks = [_markdown_grid(grid) for grid in say_notes_once(document.grids)]
    return "\n\n".join([*blocks, *(_escape(note, _MARKDOWN) for note in closing_notes(document, "Bold"))])


def _markdown_grid(grid: Grid) -> str:
    def row(texts: Sequence[str]) -> str:
        return f"| {' | '.join(texts)} |"

    headers = [_escape(text, _MARKDOWN) for text in (*grid.label_headers, *grid.columns)]
    lines = [row(headers), row(["---", "---", *["---:"] * len(grid.columns)])]
    lines += [row(texts) for texts in _cells(grid, _MARKDOWN, _markdown_cell)]
    notes = [_escape(note, _MARKDOWN) for note in (*grid.legend, *grid.notes)]
    return "\n\n".join([f"### {_escape(grid.title, _MARKDOWN)}", "\n".join(lines), *notes])


def _markdown_cell(cell: Cell) -> str:
    number = f"**{cell.number}**" if cell.best else cell.number
    mark = f"<sup>{_escape(cell.mark, _MARKDOWN)}</sup>" if cell.mark else ""
    return " ".join(filter(None, [number, cell.spread, mark]))


def render_latex(document: Document) -> str:
    """Draw as LaTeX tables for the booktabs package; the notes stand under each table."""
    notes = closing_notes(document, "Bold")
    return "\n\n".join(["% needs \\usepackage{booktabs}", *(_latex_grid(grid, notes) for grid in document.grids)])


def _latex_grid(grid: Grid, more_notes: Sequence[str]) -> str:
    def row(texts: Sequence[str]) -> str:
        return f"{' & '.join(texts)} \\\\"

    headers = [_escape(text, _LATEX) for text in (*grid.label_headers, *grid.columns)]
    notes = (*grid.legend, *grid.notes, *more_notes)
    lines = [
        "\\begin{table}",
        "\\centering\\footnotesize\\setlength{\\tabcolsep}{2pt}",
        f"\\caption{{{_escape(grid.title, _LATEX)}}}",
        f"\\begin{{tabular}}{{ll{'r' * len(grid.columns)}}}",
        "\\toprule",
        row(headers),
        "\\midrule",
        *(row(texts) for texts in _cells(grid, _LATEX, _latex_cell)),
        "\\bottomrule",
        "\\end{tabular}",
        *(f"\\par\\smallskip{{\\footnotesize {_escape(note, _LATEX)}\\par}}" for note in notes),
        "\\end{table}",
    ]
    return "\n".join(lines)


def _latex_cell(cell: Cell) -> str:
    number = f"\\textbf{{{cell.number}}}" if cell.best else cell.number
    mark = f"\\textsuperscript{{{_escape(cell.mark, _LATEX)}}}" if cell.mark else ""
    if cell.interval:
        # Below its number, so that five losses fit on a page.
        return f"\\shortstack[r]{{{number}{mark}\\\\{{\\scriptsize{{}}{cell.spread}}}}}"
    spread = f" {{\\scriptsize$\\pm${cell.spread[1:]}}}" if cell.spread else ""
    return number + spread + mark


def _cells(grid: Grid, table: Mapping[str, str], draw: Callable[[Cell], str]) -> list[list[str]]:
    labels = _short_labels(grid, PAGE_WIDTH, PAGE_WIDTH)
    return [
        [_escape(text, table) for text in texts] + ["-" if cell is None else draw(cell) for cell in line.cells]
        for texts, line in zip(labels, grid.lines, strict=True)
    ]


def _escape(text: str, table: Mapping[str, str]) -> str:
    return "".join(table.get(letter, letter) for letter in text)


_MARKDOWN = {letter: f"\\{letter}" for letter in "\\|*_<[]`~"} | {"\n": " "}
_LATEX = {letter: f"\\{letter}" for letter in "&%$#_{}"} | {
    "\\": "\\textbackslash{}",
    "~": "$\\sim$",
    "[": "{[}",
    "]": "{]}",
    "^": "\\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "±": "$\\pm$",
    "…": "\\ldots{}",
    "\n": " ",
}
