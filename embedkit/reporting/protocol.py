"""The protocol of a run: what must be equal before two numbers may be compared, and how it is told."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from embedkit.evaluation.speaker_model import FEW_SPEAKERS
from embedkit.reporting.agreement import describe_agreement
from embedkit.reporting.labels import Row
from embedkit.reporting.metrics import METRICS, Spread
from embedkit.reporting.published import last_part
from embedkit.training.data.folds import MOST_SPEAKER_FOLDS
from embedkit.training.runs import NOT_SAID, ZERO_SHOT
from embedkit.wording import count_noun, list_words

FIELDS = (
    "corpus",
    "test_corpus",
    "demo",
    "task",
    "classes",
    "dimensions",
    "utterances",
    "speakers",
    "folds",
    "train_share",
    "dealt",
    "speaker_dependent",
    "normalise",
    "standardise_by",
    "leak",
    "seeds",
    "budget",
    "recordings",
)
"""Runs that differ in any of these never share a table; older ones do not say which recordings they tested."""


def split_by_protocol(rows: Sequence[Row]) -> list[list[Row]]:
    """Group runs by protocol, in order of appearance; in each those of published classifiers come last."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row, key in zip(rows, protocol_keys(rows), strict=True):
        groups[key].append(row)
    return [sorted(group, key=is_zero_shot) for group in groups.values()]


def is_zero_shot(row: Row) -> bool:
    """Tell whether a run is one of a published classifier, of which nothing was trained here."""
    return row.get("mode") == ZERO_SHOT


def protocol_keys(rows: Sequence[Row]) -> list[str]:
    """Return for each run a text that is equal for comparable ones.

    A published classifier tests every utterance once, as folds that rotate do: its runs belong to those on the same
    utterances of speakers that are not trained on.
    """
    keys = _own_keys(rows)
    trained: dict[str, str] = {}
    for row, key in zip(rows, keys, strict=True):
        if not is_zero_shot(row) and not any(row.get(name) for name in _APART):
            trained.setdefault(_name_tested(row), key)
    return [
        trained.get(_name_tested(row), key) if is_zero_shot(row) else key for row, key in zip(rows, keys, strict=True)
    ]


_APART = ("test_corpus", "speaker_dependent", "normalise", "standardise_by", "leak")
_TESTED = ("corpus", "demo", "task", "classes", "dimensions", "utterances", "speakers", "leak", "recordings")


def _name_tested(row: Row) -> str:
    return json.dumps([row.get(name) or None for name in _TESTED], sort_keys=True, default=str)


def _own_keys(rows: Sequence[Row]) -> list[str]:
    keys = [json.dumps([row.get(name) for name in _TOLD], sort_keys=True, default=str) for row in rows]
    tested = defaultdict(set)
    for row, key in zip(rows, keys, strict=True):
        tested[key].add(row.get("recordings"))
    return [
        f"{key} {row.get('recordings')}" if len(tested[key] - {None}) > 1 else key
        for row, key in zip(rows, keys, strict=True)
    ]


_TOLD = FIELDS[: FIELDS.index("recordings")]


def differing_fields(groups: Sequence[Sequence[Row]]) -> list[str]:
    """Name the protocol fields in which groups differ, less those that only follow from another."""
    firsts = [group[0] for group in groups]
    differing = [
        name
        for name in FIELDS
        if name not in ("demo", "speaker_dependent")
        and len({json.dumps(row.get(name), sort_keys=True, default=str) for row in firsts}) > 1
    ]
    return [name.replace("_", " ") for name in differing if name != "recordings" or len(differing) == 1]


def tell_protocols_apart(groups: Sequence[Sequence[Row]], known: Collection[str] = ()) -> list[str]:
    """Write for each group in what its protocol differs from the others of its corpus, as the end of a title.

    What only follows from another difference (utterances, speakers, recordings) is told where nothing else differs.

    Args:
        groups: Rows of one protocol each.
        known: Fields that the title tells already.
    """
    firsts = [group[0] for group in groups]
    return [_tell_apart(row, [other for other in firsts if other["corpus"] == row["corpus"]], known) for row in firsts]


