"""Draw a document as text for a terminal, Markdown, or LaTeX."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, zip_longest
from typing import TypeAlias

from embedkit.reporting.grid import Cell, Document, Grid, has_best, say_notes_once
from embedkit.reporting.labels import shorten_names

WIDTH = 80
LABEL_WIDTHS = ((24, 18), (18, 14), (14, 11))
PAGE_WIDTH = 60
HEADER_WIDTH = 10
Label: TypeAlias = tuple[list[str], list[str]]
"""The lines of a row's two labels."""
BOLD = ("\x1b[1m", "\x1b[0m")


def render_text(document: Document, *, bold: bool = False, width: int = WIDTH) -> str:
    """Draw for a terminal: the best cells carry a star, and bold type where asked for."""
    blocks = [_text_grid(grid, bold=bold, width=width) for grid in say_notes_once(document.grids)]
    notes = ["* best loss of its row.", *document.notes] if has_best(document) else document.notes
    return "\n\n".join([*blocks, "\n".join(textwrap.fill(note, width) for note in notes)]).rstrip()


def _text_grid(grid: Grid, *, bold: bool, width: int) -> str:
    headers = [_wrap_header(column) for column in grid.columns]
    cell = max(
        [len(piece) + 1 for pieces in headers for piece in pieces]
        + [len(_plain(cell)) for line in grid.lines for cell in line.cells]
        + [len(cell.mark) + 1 for line in grid.lines for cell in line.cells if cell]
    )
    labels, sizes, room = _fit_labels(grid, cell, width)
    parts = [textwrap.fill(grid.title, width), "-" * min(width, len(grid.title))]
    for start in range(0, len(grid.columns), room):
        columns = slice(start, start + room)
        parts += _text_block(grid, labels, sizes, headers[columns], columns, cell, bold)
        parts.append("")
    parts += [textwrap.fill(note, width) for note in (*grid.legend, *grid.notes)]
    return "\n".join(parts).rstrip()


def _fit_labels(grid: Grid, cell_width: int, width: int) -> tuple[list[Label], list[int], int]:
    """Narrow the labels only as far as it lets all columns stand side by side; else let the columns wrap."""
    layouts = []
    for widths in LABEL_WIDTHS:
        first = shorten_names([line.labels[0] for line in grid.lines], widths[0])
        labels = [([first[line.labels[0]]], _break_head(line.labels[1], widths[1])) for line in grid.lines]
        sizes = [
            max(map(len, [header, *chain.from_iterable(pieces)]))
            for header, *pieces in zip(grid.label_headers, *labels, strict=True)
        ]
        room = max(1, (width - sum(sizes) - 2) // (cell_width + 1))
        layouts.append((labels, sizes, room))
        if room >= len(grid.columns):
            return layouts[-1]
    return layouts[0]


def _text_block(
    grid: Grid,
    labels: Sequence[Label],
    sizes: Sequence[int],
    headers: Sequence[Sequence[str]],
    columns: slice,
    cell_width: int,
    bold: bool,
) -> list[str]:
    """Lay out as many columns as fit beside the labels."""

    def label(texts: Sequence[str]) -> str:
        return f"{texts[0]:<{sizes[0]}}  {texts[1]:<{sizes[1]}}"

    height = max(map(len, headers))
    heads = [[""] * (height - len(pieces)) + list(pieces) for pieces in headers]
    lines = []
    for level in range(height):
        texts = grid.label_headers if level == height - 1 else ("", "")
        lines.append(label(texts) + "".join(f" {pieces[level] + ' ':>{cell_width}}" for pieces in heads))
    for own, line in zip(labels, grid.lines, strict=True):
        cells = line.cells[columns]
        levels = ["".join(f" {_text_cell(cell, cell_width, bold)}" for cell in cells)]
        if any(cell and cell.mark for cell in cells):
            # Marks stand below their numbers, so that as many columns fit as without them.
            levels.append("".join(f" {(cell.mark if cell else '') + ' ':>{cell_width}}" for cell in cells))
        lines += [label((one, other)) + rest for one, other, rest in zip_longest(*own, levels, fillvalue="")]
    return [line.rstrip() for line in lines]


def _text_cell(cell: Cell | None, width: int, bold: bool) -> str:
    text = _plain(cell)
    padding = " " * (width - len(text))
    return padding + (f"{BOLD[0]}{text}{BOLD[1]}" if bold and cell is not None and cell.best else text)


def _plain(cell: Cell | None) -> str:
    if cell is None:
        return "- "
    return f"{' '.join(filter(None, [cell.number, cell.spread]))}{'*' if cell.best else ' '}"


def _short_labels(grid: Grid, *widths: int) -> list[tuple[str, str]]:
    first, second = (
        shorten_names([line.labels[side] for line in grid.lines], width) for side, width in enumerate(widths)
    )
    return [(first[line.labels[0]], second[line.labels[1]]) for line in grid.lines]


def _wrap_header(label: str) -> list[str]:
    """Break a loss's name, so that columns stay narrow."""
    return _break(label, "-:,", HEADER_WIDTH)


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
    notes = ["Bold: best loss of its row.", *document.notes] if has_best(document) else document.notes
    return "\n\n".join([*blocks, *(_escape(note, _MARKDOWN) for note in notes)])


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
    notes = ["Bold: best loss of its row.", *document.notes] if has_best(document) else document.notes
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
    spread = f" {{\\scriptsize$\\pm${cell.spread[1:]}}}" if cell.spread else ""
    mark = f"\\textsuperscript{{{_escape(cell.mark, _LATEX)}}}" if cell.mark else ""
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
