"""What a card should reach, what was predicted before there was one, and what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple


class Target(NamedTuple):
    """One figure: its least value, or its greatest where `most`."""

    what: str
    wanted: float
    predicted: str
    most: bool = False


SHARE, LOOP, IDLE = "share of the matrix rate", "times the one-file loop", "idle"
TARGETS: Mapping[str, Target] = {
    f"hubert-large {SHARE}": Target("HuBERT-large, bf16: share of the card's matrix rate", 0.40, "0.30 to 0.45"),
    f"hubert {LOOP}": Target("HuBERT-base, bf16: times the one-file loop", 20, "30 to 40"),
    f"emotion2vec {LOOP}": Target("emotion2vec, bf16: times its passes file by file", 20, "20 to 30"),
    f"w2v-bert {LOOP}": Target("w2v-BERT, bf16: times the one-file loop", 20, "25 to 60"),
    f"hubert {IDLE}": Target("HuBERT-base, bf16: share of the time in which no kernel runs", 0.10, "0.15", True),
    f"hubert-large {IDLE}": Target("HuBERT-large, bf16: the same (decoding is hidden)", 0.10, "0.05", True),
    "heads": Target("heads of IEMOCAP's size a minute", 5000, "4,000 to 6,000"),
    "writing": Target("fine-tuning: share of the time in which weights go to disk", 0.10, "0.05", True),
}


def compare(measured: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return a row for each target; what was not measured is unseen."""
    rows = []
    for name, (what, wanted, predicted, most) in TARGETS.items():
        found = measured.get(name, math.nan)
        met = "unseen" if math.isnan(found) else "yes" if (found <= wanted if most else found >= wanted) else "no"
        bound = f"at most {wanted:g}" if most else f"at least {wanted:g}"
        rows.append({"": what, "wanted": bound, "predicted": predicted, "measured": found, "met": met})
    return rows
