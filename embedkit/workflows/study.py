"""A study: corpora by encoders by heads by losses by modes, in one call that does only what is missing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedkit.arguments import checked
from embedkit.corpora import Corpus
from embedkit.errors import FitError
from embedkit.options.call import takes_options
from embedkit.options.option import declared
from embedkit.options.study import StudyOptions
from embedkit.progress import Progress, Tell
from embedkit.reporting.results import Results
from embedkit.reporting.table import Table
from embedkit.study.forecast import StudyForecast
from embedkit.study.parts import Unit, agree, agreements, forget
from embedkit.study.plan import Pair, StudyPlan
from embedkit.study.timing import open_estimator
from embedkit.training.runs import RunRecord
from embedkit.wording import count_noun
from embedkit.workflows.extract import extract_embeddings
from embedkit.workflows.fit import fit_heads
from embedkit.workflows.table import tabulate_runs


@dataclass(frozen=True, kw_only=True, repr=False)
class StudyResult:
    """What a study made.

    Attributes:
        table: Its table; empty where nothing was to be done.
        records: Its runs, those that were there before as well.
        missing: What could not be made, and why.
        seconds: How long each step took.
        plan: A line for each configuration that was foreseen: whether it was there.
    """

    table: Table
    records: tuple[RunRecord, ...]
    missing: Mapping[str, str]
    seconds: Mapping[str, float]
    plan: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<StudyResult: {count_noun(len(self.records), 'run')}, {len(self.missing)} missing>"

    def _repr_html_(self) -> str:
        return self.table._repr_html_()

    def to_frame(self) -> Any:
        """Return a data frame of the runs; see `Results.to_frame`."""
        return Results(self.records).to_frame()


@takes_options(StudyOptions, "embedkit.run_study", leading="encoder", also="encoders")
@checked("embedkit.run_study")
def run_study(
    corpora: str | os.PathLike[str] | Corpus | Sequence[str | os.PathLike[str] | Corpus],
    options: StudyOptions,
    *,
    extract: Mapping[str, Any] | None = None,
    sources: Mapping[str, str] | None = None,
    foresee: bool = True,
    dry_run: bool = False,
    progress: Progress | bool | None = False,
    tell: Tell = lambda _: None,
) -> StudyResult:
    """Extract and fit every combination that is not there already, and build the table of all of them.

    A part that fails (weights that are unavailable, a corpus that is not there) is told and left out; the rest goes on.

    Args:
        corpora: Whatever `extract` takes.
        options: Which encoders, heads, losses and modes, and how; users give each as an argument.
        extract: Further options of `extract`, for all encoders.
        sources: Where encoders' names lead instead of the published weights.
        dry_run: Look what is there, say what would be done, and do nothing.
        foresee: Look first what is there and measure how long the rest will take, some seconds for each encoder.
        progress: Called with work done and in all; True shows bars, None ones on a terminal.
        tell: Called with each sentence for the user.

    Raises:
        ConfigError, UnknownNameError, ArgumentError: a name or an option that cannot be used; nothing is done then.
        FitError: nothing at all could be made.
    """
    parts = StudyPlan(
        options=options,
        extract=extract_embeddings,
        fit=fit_heads,
        extract_options=extract or {},
        sources=sources or {},
        progress=progress,
        tell=tell,
    )
    pairs = parts.open(corpora)
    plan: list[str] = []
    if dry_run:
        _, plan = _foresee(parts, pairs)
        return StudyResult(table=Table(rows=()), records=(), missing=dict(parts.missing), seconds={}, plan=tuple(plan))
    if parts.part is not None:
        parts.take(*_own_steps(parts, pairs, foresee))
    elif foresee:
        _, plan = _foresee(parts, pairs)
    seconds: dict[str, float] = {}
    with _timed("extract", seconds):
        extracted = {str(pair): parts.extract_pair(pair) for pair in pairs}
    with _timed("fit", seconds):
        records = [one for pair in pairs for one in parts.fit_pair(pair, extracted)]
    if not records and parts.own != frozenset():
        raise FitError(f"Nothing could be made: {parts.list_missing() or 'name a corpus and an encoder'}.")
    if parts.part is None and not parts.missing:
        forget(_agreements(parts, pairs))
    with _timed("table", seconds):
        cross = options.cross and any(record.metrics.get("test_corpus") for record in records)
        table = tabulate_runs(records, cross=cross) if records else Table(rows=())
    if parts.part is not None:
        tell("Once all parts are done, the same command without --part shows the table of the whole study.")
    return StudyResult(
        table=table, records=tuple(records), missing=dict(parts.missing), seconds=seconds, plan=tuple(plan)
    )


def _foresee(parts: StudyPlan, pairs: Sequence[Pair]) -> tuple[list[Unit], list[str]]:
    """Say what there is to do and how long it takes; return that, and a line for each configuration."""
    with open_estimator(extract_embeddings, {**parts.extract_options, "sources": parts.sources}) as estimator:
        outlook = StudyForecast(parts, estimator)
        for look in (outlook.look, outlook.foresee):
            for pair in pairs:
                look(pair)
    outlook.tell()
    return [outlook.weigh(pair, step) for pair in pairs for step in parts.steps(pair)], outlook.plan


def _own_steps(parts: StudyPlan, pairs: Sequence[Pair], foresee: bool) -> tuple[list[str], float]:
    """Return what this part of the study does, and its seconds."""
    assert parts.part is not None
    steps = [(pair, step) for pair in pairs for step in parts.steps(pair)]
    names = [step.name for _, step in steps]

    def measure() -> list[Unit]:
        return _foresee(parts, pairs)[0] if foresee else [Unit(step.name, str(pair)) for pair, step in steps]

    return agree(_agreements(parts, pairs), parts.part, names, measure)


def _agreements(parts: StudyPlan, pairs: Sequence[Pair]) -> Path:
    key = {name: getattr(parts.options, name) for name, one in declared(StudyOptions).items() if one.told.record}
    cross = ["cross", parts.options.all_others] if parts.options.cross else []
    return agreements(parts.options.runs, [key, parts.modes, [str(pair) for pair in pairs], *cross])


@contextmanager
def _timed(name: str, seconds: dict[str, float]) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start
