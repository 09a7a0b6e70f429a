"""The stores of one fine-tuning run, one for each fold: each is read for its own fold alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from embedkit.errors import FitError
from embedkit.store.reader import Store
from embedkit.training.data.folds import FoldPlan, shift_fold
from embedkit.training.data.source import Source
from embedkit.training.data.store_source import StoreSource


class FoldStores(StoreSource):
    """Stores of the same utterances whose encoders were trained on the other folds of one study.

    Args:
        stores: All of one run and seed.

    Raises:
        FitError: two stores of one fold, or stores that do not hold the same utterances.
    """

    def __init__(self, stores: Sequence[Store]) -> None:
        stores = sorted(stores, key=lambda store: int(store.trained_on["fold_number"]))
        names = [str(store.trained_on["fold"]) for store in stores]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise FitError(f"Two of the stores belong to the fold {twice!r} of one run; name one for each fold.")
        for store in stores[1:]:
            _require_alike(stores[0], store)
        self.stores = {name: StoreSource(store) for name, store in zip(names, stores, strict=True)}
        # What all have alike is read from the first one.
        super().__init__(stores[0])
        seen, self.trained_on, self.fine_tuned = stores[0].trained_on, {}, True
        self.usual_folds = str(seen["folds"])
        # Where a single store would lie, named after the study.
        self.path = self.path.with_name(f"{seen['base']}-{seen['study']}-seed-{seen['seed']}.h5")
        self.fingerprint, self.digest = (
            hashlib.sha256(" ".join(parts).encode()).hexdigest()
            for parts in ([store.fingerprint for store in stores], [store.digest for store in stores])
        )

    def for_folds(self, plan: FoldPlan) -> list[StoreSource]:
        missing = [fold.name for fold in plan.folds if fold.name not in self.stores]
        if missing:
            raise FitError(
                f"There is no store of the fold {missing[0]!r} by {plan.kind} among those of {self.path.stem} (there "
                f"are {', '.join(self.stores)}); extract with the encoders of all folds, and leave --folds to the run."
            )
        return [self.stores[fold.name] for fold in plan.folds]

    def describe(self, plan: FoldPlan) -> dict[str, Any]:
        return {**super().describe(plan), "encoders": [store.encoder for store in self.for_folds(plan)]}

    def require_undamaged(self) -> None:
        for store in self.stores.values():
            store.require_undamaged()


def _require_alike(first: Store, store: Store) -> None:
    alike = np.array_equal(store.ids, first.ids) and np.array_equal(store.labels, first.labels)
    shapes = [
        {"layers": one.layers, "dimensions": one.dimensions, "levels": one.levels, "frame dtype": one.frame_dtype}
        for one in (first, store)
    ]
    differing = [name for name, value in shapes[0].items() if shapes[1][name] != value]
    if differing or not alike:
        raise FitError(
            f"{first.path} and {store.path} belong to one run but differ in their "
            f"{differing[0] if differing else 'utterances'}; extract the corpus with the encoders of all folds alike."
        )


def spread_folds(plan: FoldPlan, utterances: int) -> FoldPlan:
    """Move every fold into its own store's rows of `JoinedFeatures`."""
    folds = tuple(shift_fold(fold, place * utterances, fold.name) for place, fold in enumerate(plan.folds))
    return replace(plan, folds=folds)


def group_stores(stores: Sequence[Store]) -> list[Source]:
    """Make sources of stores: one of those of one fine-tuning run and seed together, one of every other store."""
    grouped: dict[Any, list[Store]] = {}
    for place, store in enumerate(stores):
        seen = store.trained_on
        study = (store.corpus, seen.get("study"), seen.get("seed")) if seen.get("study") else place
        grouped.setdefault(study, []).append(store)
    return [FoldStores(own) if len(own) > 1 else StoreSource(own[0]) for own in grouped.values()]
