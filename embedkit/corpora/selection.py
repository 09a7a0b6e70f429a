"""Keep part of a corpus: `COLUMN=VALUE` filters."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from embedkit.corpora.base import STANDARD_COLUMNS, Corpus, Utterance, Value
from embedkit.corpora.opening import as_corpus
from embedkit.errors import ConfigError, CorpusError, UnknownNameError
from embedkit.registry import unknown_name
from embedkit.wording import list_some

_FILTER = re.compile(r"(?P<column>[^=!]+)(?P<operator>!=|=)(?P<values>.*)", re.DOTALL)
_SHOWN = 12


@dataclass(frozen=True)
class _Filter:
    text: str
    column: str
    values: frozenset[Value | None]
    negated: bool

    def keeps(self, utterance: Utterance) -> bool:
        return (_comparable(utterance.value(self.column)) in self.values) != self.negated


def select(corpus: Corpus, where: Sequence[str]) -> Corpus:
    """Keep the utterances for which every filter holds.

    `label=anger,happiness` keeps either, `label!=anger` all but; names are compared as texts ("007" is not "7"),
    columns of numbers as numbers. `nan` is a missing number, also in a column of texts that are all numbers
    (`valence!=nan`).

    Raises:
        ConfigError: a filter is not COLUMN=VALUE, or compares a column of numbers with a word.
        UnknownNameError: the corpus has no such column.
        CorpusError: no utterance is left.
    """
    kept = corpus.utterances
    for text in where:
        chosen = _parse(text, corpus)
        before, kept = kept, tuple(utterance for utterance in kept if chosen.keeps(utterance))
        if not kept:
            raise CorpusError(
                f"No utterance of {corpus.name} is left with {text!r}; {chosen.column} holds "
                f"{_some(item.value(chosen.column) for item in before)} there."
            )
    return replace(corpus, utterances=kept)


def choose_utterances(
    corpus: str | os.PathLike[str] | Corpus, where: Sequence[str], limit: int | None
) -> tuple[Corpus, dict[str, Any]]:
    """Open a corpus and choose utterances; return it with how they were chosen."""
    chosen = select(as_corpus(corpus), where)
    count = len(chosen.utterances)
    if limit is not None and limit < count:
        spread = tuple(chosen.utterances[index * count // limit] for index in range(limit))
        chosen = replace(chosen, utterances=spread)
    return chosen, {"where": sorted(where), "limit": limit}


def _parse(text: str, corpus: Corpus) -> _Filter:
    match = _FILTER.fullmatch(text)
    if match is None:
        raise ConfigError(f"The filter {text!r} cannot be read; expected COLUMN=VALUE[,VALUE] or COLUMN!=VALUE.")
    column = match["column"].strip()
    further = corpus.utterances[0].columns if corpus.utterances else {}
    known = (*STANDARD_COLUMNS, *further)
    if column not in known:
        raise UnknownNameError(unknown_name(f"column of {corpus.name}", column, known))
    values: list[Value] = [value.strip() for value in match["values"].split(",")]
    if column in ("start", "end") or any(isinstance(item.value(column), float) for item in corpus.utterances):
        values = [_number(text, column, str(value)) for value in values]
    elif "nan" in values and _all_numbers(item.value(column) for item in corpus.utterances):
        values.append("")
    return _Filter(text, column, frozenset(map(_comparable, values)), match["operator"] == "!=")


def _number(text: str, column: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ConfigError(
            f"The filter {text!r} compares {column} with {value!r}, but {column} holds numbers."
        ) from None


def _all_numbers(values: Iterable[Value | None]) -> bool:
    """Tell whether texts are numbers where they are not empty, and some are."""
    texts = {str(value) for value in values if value not in (None, "")}
    try:
        return bool([float(text) for text in texts])
    except ValueError:
        return False


def _comparable(value: Value | None) -> Value | None:
    """Return a value that equals itself: NaN, a missing number, becomes None."""
    return None if value != value else value


def _some(values: Iterable[Value | None]) -> str:
    return list_some(sorted({str(value) for value in values}), _SHOWN)
