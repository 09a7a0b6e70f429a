"""One temperature for the probabilities of a head, found from what little is kept of its validation sets.

The negative log-likelihood is convex in the inverse temperature (Guo et al. 2017), so its slopes at a few of them,
summed over utterances, tell its minimum. They take the same room whatever the number of utterances, and those of
several validation sets add up; the scores of every candidate and epoch would take too much.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.optimize import brentq
from torch import Tensor

OCTAVES = 4
"""Temperatures lie between 1/16 and 16."""

INVERSES: NDArray[np.float64] = 2.0 ** np.arange(-OCTAVES, OCTAVES + 0.5, 0.5)
"""The inverse temperatures at which slopes are kept."""

KEPT = len(INVERSES) + 1
"""Numbers that are kept: slopes, and what a class by chance in the place of the true one would add to each."""


def likelihood_slopes(shares: Tensor, targets: Tensor) -> Tensor:
    """Differentiate the negative log-likelihood of every utterance by the inverse temperature, at `INVERSES`.

    The last number is the difference to the mean over all classes that could have been the true one.

    Shape:
        Probabilities `[..., utterances, classes]`, class indices `[..., utterances]`, output `[..., utterances, KEPT]`.
    """
    # Classes come first: sums over a short last dimension are slow.
    logs = shares.clamp_min(torch.finfo(shares.dtype).tiny).log().movedim(-1, 0).contiguous()
    logs -= logs.amax(0)
    true = logs.gather(0, targets.expand(logs.shape[1:])[None])[0]
    found = logs.new_empty((KEPT, *true.shape))
    found[-1] = true - logs.mean(0)
    for start in range(2):
        # Each second inverse is twice the one before: its powers are squares.
        powers = (logs * float(INVERSES[start])).exp()
        for place in range(start, len(INVERSES), 2):
            found[place] = (powers * logs).sum(0) / powers.sum(0) - true
            powers *= powers
    return found.movedim(0, -1)


def find_temperature(sums: NDArray[np.float64], utterances: int) -> float:
    """Find the temperature of the smallest negative log-likelihood of these utterances and one of a class by chance.

    Without that one, heads that are right about all utterances would be taken for ones that never err; Platt (1999)
    moves targets for the same reason.

    Args:
        sums: What `likelihood_slopes` gives, summed over utterances, `[KEPT]`.
        utterances: How many.

    Returns:
        Four digits; 1 where the slopes are unknown (NaN).
    """
    if not np.isfinite(sums).all():
        return 1.0
    slopes, places = sums[:-1] + sums[-1] / (utterances + 1), np.log(INVERSES)
    above = int(np.searchsorted(np.maximum.accumulate(slopes), 0.0))
    if above in (0, len(slopes)):
        inverse = places[min(above, len(slopes) - 1)]
    else:
        inverse = brentq(PchipInterpolator(places, slopes), places[above - 1], places[above])
    return float(f"{np.exp(-inverse):.4g}")
