"""Simulated systems on simulated speakers, whose true scores are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedkit.evaluation.metrics import accuracy, mean_f1, mean_recall


@dataclass(frozen=True, kw_only=True)
class World:
    """What speakers and systems are drawn from.

    Attributes:
        name: What it stands for.
        sizes: Utterances of each class from every speaker.
        recalls: The recall of each class over all speakers there could be.
        spread: How alike speakers are: their recalls are Beta distributed with this many pseudo-counts.
        interaction: Standard deviation, in logits, of what a system finds easy or hard in a speaker.
        shared: The share of utterances whose outcome is that of the first seed under every seed.
    """

    name: str
    sizes: tuple[int, ...]
    recalls: tuple[float, ...]
    spread: float = 12.0
    interaction: float = 0.0
    shared: float = 0.6

    @property
    def truth(self) -> tuple[float, float, float]:
        """WA, UA and F1 over all speakers there could be, without interaction."""
        recalls, classes = np.array(self.recalls), len(self.recalls)
        matrix = np.where(np.eye(classes) > 0, recalls[:, None], (1 - recalls[:, None]) / (classes - 1))
        matrix = matrix * np.array(self.sizes)[:, None]
        return float(accuracy(matrix)), float(mean_recall(matrix)), float(mean_f1(matrix))

    def draw(
        self, random: np.random.Generator, speakers: int, *, systems: int = 1, seeds: int = 3, gain: float = 0.0
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Draw targets `[N]`, predictions `[systems, seeds, N]` and speakers `[N]`.

        Args:
            random: Where chance comes from.
            speakers: How many.
            systems: How many, all equally good but for `gain`.
            seeds: Of every system.
            gain: Added to the recalls of the first system, in logits.
        """
        classes = len(self.sizes)
        targets = np.tile(np.repeat(np.arange(classes), self.sizes), speakers)
        owners = np.repeat(np.arange(speakers), sum(self.sizes))
        recalls = np.array(self.recalls)
        own = random.beta(self.spread * recalls, self.spread * (1 - recalls), (speakers, classes)).clip(1e-6, 1 - 1e-6)
        logits = np.log(own / (1 - own)) + self.interaction * random.standard_normal((systems, speakers, classes))
        logits[0] += gain
        chances = 1 / (1 + np.exp(-logits))
        luck = random.random((systems, seeds, len(targets)))
        luck = np.where(random.random(luck.shape) < self.shared, luck[:, :1], luck)
        wrong = (targets + random.integers(1, classes, luck.shape)) % classes
        return targets, np.where(luck < chances[:, owners, targets][:, None], targets, wrong), owners


WORLDS = (
    World(name="4 classes, UA 0.66", sizes=(24, 28, 20, 18), recalls=(0.70, 0.60, 0.65, 0.70)),
    World(name="3 unequal classes, UA 0.70", sizes=(24, 12, 6), recalls=(0.80, 0.60, 0.70)),
    World(name="7 classes, UA 0.92", sizes=(12, 8, 5, 7, 7, 8, 6), recalls=(0.95, 0.90, 0.92, 0.93, 0.85, 0.95, 0.97)),
)
