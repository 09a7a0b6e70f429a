"""Keep encoders that were fine-tuned away from the speakers they have seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedkit.errors import FitError
from embedkit.store.layout import SEEN_COLUMN
from embedkit.training.data.folds import Fold, Indices, Names
from embedkit.training.data.source import Source
from embedkit.training.data.task import TaskData
from embedkit.wording import list_some

SHOWN = 6
"""Speakers and utterances that a sentence names."""


def require_unseen(source: Source, data: TaskData, fold: Fold) -> None:
    """Refuse a fold whose test or development set holds what the source's encoder was trained on.

    The development set may hold what the encoder was chosen on, the test set not even that.

    Raises:
        FitError: names the speakers, and the fold the encoder belongs to.
    """
    found = find_leaks(source, data, fold)
    if found:
        known = source.trained_on
        shown = list_some(found, SHOWN)
        raise FitError(
            f"The encoder {source.path.stem} was trained or chosen on {shown}, which the fold {fold.name!r} tests or "
            f"chooses on; it belongs to the fold {known.get('fold')!r} by {known.get('folds')}: fit the stores of all "
            "folds of its run together, or add --allow-leak, which marks every number."
        )


def find_leaks(source: Source, data: TaskData, fold: Fold) -> list[str]:
    """Name the speakers, and the utterances of unknown ones, that a fold and the encoder's training have in common.

    A corpus is known by its name, or by a recording of it that the encoder was trained on. Where that was on folds
    that share speakers, utterances count alone.
    """
    develop = np.concatenate([fold.test[:0], *(validate for _, validate in fold.validations)])
    leaks: list[str] = []
    for known in past_trainings(source.trained_on):
        marks = _marks(source, known, data)
        if known.get("corpus") != source.corpus and not np.any(marks != ""):
            continue
        named = set() if known.get("speaker_dependent") else set(known.get("speakers", ()))
        chosen = set() if known.get("speaker_dependent") else set(known.get("development_speakers", ()))
        leaks += _common(data, fold.test, named | chosen, marks, ("train", "dev"))
        leaks += _common(data, develop, named, marks, ("train",))
    return list(dict.fromkeys(leaks))


def past_trainings(trained_on: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what an encoder was trained on, the last training first; nothing for a published one."""
    return [trained_on, *trained_on.get("before", ())] if trained_on else []


def _common(data: TaskData, index: Indices, speakers: set[str], marks: Names, parts: tuple[str, ...]) -> list[str]:
    own = [str(name) for name in np.unique(data.speakers[index])]
    named = [f"the speaker {name}" for name in own if name in speakers]
    unnamed = index[np.isin(marks[index], parts) & ~np.isin(data.speakers[index], list(speakers))]
    return named + [f"the utterance {name}" for name in data.ids[unnamed].tolist()]


def _marks(source: Source, known: Mapping[str, Any], data: TaskData) -> NDArray[np.str_]:
    """Return for each utterance of a task "train", "dev" or nothing: its part in the encoder's training."""
    if SEEN_COLUMN in source.columns:
        return np.array(source.column(SEEN_COLUMN)[data.rows], dtype=np.str_)
    same = known.get("corpus") == source.corpus
    keys = [(data.ids, "utterances")] if same else []
    if known.get("digests") and (digests := source.audio_digests()) is not None:
        keys.append((digests[data.rows], "digests"))
    marks = np.full(len(data), "", dtype="<U5")
    for own, name in keys:
        for part, names in (("dev", known.get(f"development_{name}")), ("train", known.get(name))):
            marks[np.isin(own, [one for one in names if one] if isinstance(names, list) else [])] = part
    return marks
