"""What objects look like in a notebook: a small table, with everything that came from data escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from embedkit.wording import escape_controls

MOST_ROWS = 50


def draw_facts(title: str, facts: Mapping[str, object]) -> str:
    """Draw names and values as an HTML table; what is empty is left out."""
    rows = [[name, value] for name, value in facts.items() if value not in (None, "", (), [], {})]
    return draw_rows(title, [], rows)


def draw_rows(title: str, heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Draw rows as an HTML table, the first of many."""
    head = f"<thead>{_row('th', heads)}</thead>" if heads else ""
    body = "".join(_row("td", row) for row in rows[:MOST_ROWS])
    more = f"<p>and {len(rows) - MOST_ROWS:,} more</p>" if len(rows) > MOST_ROWS else ""
    return f"<table><caption>{_text(title)}</caption>{head}<tbody>{body}</tbody></table>{more}"


def _row(tag: str, cells: Iterable[object]) -> str:
    return f"<tr>{''.join(f'<{tag}>{_text(cell)}</{tag}>' for cell in cells)}</tr>"


def _text(value: object) -> str:
    return escape(escape_controls(str(value)))
