"""The utterances that are recognised least, over all runs of a protocol."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from embedkit.reporting.figures.panels import Panel
from embedkit.reporting.figures.recall import Read
from embedkit.reporting.published import last_part
from embedkit.reporting.report.listings import Listing

SHOWN = 25


@dataclass(kw_only=True)
class Tally:
    """What all heads of all runs said of one utterance.

    Attributes:
        label, speaker, session: Of the utterance.
        right, asked: How often it was recognised, of how many times, by encoder.
        wrong: How often which other class was predicted.
        probability: Sum over all heads of what they gave to the true class.
    """

    label: str
    speaker: str
    session: str
    right: Counter[str]
    asked: Counter[str]
    wrong: Counter[str]
    probability: float = 0.0

    @property
    def share(self) -> float:
        """How often it was recognised, of all times."""
        return self.right.total() / self.asked.total()


def tally_utterances(panels: Sequence[Panel], read: Read) -> dict[str, Tally]:
    """Count for every utterance what was said of it; empty where no run predicts classes."""
    found: dict[str, Tally] = {}
    for panel in panels:
        encoder = last_part(panel.encoder)
        for record in panel.runs.values():
            own = read(record)
            if not len(own.truth):
                continue
            hits, chances = own.hits.sum(0).tolist(), own.probability.sum(0).tolist()
            for place, name in enumerate(own.ids):
                tally = found.setdefault(name, _start(own.labels[place], own.speakers[place], own.sessions[place]))
                tally.right[encoder] += hits[place]
                tally.asked[encoder] += len(own.hits)
                tally.probability += chances[place]
            for row, seed in zip(own.hits, own.predicted, strict=True):
                for place in (~row).nonzero()[0]:
                    found[own.ids[place]].wrong[own.classes[seed[place]]] += 1
    return found


def _start(label: str, speaker: str, session: str) -> Tally:
    return Tally(label=label, speaker=speaker, session=session, right=Counter(), asked=Counter(), wrong=Counter())


def list_hardest(
    tallies: Mapping[str, Tally], clips: Callable[[Sequence[str]], Sequence[int | None]] | None = None
) -> Listing:
    """List the utterances with the lowest share of right predictions, those with the lowest probability first.

    Args:
        tallies: What was said of utterances.
        clips: Returns the numbers of their clips; None where none are to be played.
    """
    ranked = sorted(tallies.items(), key=lambda pair: (pair[1].share, pair[1].probability / pair[1].asked.total()))
    chosen = [(name, tally) for name, tally in ranked[:SHOWN] if tally.share < 1]
    encoders = list(dict.fromkeys(name for tally in tallies.values() for name in tally.asked))
    with_session = any(tally.session for _, tally in chosen)
    rows = []
    for name, tally in chosen:
        taken, times = tally.wrong.most_common(1)[0]
        rows.append(
            (
                name,
                tally.speaker,
                *([tally.session] if with_session else []),
                tally.label,
                f"{taken} ({times} of {tally.asked.total()})",
                *(f"{tally.right[one]} of {tally.asked[one]}" for one in encoders),
                f"{tally.probability / tally.asked.total():.2f}",
            )
        )
    heard = clips([name for name, _ in chosen]) if clips else [None] * len(chosen)
    marks = tuple(
        {"speaker": tally.speaker, "class": tally.label, **({} if clip is None else {"clip": str(clip)})}
        for (_, tally), clip in zip(chosen, heard, strict=True)
    )
    session = ["session"] if with_session else []
    right = [f"right with {one}" for one in encoders]
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
