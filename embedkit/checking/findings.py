"""What a check concludes: problems, which make results invalid, and warnings."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from embedkit.checking.audio import Measures
from embedkit.checking.near_duplicates import find_near_duplicates
from embedkit.corpora import Corpus, Utterance
from embedkit.corpora.texts import as_text, find_doubtful, looking_like
from embedkit.errors import FitError
from embedkit.training.data.folds import INNER_FOLDS, Fold, FoldPlan
from embedkit.wording import count_noun, list_some

TEXT_COLUMNS = ("text", "script", "sentence", "statement", "transcript", "transcription")
"""Columns that say what is spoken, in full or by a code."""

FEWEST_UTTERANCES = 10
SHORTEST_SECONDS, LONGEST_SECONDS = 0.25, 30.0
LARGEST_OFFSET = 0.01
LARGEST_SILENCE = 0.5
LOWEST_RATE = 16_000
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something a user must know before a study.

    Attributes:
        kind: One word for it ("unreadable", "duplicates", "split", "folds", "labels", "texts", "clipping", ...).
        severity: "problem" where it makes results invalid, else "warning".
        message: What was found, and what to do, in one or two sentences.
        utterances: The ids concerned.
    """

    kind: str
    severity: Literal["problem", "warning"]
    message: str
    utterances: tuple[str, ...] = ()


def find_faults_in_audio(measures: Sequence[Measures], unreadable: Mapping[str, str]) -> Iterator[Finding]:
    """Find audio that cannot be used, or should be listened to first."""
    if unreadable:
        first = next(iter(unreadable.values()))
        yield _finding(
            "unreadable",
            f"{_utterances(len(unreadable))} cannot be read ({_some(unreadable)}). The first: {first} Repair them, or "
            "leave them out of the corpus.",
            unreadable,
            problem=True,
        )
    for kind, is_so, message in _FAULTS:
        ids = [item.id for item in measures if is_so(item)]
        if ids:
            yield _finding(kind, f"{_utterances(len(ids))} {message} ({_some(ids)}).", ids)
    for kind, values in (
        ("sampling rates", Counter(f"{item.sampling_rate} Hz" for item in measures)),
        ("channels", Counter(count_noun(item.channels, "channel") for item in measures)),
    ):
        if len(values) > 1:
            counts = ", ".join(f"{value}: {count:,}" for value, count in values.most_common())
            message = f"Mixed {kind} ({counts}). A head may learn the format where it goes with a label."
            yield _finding(kind, message)


_FAULTS: Sequence[tuple[str, Callable[[Measures], bool], str]] = (
    ("silence", lambda item: item.silence > LARGEST_SILENCE, f"silent (-60 dB) for more than {LARGEST_SILENCE:.0%}"),
    ("clipping", lambda item: item.clipped > 0, "clipped (three samples in a row at full scale)"),
    ("offset", lambda item: abs(item.offset) > LARGEST_OFFSET, f"with a DC offset above {LARGEST_OFFSET:g}"),
    ("short", lambda item: item.seconds < SHORTEST_SECONDS, f"shorter than {SHORTEST_SECONDS:g} s"),
    ("long", lambda item: item.seconds > LONGEST_SECONDS, f"longer than {LONGEST_SECONDS:g} s: whole dialogues?"),
    ("low rate", lambda item: item.sampling_rate < LOWEST_RATE, f"below {LOWEST_RATE} Hz: encoders get no more band"),
)


def find_duplicates(
    utterances: Sequence[Utterance], labels: Mapping[str, str], measures: Sequence[Measures]
) -> Iterator[Finding]:
    """Find the same audio, or nearly the same, under several ids; contradicting labels or speakers are problems."""
    speakers = {utterance.id: utterance.speaker for utterance in utterances}
    alike: dict[str, list[str]] = defaultdict(list)
    for item in measures:
        alike[item.digest].append(item.id)
    groups = [ids for ids in alike.values() if len(ids) > 1]
    yield from _tell_copies("duplicates", "The same audio has several ids", groups, speakers, labels)
    by_id = {item.id: item for item in measures}
    firsts = [by_id[ids[0]] for ids in alike.values()]
    pairs = find_near_duplicates([item.fingerprint for item in firsts])
    yield from _tell_copies(
        "near duplicates",
        "Nearly the same audio (encoded again, louder, softer, or cut at an end) has several ids",
        [[firsts[one].id, firsts[other].id] for one, other in pairs],
        speakers,
        labels,
    )


def _tell_copies(
    kind: str, what: str, groups: Sequence[list[str]], speakers: Mapping[str, str], labels: Mapping[str, str]
) -> Iterator[Finding]:
    of_labels = [ids for ids in groups if len({labels[id_] for id_ in ids}) > 1]
    of_speakers = [ids for ids in groups if len({speakers[id_] for id_ in ids}) > 1]
    others = [ids for ids in groups if ids not in of_labels and ids not in of_speakers]
    for found, how, problem in (
        (of_labels, "with different labels", True),
        (of_speakers, "under different speakers", True),
        (others, "of one speaker and label", False),
    ):
        if found:
            shown = "; ".join(" = ".join(ids[:_SHOWN]) for ids in found[:_SHOWN])
            message = f"{what} {how}, {count_noun(len(found), 'time')} ({shown}). Keep one."
            yield _finding(kind, message, dict.fromkeys(id_ for ids in found for id_ in ids), problem=problem)


