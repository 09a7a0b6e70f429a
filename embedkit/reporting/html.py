"""Draw a document as one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from embedkit.reporting.grid import Cell, Document, Grid, closing_notes, say_notes_once

_STYLE = (
    ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:auto;padding:1rem}"
    ".wide{overflow-x:auto}table{border-collapse:collapse;border-block:2px solid}"
    "caption{text-align:left;font-weight:600}th,td{padding:.2rem .7rem;text-align:right;white-space:nowrap}"
    "thead th{border-bottom:1px solid}.label{text-align:left;font-weight:400}small{opacity:.75}"
    ".notes{font-size:.85rem}"
)


def render_html(document: Document) -> str:
    """Draw as a page of tables: best cells in bold, marks raised, notes below; light or dark as the reader likes."""
    title = document.grids[0].title if document.grids else "embedkit"
    notes = _draw_notes(closing_notes(document, "Bold"))
    body = "\n".join([*map(draw_grid, say_notes_once(document.grids)), notes])
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>"
    )


def draw_grid(grid: Grid) -> str:
    """Draw one table with its notes, without a page around it."""
    heads = [f'<th scope="col" class="label">{escape(text)}</th>' for text in grid.label_headers]
    heads += [f'<th scope="col">{escape(text)}</th>' for text in grid.columns]
    rows = [
        "".join(
            [*(f'<th scope="row" class="label">{escape(text)}</th>' for text in line.labels), *map(_cell, line.cells)]
        )
        for line in grid.lines
    ]
    lines = "\n".join(f"<tr>{row}</tr>" for row in rows)
    table = (
        f"<table>\n<caption>{escape(grid.title)}</caption>\n<thead><tr>{''.join(heads)}</tr></thead>\n"
        f"<tbody>\n{lines}\n</tbody>\n</table>"
    )
    return f'<div class="wide">{table}</div>\n{_draw_notes((*grid.legend, *grid.notes))}'


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return "<td>-</td>"
    number = f"<strong>{cell.number}</strong>" if cell.best else cell.number
    # An interval stands below its number, so that five losses fit beside each other.
    gap = "<br>" if cell.interval else " "
    spread = f"{gap}<small>{cell.spread}</small>" if cell.spread else ""
    mark = f" <sup>{escape(cell.mark)}</sup>" if cell.mark else ""
    return f"<td>{number}{mark}{spread}</td>" if cell.interval else f"<td>{number}{spread}{mark}</td>"


def _draw_notes(notes: Sequence[str]) -> str:
    return "\n".join(f'<p class="notes">{escape(note)}</p>' for note in notes)