def _tell_apart(row: Row, others: Sequence[Row], known: Collection[str]) -> str:
    def is_told(name: str) -> bool:
        return name not in known and len({json.dumps(other.get(name), default=str) for other in others}) > 1

    words = [how(row, others) for name, how in _DIFFERENCES.items() if is_told(name)]
    if len({tuple(how(other, others) for how in _DIFFERENCES.values()) for other in others}) < len(others):
        words += [how(row) for name, how in _FOLLOWING.items() if is_told(name)]
    return "".join(f", {text}" for text in words if text)


def _name_classes(row: Row, others: Sequence[Row]) -> str:
    counts = {len(other["classes"]) for other in others}
    return _predicted(row) if len(counts) > 1 or row.get("dimensions") else "/".join(map(str, row["classes"]))


def _name_budget(row: Row, others: Sequence[Row]) -> str:
    budgets = [other.get("budget") or {} for other in others]
    own: Mapping[str, Any] = row.get("budget") or {}
    told = {name: value for name, value in own.items() if any(other.get(name) != value for other in budgets)}
    return ", ".join(_searched(told))


_DIFFERENCES: Mapping[str, Callable[[Row, Sequence[Row]], str]] = {
    "test_corpus": lambda row, _: f"tested on {row['test_corpus']}" if row.get("test_corpus") else "",
    "task": lambda row, _: str(row.get("task") or ""),
    "classes": _name_classes,
    "dimensions": lambda row, _: ", ".join(row.get("dimensions") or ()),
    "folds": lambda row, _: "" if row.get("test_corpus") else describe_folds(row),
    "train_share": lambda row, _: f"train share {_share(row)}" if _share(row) else "all training speakers",
    "seeds": lambda row, _: count_noun(row["seeds"], "seed"),
    "normalise": lambda row, _: f"normalised by {row['normalise']}" if row.get("normalise") else "",
    "standardise_by": lambda row, _: f"standardised by {row['standardise_by']}" if row.get("standardise_by") else "",
    "budget": _name_budget,
}
_FOLLOWING: Mapping[str, Callable[[Row], str]] = {
    "utterances": lambda row: count_noun(row["utterances"], "utterance"),
    "speakers": lambda row: count_noun(row.get("speakers") or 0, "speaker"),
    "recordings": lambda row: f"recordings {str(row.get('recordings'))[:6]}",
}


def describe_title(row: Row, metric: str) -> str:
    """Write a table's title: corpus, metric, classes, folds, and what makes its numbers easy."""
    demo = " (synthetic demo corpus)" if row.get("demo") else ""
    shown = f"{METRICS[metric].label} {METRICS[metric].unit}".strip()
    share = f", train share {_share(row)}" if _share(row) else ""
    pooled = " pooled" if row.get("pooled") else ""
    return (
        f"{row['corpus']}{pooled}{demo}: {shown}, {_predicted(row)}, {describe_folds(row)}{share}{describe_marks(row)}"
    )


def describe_marks(row: Row) -> str:
    """Write what makes a row's numbers easy."""
    marks = {"speaker_dependent": "SPEAKER-DEPENDENT", "transductive": "TRANSDUCTIVE", "leak": "LEAK"}
    return "".join(f", {mark}" for name, mark in marks.items() if row.get(name))


