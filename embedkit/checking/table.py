"""Draw what was read of a corpus, and what a check found, as tables for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from embedkit.corpora import Corpus
from embedkit.corpora.base import LeftOut
from embedkit.terminal import WIDTH, draw_lines
from embedkit.wording import count_noun, escape_all, escape_controls, list_some

if TYPE_CHECKING:
    from embedkit.workflows.check import CorpusCheck

UNUSED = "not used"
_SHOWN = 3
_MOST_COLUMNS = 24
MOST_ROWS, MOST_LABELS = 24, 8
"""More speakers or sessions than these are summed up; for more labels, or longer ones, there is no column each."""


def render_check(check: CorpusCheck, *, bold: bool = False) -> str:
    """Draw a check in 80 columns, with bold type where asked for."""
    return "\n".join(draw_lines(*_parts(check), bold=bold))


def _parts(check: CorpusCheck) -> Sequence[RenderableType]:
    facts = escape_all(check.to_dict())
    labels = list(facts["labels"])
    parts: list[RenderableType] = [_summary(facts), "", _labels(facts["labels"])]
    for name in ("speakers", "sessions", "splits"):
        if facts[name]:
            parts += ["", _groups(name.removesuffix("s"), facts[name], labels)]
    for severity, title in (("problem", "Problems: results would be invalid"), ("warning", "Warnings")):
        messages = [finding.message for finding in check.findings if finding.severity == severity]
        if messages:
            parts += ["", Text(title, style="bold"), *(Text(_fill(escape_controls(one), "  - ")) for one in messages)]
    parts += ["", draw_reading(check.corpus)]
    verdict = "Nothing was found that makes results invalid." if check.ok else "Correct the problems before a study."
    return [*parts, "", Text(verdict, style="bold")]


def _summary(facts: Mapping[str, Any]) -> Text:
    durations = facts["durations"]
    formats = [f"{count:,} at {rate} Hz" for rate, count in facts["sampling_rates"].items()]
    channels = ", ".join(facts["channels"])
    rows = [
        ("corpus", f"{facts['corpus']} ({facts['kind']}), {facts['root']}"),
        ("utterances", f"{facts['utterances']:,} of {count_noun(len(facts['speakers']), 'speaker')}"),
        ("left out", ", ".join(f"{label} {count:,}" for label, count in facts["left_out"].items())),
        (
            "audio",
            f"{durations['total'] / 3600:.2f} hours; {durations['shortest']:.2f} to {durations['longest']:.2f} s, "
            f"median {durations['median']:.2f} s",
        ),
        ("format", f"{', '.join(formats)}; channels: {channels}" if formats else ""),
        ("folds", f"by {facts['folds']}"),
        *(("note", note) for note in facts["notes"] if not isinstance(note, LeftOut)),
    ]
    width = max(len(name) for name, value in rows if value) + 2
    return Text("\n".join(_fill(value, f"{name:<{width}}") for name, value in rows if value))


def _fill(text: str, before: str) -> str:
    """Break a text between words; a word that is too long stands alone."""
    wrapper = textwrap.TextWrapper(WIDTH, break_long_words=False, break_on_hyphens=False)
    wrapper.initial_indent, wrapper.subsequent_indent = before, " " * len(before)
    return wrapper.fill(text)


def _labels(labels: Mapping[str, Mapping[str, Any]]) -> Table:
    table = _table("label", "utterances", "share", "speakers", "minutes", "mean s")
    total = sum(entry["utterances"] for entry in labels.values())
    for label, entry in labels.items():
        count, seconds = entry["utterances"], entry["seconds"]
        table.add_row(
            Text(label),
            f"{count:,}",
            f"{count / total:.1%}",
            f"{entry['speakers']:,}",
            f"{seconds / 60:.1f}",
            f"{seconds / count:.2f}",
        )
    return table


def _groups(name: str, groups: Mapping[str, Mapping[str, Any]], labels: Sequence[str]) -> RenderableType:
    """Draw the utterances of each speaker, session or part of the split by label; where they are many, sum them up."""
    if len(groups) > MOST_ROWS:
        counts = sorted(entry["utterances"] for entry in groups.values())
        complete = sum(set(labels) <= set(entry["labels"]) for entry in groups.values())
        return Text(
            f"{len(groups):,} {name}s of {counts[0]:,} to {counts[-1]:,} utterances, "
            f"median {counts[len(counts) // 2]:,}; {complete:,} have all labels"
        )
    room = WIDTH - max(map(len, [name, *groups])) - len(" 12,345 1234.5")
    shown = labels if len(labels) <= MOST_LABELS and sum(len(label) + 1 for label in labels) <= room else []
    table = _table(name, "all", "min", *shown)
    for title, entry in groups.items():
        counts = [entry["labels"].get(label, 0) for label in shown]
        row = [f"{entry['utterances']:,}", f"{entry['seconds'] / 60:.1f}", *(f"{count:,}" for count in counts)]
        table.add_row(Text(title), *row)
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column(Text(first), overflow="fold")
    for name in others:
        table.add_column(Text(name), justify="right", overflow="fold")
    return table


class ReadingTable(str):
    """What was read of a corpus, drawn: the same for every encoder, so that commands show it once."""


def render_reading(corpus: Corpus) -> ReadingTable:
    """Draw the columns that were used and kept, and what was not read, in 80 columns."""
    return ReadingTable("\n".join(draw_lines(draw_reading(corpus))))


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
