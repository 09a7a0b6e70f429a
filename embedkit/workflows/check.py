"""Check: look at a corpus before a study, its labels and speakers as well as all of its audio."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import chain
from typing import Any

import numpy as np

from embedkit.checking import findings
from embedkit.checking.audio import Measures, measure_corpus
from embedkit.checking.findings import Finding
from embedkit.corpora import Corpus, Utterance, select
from embedkit.corpora.base import STANDARD_COLUMNS
from embedkit.corpora.opening import as_corpus
from embedkit.corpora.texts import as_text, expand_merge
from embedkit.errors import FitError
from embedkit.options.extract import ExtractOptions
from embedkit.options.fit import TrainingOptions
from embedkit.options.option import declared
from embedkit.progress import Progress, show_progress
from embedkit.received import MOST_HOURS
from embedkit.registry import unknown_name
from embedkit.system import count_cores
from embedkit.training.data.dealing import Balance
from embedkit.training.data.folds import CROSSED, FoldPlan, default_folds, plan_folds
from embedkit.wording import count_noun, list_words


@dataclass(frozen=True, kw_only=True, repr=False)
class CorpusCheck:
    """What was found in a corpus; `str()` writes it as tables of 80 columns.

    Attributes:
        corpus: The corpus, with the utterances that take part.
        labels: Label of each utterance, after merging, by id.
        left_out: How many utterances take no part, by label.
        folds: The folds that were looked at ("session", "speaker", ...).
        measures: What was measured of the audio that can be read, in order.
        findings: Problems first, then warnings.
    """

    corpus: Corpus
    labels: Mapping[str, str]
    left_out: Mapping[str, int]
    folds: str
    measures: tuple[Measures, ...]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing was found that would make results invalid."""
        return all(finding.severity != "problem" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON; durations in seconds."""
        seconds = np.array([item.seconds for item in self.measures])
        durations = {
            name: round(float(function(seconds)), 3) if len(seconds) else 0.0
            for name, function in (("total", np.sum), ("shortest", np.min), ("median", np.median), ("longest", np.max))
        }
        return {
            "corpus": self.corpus.name,
            "kind": self.corpus.kind,
            "root": str(self.corpus.root),
            "ok": self.ok,
            "utterances": len(self.corpus.utterances),
            "left_out": dict(self.left_out),
            "folds": self.folds,
            "durations": durations,
            "sampling_rates": dict(Counter(str(item.sampling_rate) for item in self.measures).most_common()),
            "channels": dict(Counter(str(item.channels) for item in self.measures).most_common()),
            **{f"{name}s": self._count_by(name) for name in ("label", "speaker", "session", "split")},
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
            "notes": list(self.corpus.notes),
            "columns": {
                **dict.fromkeys(self.corpus.utterances[0].columns, "kept"),
                **self.corpus.uses,
            },
            "unread": list(self.corpus.unread),
        }

    def _count_by(self, column: str) -> dict[str, dict[str, Any]]:
        seconds = {item.id: item.seconds for item in self.measures}
        groups: dict[str, list[Utterance]] = {}
        for utterance in self.corpus.utterances:
            value = self.labels[utterance.id] if column == "label" else getattr(utterance, column)
            if value:
                groups.setdefault(value, []).append(utterance)
        return {
            name: {
                "utterances": len(members),
                "seconds": round(sum(seconds.get(item.id, 0.0) for item in members), 3),
                "speakers": len({item.speaker for item in members} - {""}),
                "labels": dict(sorted(Counter(self.labels[item.id] for item in members).items())),
            }
            for name, members in sorted(groups.items())
        }

    def __str__(self) -> str:
        from embedkit.checking.table import render_check

        return render_check(self)

    def __repr__(self) -> str:
        found = list_words(
            count_noun(sum(one.severity == severity for one in self.findings), severity)
            for severity in ("problem", "warning")
        )
        return f"<CorpusCheck {self.corpus.name}: {found}>"

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"


def check_corpus(
    corpus: str | os.PathLike[str] | Corpus,
    *,
    folds: str | None = None,
    classes: Sequence[str] | None = None,
    merge: Mapping[str, str] | None = None,
    where: Sequence[str] = (),
    workers: int | None = None,
    max_hours: float = MOST_HOURS,
    progress: Progress | bool | None = False,
) -> CorpusCheck:
    """Look at labels, speakers, folds and all audio of a corpus before a study.

    Args:
        corpus: "demo", a corpus folder, a CSV manifest, or an opened corpus.
        folds: The folds of the study, as in `fit`; by default those that `fit` takes.
        classes: The study's labels; by default those of the corpus's task.
        merge: Labels that count as another; by default those of the corpus's task.
        where: Filters `COLUMN=VALUE`; all must hold.
        workers: Threads that decode audio; by default up to four.
        max_hours: What an utterance may last.
        progress: Called with utterances done and in all; True shows a bar, None shows one on a terminal.

    Raises:
        CorpusError, ConfigError, UnknownNameError: the corpus or a filter that cannot be read.
        FitError: a class or a fold column that the corpus does not have.
    """
    folds = declared(TrainingOptions)["folds"].read(folds, "folds")
    declared(ExtractOptions)["max_hours"].check(max_hours, "--max-hours")
    opened = select(as_corpus(corpus), where)
    merge = expand_merge(opened.task.merge if merge is None else merge, (item.label for item in opened.utterances))
    chosen, labels = _choose(opened, classes, merge)
    kind = folds or default_folds(_column(chosen, "session"), _column(chosen, "speaker"))
    plan = _plan(chosen, labels, kind)
    with show_progress(progress, "check") as report:
        threads = max(1, min(4, count_cores()) if workers is None else workers)
        measures, unreadable = measure_corpus(opened, chosen, workers=threads, max_hours=max_hours, progress=report)
    found = chain(
        findings.find_faults_in_audio(measures, unreadable),
        findings.find_duplicates(chosen, labels, measures),
        findings.find_faults_in_labels(chosen, labels),
        findings.find_faults_in_split(chosen),
        findings.find_faults_in_folds(chosen, labels, plan),
        findings.find_doubtful_names(opened, chosen, labels, merge, kind.removeprefix(CROSSED)),
    )
    return CorpusCheck(
        corpus=dataclasses.replace(opened, utterances=chosen),
        labels=labels,
        left_out=dict(Counter(item.label for item in opened.utterances if item.id not in labels).most_common()),
        folds=kind,
        measures=tuple(measures),
        findings=tuple(sorted(found, key=lambda finding: finding.severity)),
    )


def _choose(
    corpus: Corpus, classes: Sequence[str] | None, merge: Mapping[str, str]
) -> tuple[tuple[Utterance, ...], dict[str, str]]:
    """Return the utterances that take part and their labels, after merging, by id."""
    merge = expand_merge(merge, (utterance.label for utterance in corpus.utterances))
    merged = {utterance.id: merge.get(utterance.label, utterance.label) for utterance in corpus.utterances}
    known = {*merged.values(), *corpus.task.classes}
    for name in classes or ():
        if name not in known:
            raise FitError(unknown_name(f"class of {corpus.name}", name, known))
    wanted = set(corpus.task.classes if classes is None else classes) or known
    chosen = tuple(utterance for utterance in corpus.utterances if merged[utterance.id] in wanted)
    if not chosen:
        raise FitError(f"No utterance of {corpus.name} takes part; check --classes, --merge and --where.")
    return chosen, {utterance.id: merged[utterance.id] for utterance in chosen}


def _column(utterances: Sequence[Utterance], name: str) -> Any:
    return np.array([as_text(utterance.value(name)) for utterance in utterances], dtype=np.str_)


def _plan(utterances: Sequence[Utterance], labels: Mapping[str, str], kind: str) -> FoldPlan | FitError:
    """Plan the folds that `fit` would take, up to ties, which it breaks by audio; return why where there are none."""
    column = kind.removeprefix(CROSSED)
    if kind not in ("speaker", "split", "random") and column not in (*STANDARD_COLUMNS, *utterances[0].columns):
        raise FitError(unknown_name("fold column", column, ["speaker", "session", "split", *utterances[0].columns]))
    names = np.array([labels[utterance.id] for utterance in utterances], dtype=np.str_)
    genders = _column(utterances, "gender") if "gender" in utterances[0].columns else None
    try:
        return plan_folds(
            kind,
            labels=names,
            speakers=_column(utterances, "speaker"),
            groups=_column(utterances, column),
            splits=_column(utterances, "split"),
            hold_out=False,
            balance=Balance.measure(len(utterances), [names, genders]),
        )
    except FitError as error:
        return error