def describe_protocol(rows: Sequence[Row], spread: Spread = "interval") -> list[str]:
    """Write the notes under a table: first the protocol in a sentence, then what differs between its rows."""
    row = rows[0]
    notes = [
        f"Protocol: {row['corpus']}, {_scored(row)}, {_predicted(row)} "
        f"({', '.join(map(str, row.get('dimensions') or row['classes']))}{_task(row)}), {describe_folds(row)}, "
        f"{count_noun(row['seeds'], 'seed')}{_budget(row)}."
    ]
    how = [_tell(name.capitalize(), rows, name) for name in ("selection", "standardised", "mode", "precision")]
    notes.append(" ".join(filter(None, how)))
    notes += [_tell_zero_shot(one) for one in rows if is_zero_shot(one)]
    searched = [{**row, "searched": _searched_settings(row)} for row in rows]
    notes.append(_tell("Settings of the head searched as well", searched, "searched"))
    if row.get("majority"):
        notes.append(
            f"Chance: UAR {100 / len(row['classes']):.1f} %; the largest class for every utterance: accuracy "
            f"{100 * row['majority']:.1f} %, UAR {100 / len(row['classes']):.1f} %."
        )
    notes.append(describe_agreement(rows))
    if spread == "interval" and row.get("ua_ci"):
        notes.append(_rare(row))
    fitted = sorted({str(row["head"]) for row in rows if row.get("fitted")})
    if fitted:
        notes.append(f"Fitted by scikit-learn, the same under every seed: {', '.join(fitted)}.")
    if row.get("train_share"):
        notes.append(
            f"TRAIN SHARE: heads learned from a part of each fold's training speakers ({_share(row)}), the same under "
            "every seed, head and loss; never compare these numbers with others."
        )
    if any(row.get("noise_snr") is not None for row in rows):
        notes.append(
            "Lines at a level in dB: the heads of the line without one, trained and chosen on clean recordings, and "
            "tested on the same test recordings with noise at that signal-to-noise ratio (white unless it is named)."
        )
    if row.get("speaker_dependent"):
        notes.append(
            "SPEAKER-DEPENDENT: the same speakers are in training and test, so these numbers are higher than for "
            "unknown speakers; never compare them with speaker-independent ones."
        )
    if row.get("transductive") and row.get("standardise_by"):
        notes.append(
            "TRANSDUCTIVE: a corpus that is tested without being trained on was standardised by statistics of all of "
            "its own utterances, those tested (without their labels); never compare with numbers that were not."
        )
    if row.get("transductive") and row.get("normalise"):
        notes.append(
            "TRANSDUCTIVE: every speaker's embeddings were normalised by statistics of all of that speaker's "
            "utterances, those of the test set included (without their labels); never compare with numbers that were "
            "not."
        )
    if row.get("leak"):
        notes.append(
            "LEAK: recordings that are trained on are tested, too, or speakers that the encoder was fine-tuned on, so "
            "these numbers say nothing about unknown speakers; never compare them with others."
        )
    if any(row.get("layer") is not None for row in rows):
        notes.append(
            "Single layers: the best of them in this table is chosen on test data; it describes the encoder and is no "
            "result of a system."
        )
    if row.get("demo"):
        notes.append("The demo corpus is synthetic: for trying out only, its numbers say nothing about real speech.")
    return [note for note in notes if note]


_WHOLE = ", by labels as each corpus's usual task has them; utterances of other classes are left out"


def describe_matrix(rows: Sequence[Row]) -> list[str]:
    """Write the notes under a cross-corpus matrix, of the runs whose numbers stand in it."""
    row = rows[0]
    folds: dict[str, dict[str, None]] = defaultdict(dict)
    for one in rows:
        if not one.get("test_corpus"):
            folds[describe_folds(one)][str(one["corpus"])] = None
    notes = [
        f"Protocol: {_predicted(row)} ({', '.join(map(str, row.get('dimensions') or row['classes']))}), "
        f"{count_noun(row['seeds'], 'seed')}{_budget(row)}. A corpus tested on another one was trained and chosen on "
        f"as a whole{_WHOLE if not row.get('dimensions') else ', and ratings are compared as they are'}.",
        f"{'; '.join(f'{list_words(own)}: {how}' for how, own in folds.items())}." if folds else "",
        _tell("Standardised", rows, "standardised") if len({one.get("standardised") for one in rows}) == 1 else "",
        "Columns hold different test sets: compare numbers down a column, not along a row.",
    ]
    return [note for note in notes if note]


def _rare(row: Row) -> str:
    """Say of which classes intervals rest on an assumption; older runs do not say how many speakers a class has."""
    counts = dict(zip(row["classes"], row.get("class_speakers") or (), strict=False))
    rare = [f"{name} has {count_noun(count, 'speaker')}" for name, count in counts.items() if 0 < count < FEW_SPEAKERS]
    return (
        f"{list_words(rare)}: intervals assume that such a class varies between speakers as the others do."
        if rare
        else ""
    )


