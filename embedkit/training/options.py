"""What is the same for every experiment of a fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from embedkit.errors import FitError
from embedkit.training.live.fine_tuner import Tuning

Mode: TypeAlias = Literal["cached", "frozen", "finetune", "lora"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is the same for every experiment."""

    seeds: int
    folds: str | None
    classes: tuple[str, ...] | None
    merge: Mapping[str, str] | None
    where: tuple[str, ...]
    learning_rates: tuple[float, ...]
    weight_decays: tuple[float, ...]
    epochs: int
    batch_size: int
    patience: int | None = None
    clip: float | None = None
    memory_gb: float | None = None
    normalise: str = "none"
    test_merge: Mapping[str, str] = field(default_factory=dict)
    targets: tuple[str, ...] = ()
    mode: str = "cached"
    tuning: Tuning | None = None
    save_encoder: bool = False
    allow_leak: bool = False

    def __post_init__(self) -> None:
        for name, value in {"seeds": self.seeds, "epochs": self.epochs, "batch size": self.batch_size}.items():
            if value < 1:
                raise FitError(f"The number of {name} is {value}, expected at least 1.")
        if self.targets and (self.classes is not None or self.merge or self.test_merge):
            raise FitError(
                f"Found both dimensions to predict ({', '.join(self.targets)}) and classes or merged labels; leave out "
                "--targets or the others, and choose utterances with --where label=LABEL."
            )
        if self.patience is not None and self.patience < 1:
            raise FitError(f"The patience is {self.patience} epochs, expected at least 1.")
        if self.clip is not None and not 0 < self.clip < np.inf:
            raise FitError(f"Gradients are clipped at {self.clip}, expected a number above zero.")
        if self.memory_gb is not None and not self.memory_gb >= 0:
            raise FitError(f"The memory is {self.memory_gb} GB, expected zero or more.")
        if self.normalise not in ("none", "speaker"):
            raise FitError(f"The normalisation is {self.normalise!r}, expected none or speaker.")
        if not self.learning_rates or not all(rate > 0 and np.isfinite(rate) for rate in self.learning_rates):
            raise FitError(f"The learning rates are {list(self.learning_rates)}, expected numbers above zero.")
        if len(set(self.learning_rates)) < len(self.learning_rates):
            raise FitError(f"The learning rates {list(self.learning_rates)} hold one twice; name each once.")
        if not self.weight_decays or not all(0 <= decay < np.inf for decay in self.weight_decays):
            raise FitError(f"The weight decays are {list(self.weight_decays)}, expected numbers of at least zero.")
        if len(set(self.weight_decays)) < len(self.weight_decays):
            raise FitError(f"The weight decays {list(self.weight_decays)} hold one twice; name each once.")

    @property
    def seed_numbers(self) -> tuple[int, ...]:
        return tuple(range(self.seeds))

    @property
    def budget(self) -> dict[str, Any]:
        return {
            "learning_rates": list(self.learning_rates),
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "weight_decays": list(self.weight_decays),
            **({} if self.patience is None else {"patience": self.patience}),
            **({} if self.clip is None else {"clip": self.clip}),
        }
