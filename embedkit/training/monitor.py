"""What the progress bar of a fit shows: heads done, and the best development score so far under each loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np

from embedkit.progress import Progress
from embedkit.training.stacks.stack import Group, GroupResult


class TrainingMonitor:
    """Follows the training of rows of experiments.

    Args:
        total: Heads to be trained in all.
        epochs: The budget of each.
    """

    def __init__(self, total: int, epochs: int) -> None:
        self.total, self.epochs = total, epochs
        self.done = self.begun = 0.0
        self.report: Progress | None = None
        self.track: Callable[[str, float, int], None] | None = None
        self.title, self.score_name = "", ""
        self.scores: dict[str, list[float]] = {}
        self.running: dict[str, list[float]] = {}
        self.lock = Lock()

    def start(self, title: str, score_name: str) -> None:
        """Go on with another row."""
        with self.lock:
            self.title, self.score_name, self.scores, self.running = title, score_name, {}, {}

    def on_stack(self, groups: Sequence[Group], results: Sequence[GroupResult]) -> None:
        """Take note of a finished stack."""
        with self.lock:
            self.done, self.begun, self.running = self.done + _heads(groups), 0.0, {}
            _add(self.scores, groups, results)
            self._tell()
            self._track()

    def on_epoch(self, groups: Sequence[Group], epochs: int, results: Sequence[GroupResult]) -> None:
        """Take note of how far the stack in training is."""
        with self.lock:
            self.begun, self.running = _heads(groups) * epochs / self.epochs, {}
            _add(self.running, groups, results)
            self._tell()
            self._track()

    def _tell(self) -> None:
        if self.report is not None:
            self.report(self.done + self.begun, self.total)

    def _track(self) -> None:
        if self.track is not None:
            for loss, score in self._means().items():
                self.track(loss, score, round(self.done + self.begun))

    def _means(self) -> dict[str, float]:
        """Return the best candidate's development score under each loss, its mean over what is begun."""
        return {
            loss: float(np.mean([*self.scores.get(loss, ()), *self.running.get(loss, ())]))
            for loss in self.scores | self.running
        }

    def note(self) -> str:
        """Return one line: the best development score so far under each loss."""
        with self.lock:
            scores = self._means()
        found = [f"{loss} {in_unit(self.score_name, score)}" for loss, score in scores.items()]
        best = f"best development {shown_name(self.score_name)} so far"
        return f"{self.title}, {best}: {', '.join(found)}" if found else self.title


def _add(scores: dict[str, list[float]], groups: Sequence[Group], results: Sequence[GroupResult]) -> None:
    for group, result in zip(groups, results, strict=True):
        if not len(group.validate):
            continue
        best: dict[str, float] = {}
        for member, own in zip(group.members, result.dev_scores, strict=True):
            best[member.loss.spec] = max(best.get(member.loss.spec, -1.0), float(np.nanmax(own)))
        for loss, score in best.items():
            scores.setdefault(loss, []).append(score)


def _heads(groups: Sequence[Group]) -> int:
    return sum(len(group.members) for group in groups)


def shown_name(score_name: str) -> str:
    """Return what a score is called where users read it; files keep the short name."""
    return "UAR" if score_name == "UA" else score_name


def tell_score(score_name: str, metrics: Mapping[str, Any]) -> str:
    """Write a run's score with its name."""
    unit = " %" if score_name == "UA" else ""
    return f"{shown_name(score_name)} {in_unit(score_name, metrics[score_name.lower()])}{unit}"


def in_unit(score_name: str, value: float) -> str:
    """Write a UA in percent, a CCC as it is."""
    return f"{100 * value:.1f}" if score_name == "UA" else f"{value:.3f}"