def _tell_zero_shot(row: Row) -> str:
    counted = ", ".join(f"{old} as {new}" for old, new in (row.get("map") or {}).items() if old != new)
    return (
        f"Zero-shot: {row['encoder']} as published, trained on{':' if row.get('trained_on') == NOT_SAID else ''} "
        f"{row.get('trained_on', NOT_SAID)}{f'; its labels: {counted}' if counted else ''}. It is one system, whatever "
        "the fold and the seed, and no mark compares it."
    )


def _predicted(row: Row) -> str:
    """Count what is predicted."""
    dimensions = row.get("dimensions") or ()
    if dimensions:
        return count_noun(len(dimensions), "emotional attribute")
    return f"{len(row['classes'])} classes"


def _scored(row: Row) -> str:
    """Count what was tested; only where folds rotate is that all there is."""
    part = "test " if row.get("test_corpus") or row["folds"] == "split" else ""
    counts = [(row["utterances"], "utterance"), (row.get("speakers") or 0, "speaker")]
    return ", ".join(count_noun(count, f"{part}{noun}") for count, noun in counts if count)


def describe_folds(row: Row) -> str:
    """Write what a run was trained and tested on."""
    folds = row["folds"]
    if row.get("test_corpus"):
        return f"trained on all of {row['corpus']}, tested on {row['test_corpus']}"
    if folds.startswith("speaker+"):
        return f"folds by speaker and {folds.removeprefix('speaker+')} at once{_dealt(row)}"
    return {"none": "zero-shot", "random": "random folds", "split": "the given split"}.get(
        folds, f"folds by {folds}{_dealt(row)}"
    )


def _dealt(row: Row) -> str:
    """Say how more groups than folds were dealt; older runs, whose speakers were dealt by name, do not say it."""
    by_name = row["folds"] == "speaker" and (row.get("speakers") or 0) > MOST_SPEAKER_FOLDS
    return f", {row['dealt']}" if row.get("dealt") else ", dealt by sorted names" if by_name else ""


def _share(row: Row) -> str:
    """Say which share of the training speakers was trained on, and how many they are; nothing for all of them."""
    if not row.get("train_share"):
        return ""
    counts = sorted(set(row.get("train_speakers") or ()))
    told = f", {' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} speakers" if counts else ""
    return f"{100 * row['train_share']:g} %{told}"


def _task(row: Row) -> str:
    task = row.get("task")
    return f"; {task}" if task and isinstance(task, str) else ""


def _budget(row: Row) -> str:
    parts = _searched(row.get("budget") or {})
    return f"; every configuration searched {', '.join(parts)}" if parts else ""


def _searched(budget: Mapping[str, Any]) -> list[str]:
    parts = []
    if budget.get("learning_rates"):
        parts.append(f"learning rates {', '.join(f'{rate:g}' for rate in budget['learning_rates'])}")
    if budget.get("weight_decays") not in (None, [0.0]):
        parts.append(f"weight decays {', '.join(f'{decay:g}' for decay in budget['weight_decays'])}")
    if budget.get("halving"):
        parts.append("the worse half stopped after a third of the epochs")
    if budget.get("epochs"):
        parts.append(f"up to {budget['epochs']} epoch{'s' if budget['epochs'] != 1 else ''}")
    if budget.get("batch_size"):
        parts.append(f"batches of {budget['batch_size']}")
    return parts


def _searched_settings(row: Row) -> str:
    grid = {key: values for key, values in (row.get("head_options") or {}).items() if isinstance(values, list)}
    return ", ".join(f"{key} {' or '.join(map(str, values))}" for key, values in grid.items())


def _tell(what: str, rows: Sequence[Row], key: str) -> str:
    """Tell a value once where all rows share it, else for which heads, encoders, or both it holds."""
    told = [row for row in rows if row.get(key)]
    owners: dict[str, dict[str, None]] = {}
    for names in (("head",), ("encoder",), ("encoder", "head")):
        owners = defaultdict(dict)
        for row in told:
            owners[str(row[key])]["/".join(last_part(str(row[name])) for name in names)] = None
        if len({owner for group in owners.values() for owner in group}) == sum(map(len, owners.values())):
            break
    if len(owners) > 1:
        named = "; ".join(f"{value} ({', '.join(group)})" for value, group in owners.items())
        return f"{what}: {named}."
    return f"{what}: {next(iter(owners))}." if owners else ""