def find_doubtful_names(
    corpus: Corpus, chosen: Sequence[Utterance], labels: Mapping[str, str], merge: Mapping[str, str], column: str
) -> Iterator[Finding]:
    """Find names written in several ways, and words that stand for a missing value.

    Args:
        corpus: All utterances, also those whose label takes no part because it is written otherwise.
        chosen, labels: Those that take part, and their labels after merging, by id.
        merge: How labels were merged.
        column: What folds rotate over.
    """
    every = [merge.get(utterance.label, utterance.label) for utterance in corpus.utterances]
    columns = {"label": looking_like(every, labels.values())}
    for name in dict.fromkeys(("speaker", "session", column)):
        columns[name] = [as_text(utterance.value(name)) for utterance in chosen]
    for name, values in columns.items():
        for message in find_doubtful(name, values):
            yield _finding("names", message)


def find_faults_in_labels(utterances: Sequence[Utterance], labels: Mapping[str, str]) -> Iterator[Finding]:
    """Find labels that rest on few utterances or few speakers, and unknown speakers."""
    speakers: dict[str, set[str]] = defaultdict(set)
    for utterance in utterances:
        speakers[labels[utterance.id]].add(utterance.speaker)
    all_speakers = {utterance.speaker for utterance in utterances}
    unknown = [utterance.id for utterance in utterances if not utterance.speaker]
    if unknown:
        message = (
            f"{_utterances(len(unknown))} without a speaker ({_some(unknown)}): nothing can be kept apart by them."
        )
        yield _finding("speakers", message, unknown)
    counts = Counter(labels[utterance.id] for utterance in utterances)
    for label, count in sorted(counts.items()):
        enough = min(INNER_FOLDS, len(all_speakers))
        if count < FEWEST_UTTERANCES or len(speakers[label]) < enough:
            yield _finding(
                "labels",
                f"The label {label!r} has {_utterances(count)} of {count_noun(len(speakers[label]), 'speaker')}: too "
                "few for a stable recall. Leave it out with --classes, or merge it with another by --merge.",
                [utterance.id for utterance in utterances if labels[utterance.id] == label],
            )


def find_faults_in_split(utterances: Sequence[Utterance]) -> Iterator[Finding]:
    """Find speakers that are in several parts of the corpus's own split."""
    sides: dict[str, set[str]] = defaultdict(set)
    for utterance in utterances:
        if utterance.split and utterance.speaker:
            sides[utterance.speaker].add(utterance.split)
    both = {speaker for speaker, found in sides.items() if len(found) > 1}
    if both:
        yield _finding(
            "split",
            f"{count_noun(len(both), 'speaker')} in several parts of the given split ({_some(sorted(both))}): with "
            "--folds split, a head may recognise the speaker instead of the emotion. Take --folds speaker.",
            [utterance.id for utterance in utterances if utterance.speaker in both and utterance.split],
            problem=True,
        )


def find_faults_in_folds(
    utterances: Sequence[Utterance], labels: Mapping[str, str], plan: FoldPlan | FitError
) -> Iterator[Finding]:
    """Find labels that cannot be learned, and texts that are trained on and tested, in the folds `fit` would take."""
    if isinstance(plan, FitError):
        yield _finding("folds", str(plan), problem=True)
        return
    names = np.array([labels[utterance.id] for utterance in utterances], dtype=np.str_)
    if plan.speaker_dependent and plan.kind != "split":
        message = (
            f"Folds by {plan.kind} have speakers in both training and test sets, or unknown ones: scores are too high "
            "for new voices."
        )
        yield _finding("folds", message)
    for label in np.unique(names):
        tested = [fold for fold in plan.folds if label in names[fold.test]]
        missing = [fold.name for fold in tested if label not in names[fold.train]]
        if missing:
            message = (
                f"The label {str(label)!r} is tested but not trained in {count_noun(len(missing), 'fold')} by "
                f"{plan.kind} ({_some(missing)}): its recall there is 0. Leave it out with --classes, or take "
                "other folds."
            )
            yield _finding("folds", message, problem=len(missing) == len(tested))
    for column in TEXT_COLUMNS:
        texts = np.array([str(utterance.columns.get(column) or "") for utterance in utterances], dtype=np.str_)
        shared = sum(_shared_texts(fold, texts) for fold in plan.folds)
        if shared:
            tested_in_all = sum(len(fold.test) for fold in plan.folds)
            yield _finding(
                "texts",
                f"{shared / tested_in_all:.0%} of the tested utterances have a text (column {column}) that is trained "
                f"on in the same fold by {plan.kind}: a head may recognise the words. Compare with "
                f"{_remedy(column, texts)}.",
            )


def _shared_texts(fold: Fold, texts: np.ndarray[tuple[int], np.dtype[np.str_]]) -> int:
    tested = texts[fold.test]
    return int(np.sum(np.isin(tested, texts[fold.train]) & (tested != "")))


def _remedy(column: str, texts: np.ndarray[tuple[int], np.dtype[np.str_]]) -> str:
    if np.any(texts == ""):
        return f"the utterances without one (--where {column}=)"
    return f"--folds speaker+{column}"


def _finding(kind: str, message: str, ids: Iterable[str] = (), *, problem: bool = False) -> Finding:
    severity: Literal["problem", "warning"] = "problem" if problem else "warning"
    return Finding(kind=kind, severity=severity, message=message, utterances=tuple(ids))


def _utterances(count: int) -> str:
    return count_noun(count, "utterance")


def _some(names: Iterable[str]) -> str:
    return list_some(names, _SHOWN)
