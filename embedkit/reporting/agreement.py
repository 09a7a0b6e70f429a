"""How far annotators agree, as a line beside what systems reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from embedkit.reporting.labels import Row
from embedkit.wording import count_noun, list_words

OF_VOTES = 0.95
"""Share of labels that name the majority, from which on labels count as made of the votes."""


def describe_agreement(rows: Sequence[Row]) -> str:
    """Write what one annotator reaches, for runs of one protocol; nothing where no run knows of annotators."""
    row = next((row for row in rows if row.get("annotators")), {})
    found: Mapping[str, Any] = row.get("annotators", {})
    if not found:
        return ""
    return _describe_ratings(found, row["dimensions"]) if row.get("dimensions") else _describe_votes(found)


def _describe_votes(found: Mapping[str, Any]) -> str:
    counted = count_noun(int(found["utterances"]), "utterance")
    if not found.get("compared"):
        return (
            f"Annotators: votes on {counted}, but none with whole votes of two or more, so how far they agree is "
            "unknown; shares do not tell how many voted."
        )
    chance = "" if found.get("alpha") is None else f"; Krippendorff's alpha {found['alpha']:.3f}"
    told = (
        f"Annotators: one of them, each left out in turn, reaches UAR {100 * found['ua']:.1f} %, accuracy "
        f"{100 * found['wa']:.1f} % and macro-F1 {100 * found['f1']:.1f} % against the majority of the others, and a "
        f"Jensen-Shannon distance of {found['js']:.3f} to their shares{chance} ({_tested(found, counted)})."
    )
    if found["labels_of_majority"] < OF_VOTES:
        return (
            f"{told} The labels are not made of the votes ({100 * found['labels_of_majority']:.0f} % name the majority)"
            f"; against them one annotator reaches UAR {100 * found['ua_of_labels']:.1f} % and accuracy "
            f"{100 * found['wa_of_labels']:.1f} %. That is the line that no system can be expected to pass by what "
            "annotators hear; one above it has learned more of how the labels were made."
        )
    return (
        f"{told} That UAR is the line that no system can be expected to pass; labels made of the same votes are "
        "steadier than one annotator, so one above it has learned the majority and hears no better."
    )


def _describe_ratings(found: Mapping[str, Any], dimensions: Sequence[str]) -> str:
    known = {name: found[f"ccc_{name}"] for name in dimensions if found.get(f"ccc_{name}") is not None}
    if not known:
        return (
            "Annotators: the spread of their ratings is known but not how many there were, so what one of them reaches "
            "is unknown; add a column raters to the corpus."
        )
    each = list_words(f"{value:.3f} ({name})" for name, value in known.items())
    return (
        f"Annotators: one of them, each left out in turn, reaches a CCC of {each} with the mean of the others "
        f"({_tested(found, count_noun(int(found['utterances']), 'utterance'))}): the line that no system can be "
        "expected to pass. Ratings that are means of the same annotators are steadier than one, so a system above it "
        "has learned the mean and hears no better."
    )


def _tested(found: Mapping[str, Any], counted: str) -> str:
    compared = int(found["compared"])
    return counted if compared == found["utterances"] else f"on {compared:,} of {counted}"
