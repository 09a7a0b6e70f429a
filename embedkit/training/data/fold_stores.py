"""The stores of one fine-tuning run, one for each fold: each is read for its own fold alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from embedkit.errors import FitError
from embedkit.store.reader import Store
from embedkit.training.data.folds import FoldPlan, shift_fold
from embedkit.training.data.source import Source


class PerFoldStores:
    """Stores of the same utterances whose encoders were trained on the other folds of one study.

    Args:
        stores: All of one run and seed.

    Raises:
        FitError: two stores of one fold, or stores that do not hold the same utterances.
    """

    def __init__(self, stores: Sequence[Store]) -> None:
        self.stores = sorted(stores, key=lambda store: int(store.trained_on["fold_number"]))
        self.first = self.stores[0]
        names = [store.trained_on["fold"] for store in self.stores]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise FitError(f"Two of the stores belong to the fold {twice!r} of one run; name one for each fold.")
        for store in self.stores[1:]:
            alike = np.array_equal(store.ids, self.first.ids) and np.array_equal(store.labels, self.first.labels)
            differing = [
                name
                for name in ("layers", "dimensions", "levels", "frame_dtype")
                if getattr(store, name) != getattr(self.first, name)
            ]
            if differing or not alike:
                raise FitError(
                    f"{self.first.path} and {store.path} belong to one run but differ in their "
                    f"{differing[0].replace('_', ' ') if differing else 'utterances'}; extract the corpus with the "
                    "encoders of all folds alike."
                )

    def __len__(self) -> int:
        return len(self.first)

    def __getattr__(self, name: str) -> Any:
        """Labels, columns and the like are those of every store."""
        return getattr(self.first, name)

    @property
    def path(self) -> Path:
        """Where a single store would lie, named after the study."""
        seen = self.first.trained_on
        return self.first.path.with_name(f"{seen['base']}-{seen['study']}-seed-{seen['seed']}.h5")

    @property
    def trained_on(self) -> dict[str, Any]:
        """Nothing as a whole: what each store's encoder has seen counts for its own fold."""
        return {}

    @property
    def fingerprint(self) -> str:
        """Digest of the encoders of all folds."""
        return hashlib.sha256(" ".join(store.fingerprint for store in self.stores).encode()).hexdigest()

    @property
    def digest(self) -> str:
        """Digest of everything in the stores."""
        return hashlib.sha256(" ".join(store.digest for store in self.stores).encode()).hexdigest()

    @property
    def folds(self) -> str:
        """What the run's folds rotate over."""
        return str(self.first.trained_on["folds"])

    def arrange(self, plan: FoldPlan) -> list[Store]:
        """Return the store of every fold of a plan.

        Raises:
            FitError: a fold without a store.
        """
        known = {store.trained_on["fold"]: store for store in self.stores}
        missing = [fold.name for fold in plan.folds if fold.name not in known]
        if missing:
            raise FitError(
                f"There is no store of the fold {missing[0]!r} by {plan.kind} among those of {self.path.stem} (there "
                f"are {', '.join(known)}); extract with the encoders of all folds, and leave --folds to the run."
            )
        return [known[fold.name] for fold in plan.folds]


def spread_folds(plan: FoldPlan, utterances: int) -> FoldPlan:
    """Move every fold into its own store's rows of `JoinedFeatures`."""
    folds = tuple(shift_fold(fold, place * utterances, fold.name) for place, fold in enumerate(plan.folds))
    return replace(plan, folds=folds)


def group_stores(stores: Sequence[Source]) -> list[Source]:
    """Bring the stores of one fine-tuning run and seed together; all others stay as they are."""
    grouped: dict[Any, list[Source]] = {}
    for place, store in enumerate(stores):
        seen = store.trained_on
        study = (store.corpus, seen.get("study"), seen.get("seed")) if seen.get("study") else place
        grouped.setdefault(study, []).append(store)
    found: list[Source] = []
    for own in grouped.values():
        alike = [store for store in own if isinstance(store, Store)]
        found += [PerFoldStores(alike)] if len(alike) > 1 else own
    return found
