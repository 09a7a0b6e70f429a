"""Draw what was read of a corpus: which columns as what, and which files were left."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from embedkit.corpora import Corpus
from embedkit.corpora.base import LeftOut
from embedkit.wording import count_noun, escape_controls, list_some

WIDTH = 80
UNUSED = "not used"
_SHOWN = 3
_MOST_COLUMNS = 24


class ReadingTable(str):
    """What was read of a corpus, drawn: the same for every encoder, so that commands show it once."""


def render_reading(corpus: Corpus) -> ReadingTable:
    """Draw the columns that were used and kept, and what was not read, in 80 columns."""
    console = Console(width=WIDTH, no_color=True, highlight=False, emoji=False)
    with console.capture() as capture:
        console.print(draw_reading(corpus))
    return ReadingTable("\n".join(line.rstrip() for line in capture.get().splitlines()))


def draw_reading(corpus: Corpus) -> Table:
    """Draw the same as a table of rich's."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    count = count_noun(len(corpus.utterances), "utterance")
    table.add_row(Text("read", style="bold"), Text(escape_controls(f"{count} of {corpus.name}")))
    for name, value in _rows(corpus):
        table.add_row(Text(name), Text(escape_controls(value)))
    return table


def _rows(corpus: Corpus) -> Iterator[tuple[str, str]]:
    used = [name if use == name else f"{name} as {use}" for name, use in corpus.uses.items() if use != UNUSED]
    kept = list(corpus.utterances[0].columns) if corpus.utterances else []
    unused = [name for name, use in corpus.uses.items() if use == UNUSED]
    for title, names in (("columns used", used), ("columns kept", kept), ("not used", unused)):
        if names:
            yield title, list_some(names, _MOST_COLUMNS)
    for note in (*corpus.notes, *corpus.unread):
        if isinstance(note, LeftOut):
            yield "not read", f"{len(note.names):,} {note.what}: {list_some(map(repr, note.names), _SHOWN)}"
