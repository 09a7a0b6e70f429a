"""What a run's predictions add to its score, speaker by speaker: all that a paired test needs of them."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embedkit.errors import RunError
from embedkit.evaluation.intervals import Contributions, IntArray
from embedkit.evaluation.significance import (
    agreement_moments,
    jackknife_variance,
    mean_concordance,
    recall_shares,
)
from embedkit.evaluation.speaker_model import FloatArray, Variance
from embedkit.reporting.predictions import read_columns


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One run's predictions, summed within each speaker.

    Attributes:
        pairing: Equal for runs on the same utterances of the same speakers, with the same truth and as many seeds.
        parts: `[speakers, ...]`, speakers in sorted order: shares of the UA, or moments of the CCC.
        score: The UA or the mean CCC, averaged over seeds.
        by_seed: The same under each seed `[seeds]`.
        systems: How many were trained under a seed: one for each fold.
        fitted: Whether it is the same under every seed.
        hits: What utterances, in the order of their names, add to the UA; None for ratings.
        owners: The speaker of each utterance, as an index.
    """

    pairing: str
    parts: FloatArray
    score: float
    by_seed: FloatArray
    systems: int
    fitted: bool
    hits: Contributions | None
    owners: IntArray

    @property
    def luck(self) -> FloatArray:
        """The scores by which seeds are known to differ, `[seeds]`; `[0]` where they cannot."""
        return self.by_seed[:0] if self.fitted else self.by_seed

    def swapped_variance(self, other: Outcome) -> Variance:
        """Estimate the variance over speakers of the difference from another outcome of the same utterances."""
        if self.hits is None or other.hits is None:
            return jackknife_variance(self.parts, other.parts, mean_concordance)
        return self.hits.less(other.hits).variance(self.owners)


def read_outcome(path: Path, dimensions: Sequence[str] = (), *, fitted: bool = False) -> Outcome:
    """Read the columns that are needed from a run's predictions.

    Args:
        path: The CSV, one row for each utterance and seed.
        dimensions: The ratings that the run predicts; none where it predicts classes.
        fitted: Whether the run is the same under every seed.

    Raises:
        RunError: the file is missing, damaged or incomplete, or does not name the speakers.
    """
    truths, guesses = (
        (list(dimensions), [f"predicted_{name}" for name in dimensions])
        if dimensions
        else (
            ["label"],
            ["predicted"],
        )
    )
    try:
        (ids, owners, seeds, folds, *values), _ = read_columns(
            path, ["id", "speaker", "seed", "fold", *truths, *guesses]
        )
    except (OSError, ValueError, LookupError, csv.Error) as error:
        raise RunError(f"{path} cannot be read ({error}).") from error
    if not len(ids.codes):
        raise RunError(f"{path} holds no predictions.")
    if not owners.texts[0]:
        raise RunError(f"{path} does not name the speaker of every utterance, so nothing can be paired by speaker.")
    true, found = values[: len(truths)], values[len(truths) :]
    count, systems = len(seeds.texts), len(folds.texts)
    order = np.lexsort((ids.codes, seeds.codes))
    units = np.stack([column.codes for column in (ids, owners, *true)], axis=1)[order]
    if len(order) != len(ids.texts) * count or (units.reshape(count, -1) != units[: len(ids.texts)].reshape(-1)).any():
        raise RunError(f"{path} does not hold one prediction for each utterance and seed.")
    order = order.reshape(count, -1)
    texts = [column.take(order[0]) for column in (ids, owners, *true)]
    pairing = hashlib.sha256(repr((texts, count)).encode()).hexdigest()
    speakers = owners.codes
    if not dimensions:
        places = {text: place for place, text in enumerate(true[0].texts)}
        right = np.array([places.get(text, -1) for text in found[0].texts])[found[0].codes] == true[0].codes
        classes = true[0].codes
        shares = recall_shares(right, classes, speakers)
        own = [seeds.codes == number for number in range(count)]
        by_seed = np.array([recall_shares(right[rows], classes[rows], speakers[rows]).sum() for rows in own])
        present = np.unique(classes)
        return Outcome(
            pairing=pairing,
            parts=shares,
            score=float(shares.sum()),
            by_seed=by_seed,
            systems=systems,
            fitted=fitted,
            hits=Contributions(
                values=right[order].mean(0),
                weights=np.full(len(present), 1 / len(present)),
                classes=classes[order[0]],
            ),
            owners=speakers[order[0]],
        )
    try:
        ratings, predicted = (
            np.stack([np.array(column.texts, dtype=np.float64)[column.codes] for column in columns], axis=-1)[order]
            for columns in (true, found)
        )
    except ValueError as error:
        raise RunError(f"{path} holds something other than numbers ({error}).") from error
    moments = agreement_moments(ratings[0], predicted, speakers[order[0]])
    whole = moments.sum(0)
    return Outcome(
        pairing=pairing,
        parts=moments,
        score=float(mean_concordance(whole)),
        by_seed=mean_concordance(whole[:, None]),
        systems=systems,
        fitted=fitted,
        hits=None,
        owners=speakers[order[0]],
    )
