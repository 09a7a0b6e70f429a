"""What is drawn: a heading, row labels, one cell for each column, and notes; no matter in which format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One number in its metric's unit, with its interval, or its standard deviation, where one is known.

    `mark` says how it compares: with a baseline, and by letters with other rows; `best` that it is better than all
    others of its line.
    """

    mean: float
    std: float | None = None
    interval: Interval | None = None
    best: bool = False
    decimals: int = 1
    mark: str = ""

    @property
    def number(self) -> str:
        """The mean as it is printed."""
        return f"{self.mean:.{self.decimals}f}"

    @property
    def spread(self) -> str:
        """The interval in brackets, or the deviation with its sign, as printed; empty where neither is known."""
        if self.interval is not None:
            return f"[{', '.join(f'{end:.{self.decimals}f}' for end in self.interval)}]"
        return "" if self.std is None else f"±{self.std:.{self.decimals}f}"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row: its labels, and a cell (or None) for each column."""

    labels: tuple[str, str]
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """One table of numbers that may be compared with each other.

    `starred` says whether the best of a line is looked for, `legend` what its marks mean; `notes` may be those of other
    grids, too, and are then said once.
    """

    title: str
    label_headers: tuple[str, str]
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    starred: bool = False
    legend: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Document:
    """Grids, and the notes that are said once for all of them."""

    grids: tuple[Grid, ...]
    notes: tuple[str, ...] = ()


def closing_notes(document: Document, best: str) -> list[str]:
    """Say once what the spreads of a document's cells are, and which is the best of its row; then its own notes.

    Args:
        document: What is drawn.
        best: How the best is shown: "*" or "Bold".
    """
    cells = [cell for grid in document.grids for line in grid.lines for cell in line.cells if cell]
    notes = [
        "In brackets: 95 % intervals over speakers." if any(cell.interval for cell in cells) else "",
        "±: standard deviation over seeds." if any(cell.interval is None and cell.spread for cell in cells) else "",
        f"{best}: better than every other loss of its row." if any(cell.best for cell in cells) else "",
        f"No {'star' if best == '*' else 'bold type'} in a row: its best is only the best on these test results."
        if any(grid.starred and _lacks_best(line) for grid in document.grids for line in grid.lines)
        else "",
        *document.notes,
    ]
    return [note for note in notes if note]


def shorten(document: Document) -> Document:
    """Keep the numbers; the one line below them, on what stands beside numbers, is every format's own."""

    def bare(line: Line) -> Line:
        return replace(line, cells=tuple(cell and replace(cell, mark="") for cell in line.cells))

    grids = tuple(
        replace(grid, lines=tuple(map(bare, grid.lines)), legend=(), notes=(), starred=False) for grid in document.grids
    )
    return Document(grids=grids)


def _lacks_best(line: Line) -> bool:
    """Tell whether a line has several numbers, none of which is better than all others."""
    cells = [cell for cell in line.cells if cell]
    return len(cells) > 1 and not any(cell.best for cell in cells)


def say_notes_once(grids: Sequence[Grid]) -> list[Grid]:
    """Drop the notes of a grid that is followed by one with the same."""
    following = [*(grid.notes for grid in grids), None][1:]
    return [
        replace(grid, notes=() if grid.notes == notes else grid.notes)
        for grid, notes in zip(grids, following, strict=True)
    ]
