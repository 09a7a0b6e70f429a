"""The published counts of IEMOCAP's full release, and the notes on a corpus that has others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from embedkit.corpora.base import Task, Utterance
from embedkit.wording import count_noun

FILES = 10_039
TOTAL = 5_531
CLASSES = {"neutral": 1_708, "happiness": 1_636, "anger": 1_103, "sadness": 1_084}
HAPPINESS_ALONE = 595
SESSIONS = {"Ses01": 1_085, "Ses02": 1_023, "Ses03": 1_151, "Ses04": 1_031, "Ses05": 1_241}

_NEARLY_ALL = 100
"""A release that lacks no more files than this is checked as a full one."""


def count_notes(utterances: Sequence[Utterance], task: Task, *, files: int) -> tuple[str, ...]:
    """Compare the counts of the four-class task with the published ones.

    Args:
        utterances: All labelled utterances with audio.
        task: The four classes, with excitement merged into happiness.
        files: How many sentence files there are, labelled or not.

    Returns:
        Nothing where a full release has the published counts, one loud note where it has others, and a note on
        what was found where it is no full release.
    """
    if len({utterance.session for utterance in utterances}) != len(SESSIONS) or abs(files - FILES) > _NEARLY_ALL:
        return (f"Found {count_noun(files, 'sentence file')} of {FILES:,}: not the full IEMOCAP release.",)
    chosen = [item for item in utterances if task.merge.get(item.label, item.label) in task.classes]
    found = {
        "sentence files": (files, FILES),
        "four-class utterances": (len(chosen), TOTAL),
        **_pairs(Counter(task.merge.get(item.label, item.label) for item in chosen), CLASSES),
        "happiness without excitement": (sum(item.label == "happiness" for item in chosen), HAPPINESS_ALONE),
        **_pairs(Counter(item.session for item in chosen), SESSIONS),
    }
    wrong = [f"{what} {count:,} instead of {right:,}" for what, (count, right) in found.items() if count != right]
    if not wrong:
        return ()
    return (
        f"WARNING: this full IEMOCAP release does not have the published counts: {', '.join(wrong)}; "
        "results on it cannot be compared with published ones.",
    )


def _pairs(counts: Mapping[str, int], published: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    return {what: (counts.get(what, 0), right) for what, right in published.items()}
