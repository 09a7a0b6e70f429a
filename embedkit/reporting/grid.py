"""What is drawn: a heading, row labels, one cell for each column, and notes; no matter in which format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One number in its metric's unit, with its standard deviation where one is known.

    `mark` says how it compares: with a baseline, and by letters with other rows.
    """

    mean: float
    std: float | None = None
    best: bool = False
    decimals: int = 1
    mark: str = ""

    @property
    def number(self) -> str:
        """The mean as it is printed."""
        return f"{self.mean:.{self.decimals}f}"

    @property
    def spread(self) -> str:
        """The standard deviation as it is printed, with its sign; empty where unknown."""
        return "" if self.std is None else f"±{self.std:.{self.decimals}f}"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row: its labels, and a cell (or None) for each column."""

    labels: tuple[str, str]
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """One table of numbers that may be compared with each other.

    `legend` says what its marks mean; `notes` may be those of other grids, too, and are then said once.
    """

    title: str
    label_headers: tuple[str, str]
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    legend: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Document:
    """Grids, and the notes that are said once for all of them."""

    grids: tuple[Grid, ...]
    notes: tuple[str, ...] = ()


def mark_best(lines: Sequence[Line], *, lowest: bool = False) -> tuple[Line, ...]:
    """Mark the highest (or lowest) printed number of each line that has at least two."""
    return tuple(replace(line, cells=_mark(line.cells, min if lowest else max)) for line in lines)


def _mark(cells: tuple[Cell | None, ...], pick: Callable[[list[float]], float]) -> tuple[Cell | None, ...]:
    numbers = [float(cell.number) for cell in cells if cell is not None]
    if len(numbers) < 2:
        return cells
    best = pick(numbers)
    return tuple(cell and replace(cell, best=float(cell.number) == best) for cell in cells)


def has_best(document: Document) -> bool:
    """Tell whether any cell is marked as the best of its line."""
    return any(cell and cell.best for grid in document.grids for line in grid.lines for cell in line.cells)


def shorten(document: Document) -> Document:
    """Keep the numbers, and one line: on the best, which formats add, else on what stands after the numbers."""

    def bare(line: Line) -> Line:
        return replace(line, cells=tuple(cell and replace(cell, mark="") for cell in line.cells))

    grids = tuple(replace(grid, lines=tuple(map(bare, grid.lines)), legend=(), notes=()) for grid in document.grids)
    return Document(
        grids=grids, notes=() if has_best(document) else ("±: standard deviation over seeds, where there are several.",)
    )


def say_notes_once(grids: Sequence[Grid]) -> list[Grid]:
    """Drop the notes of a grid that is followed by one with the same."""
    following = [*(grid.notes for grid in grids[1:]), None]
    return [
        replace(grid, notes=() if grid.notes == notes else grid.notes)
        for grid, notes in zip(grids, following, strict=True)
    ]
