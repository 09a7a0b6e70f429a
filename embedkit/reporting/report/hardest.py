"""The utterances that are recognised least, over all runs of a protocol."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedkit.reporting.figures.panels import Panel
from embedkit.reporting.figures.recall import Read
from embedkit.reporting.predictions import Predictions
from embedkit.reporting.published import last_part
from embedkit.reporting.report.listings import Listing

SHOWN = 25


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What all heads of all runs said of every utterance.

    Attributes:
        places: Where each utterance stands, by its name.
        labels, speakers, sessions: Of the utterances, `[utterances]`.
        right, asked: How often each was recognised, of how many times, by encoder, `[utterances]`.
        probability: Sum over all heads of what they gave to the true class, `[utterances]`.
    """

    places: Mapping[str, int]
    labels: Sequence[str]
    speakers: Sequence[str]
    sessions: Sequence[str]
    right: Mapping[str, NDArray[np.int64]]
    asked: Mapping[str, NDArray[np.int64]]
    probability: NDArray[np.float64]

    def tell(self, name: str, encoder: str) -> str:
        """Say how often an utterance was recognised with an encoder; nothing where it was never asked."""
        if name not in self.places:
            return ""
        right, asked = (
            int(own[encoder][self.places[name]]) if encoder in own else 0 for own in (self.right, self.asked)
        )
        return f"{right} of {asked}"


def tally_utterances(panels: Sequence[Panel], read: Read) -> Tally:
    """Count for every utterance what was said of it; there are none where no run predicts classes."""
    places: dict[str, int] = {}
    told: list[tuple[str, str, str]] = []
    for _, own in _read_classes(panels, read):
        for place, name in enumerate(own.ids):
            if places.setdefault(name, len(places)) == len(told):
                told.append((own.labels[place], own.speakers[place], own.sessions[place]))
    right: dict[str, NDArray[np.int64]] = {}
    asked: dict[str, NDArray[np.int64]] = {}
    probability = np.zeros(len(places))
    for encoder, own in _read_classes(panels, read):
        rows = np.fromiter((places[name] for name in own.ids), dtype=np.int64, count=len(own.ids))
        right.setdefault(encoder, np.zeros(len(places), dtype=np.int64))[rows] += own.hits.sum(0)
        asked.setdefault(encoder, np.zeros(len(places), dtype=np.int64))[rows] += len(own.hits)
        probability[rows] += own.probability.sum(0)
    labels, speakers, sessions = zip(*told, strict=True) if told else ((), (), ())
    return Tally(
        places=places,
        labels=labels,
        speakers=speakers,
        sessions=sessions,
        right=right,
        asked=asked,
        probability=probability,
    )


def _read_classes(panels: Sequence[Panel], read: Read) -> Iterator[tuple[str, Predictions]]:
    """Yield the encoder and the predictions of every run that predicts classes."""
    for panel in panels:
        for record in panel.runs.values():
            if len((own := read(record)).truth):
                yield last_part(panel.encoder), own


def _count_wrong(names: Sequence[str], panels: Sequence[Panel], read: Read) -> list[Counter[str]]:
    """Count how often which other class was predicted of some utterances."""
    found: list[Counter[str]] = [Counter() for _ in names]
    for _, own in _read_classes(panels, read):
        rows = {name: row for row, name in enumerate(own.ids)}
        for counter, row in ((one, rows[name]) for one, name in zip(found, names, strict=True) if name in rows):
            counter.update(own.classes[place] for place in own.predicted[~own.hits[:, row], row])
    return found


def list_hardest(
    tally: Tally,
    panels: Sequence[Panel],
    read: Read,
    clips: Callable[[Sequence[str]], Sequence[int | None]] | None = None,
) -> Listing:
    """List the utterances with the lowest share of right predictions, those with the lowest probability first.

    Args:
        tally: What was said of utterances.
        panels, read: The runs that said it.
        clips: Returns the numbers of their clips; None where none are to be played.
    """
    asked = np.sum(list(tally.asked.values()), axis=0)
    shares, probability = np.sum(list(tally.right.values()), axis=0) / asked, tally.probability / asked
    chosen = [place for place in np.lexsort((probability, shares))[:SHOWN].tolist() if shares[place] < 1]
    every = list(tally.places)
    names = [every[place] for place in chosen]
    with_session = any(tally.sessions[place] for place in chosen)
    rows = []
    for place, name, wrong in zip(chosen, names, _count_wrong(names, panels, read), strict=True):
        taken, times = wrong.most_common(1)[0]
        rows.append(
            (
                name,
                tally.speakers[place],
                *([tally.sessions[place]] if with_session else []),
                tally.labels[place],
                f"{taken} ({times} of {asked[place]})",
                *(tally.tell(name, one) for one in tally.asked),
                f"{probability[place]:.2f}",
            )
        )
    heard = clips(names) if clips else [None] * len(chosen)
    marks = tuple(
        {
            "speaker": tally.speakers[place],
            "class": tally.labels[place],
            **({} if clip is None else {"clip": str(clip)}),
        }
        for place, clip in zip(chosen, heard, strict=True)
    )
    session = ["session"] if with_session else []
    right = [f"right with {one}" for one in tally.asked]
    headers = (
        "utterance",
        "speaker",
        *session,
        "true label",
        "mostly predicted",
        *right,
        "probability of the true label",
    )
    return Listing(headers=headers, rows=tuple(rows), labels=4 + with_session, marks=marks)
