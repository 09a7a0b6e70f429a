"""Heads that are fitted in one go, in the place of stacks that are trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from embedkit.errors import FitError
from embedkit.heads.probes import LinearProbe, Probe
from embedkit.training.data.features import Features, Standardiser
from embedkit.training.data.folds import Indices
from embedkit.training.data.targets import build_targets
from embedkit.training.stacks.packing import pack, unpack
from embedkit.training.stacks.schedule import OnStack
from embedkit.training.stacks.scoring import score_states
from embedkit.training.stacks.stack import Group, GroupResult, State, TrainingConfig, features_for
from embedkit.training.stacks.temperature import KEPT, likelihood_slopes
from embedkit.training.stacks.workers import work_side_by_side


def fit_groups(
    features: Features,
    targets: NDArray[np.int64],
    groups: Sequence[Group],
    config: TrainingConfig,
    *,
    threads: int,
    on_stack: OnStack = lambda groups, results: None,
) -> list[GroupResult]:
    """Fit the one head of each group, as `run_groups` trains them; all is done after one epoch.

    Args:
        targets: Class index of every utterance, `[utterances]`.
        threads: Heads fitted at once, on a CPU.
    """
    results: dict[int, GroupResult] = {}
    if issubclass(config.head.cls, LinearProbe):
        # Imported here, scikit-learn is there in all copies of this process.
        config.head.cls.estimator(config.head.options)
    workers = threads if features.device.type == "cpu" else 1
    work = work_side_by_side(
        lambda place: pack([_fit(features, targets, groups[place], config)]), range(len(groups)), workers
    )
    for place, packed in work:
        (results[place],) = unpack(packed, [groups[place]])
        on_stack([groups[place]], [results[place]])
    return [results[place] for place in range(len(groups))]


def _fit(features: Features, targets: NDArray[np.int64], group: Group, config: TrainingConfig) -> GroupResult:
    head, (member,) = config.head, group.members
    assert issubclass(head.cls, Probe)
    read = features_for(config, features)
    standardiser = read.moments(group.train)
    values = _gather(read, group.train, standardiser)
    try:
        found = head.cls.fit(values, targets[group.train], config.classes, head.options)
    except (ValueError, ArithmeticError) as error:
        raise FitError(f"scikit-learn cannot fit {head.spec!r} ({' '.join(str(error).split())[:200]}).") from error
    state: State = {
        name: torch.from_numpy(np.ascontiguousarray(part, dtype=np.float32)) for name, part in found.items()
    }
    truth = build_targets(targets, config.classes)
    predictions, scores = truth.reserve(1, 1, len(group.validate)), np.full((1, 1), np.nan)
    slopes = np.full((1, 1, KEPT), np.nan)
    if len(group.validate):
        shares = score_states(read, [state], member.loss, standardiser, group.validate, config)
        predictions[:, 0] = shares.argmax(-1)
        scores[:, 0] = truth.score(group.validate, predictions[:, 0])
        own = likelihood_slopes(torch.from_numpy(shares), torch.from_numpy(targets[group.validate]))
        slopes[:, 0] = own.sum(1).numpy()
    return GroupResult(
        losses=np.full((1, 1), np.nan),
        dev_scores=scores,
        predictions=predictions,
        slopes=slopes,
        states=[state],
        standardiser=standardiser,
    )


def _gather(features: Features, index: Indices, standardiser: Standardiser) -> NDArray[np.float64]:
    """Return what a probe reads of utterances `[n]`: `[n, dimensions]`."""
    stacked = Standardiser.stack([standardiser], features.device)
    values: NDArray[np.float64] = features.gather(index[None], stacked).values[0].double().mean(1).cpu().numpy()
    return values
