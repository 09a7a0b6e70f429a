"""Tell another program how heads learn, while they do: one contract, which TensorBoard and the user's own implement."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from embedkit.errors import FitError
from embedkit.registry import Part, Registry
from embedkit.training.runs import RunRecord

TRACKERS = Registry(
    "tracker", [("tensorboard", Part("embedkit.training.tensorboard:TensorBoard", "TensorBoard", extra="tensorboard"))]
)

_logger = logging.getLogger("embedkit")


class Tracker(Protocol):
    """What `--track` calls; a class of one's own is built with the folder of the runs.

    An experiment is known by its name and the end of its run's folder, such as "demo mfcc, linear, ce (ae97403c)".
    """

    def start(self, name: str, config: Mapping[str, Any]) -> None:
        """Begin an experiment; `config` is what its run will hold as `config.json`."""

    def log(self, name: str, scores: Mapping[str, float], step: int) -> None:
        """Take scores: while heads train by the number of finished heads, of a finished run by epoch."""

    def finish(self, name: str, metrics: Mapping[str, Any]) -> None:
        """End an experiment; `metrics` is what its run holds as `metrics.json`."""

    def close(self) -> None:
        """End everything, also where training ended early."""


class Trackers:
    """Passes on to trackers what they are to know; one that fails is told of, and left alone from then on.

    Args:
        names: Names of `TRACKERS`, or `module:Name`.
        runs: The folder of the runs.

    Raises:
        FitError: one cannot be built.
        UnknownNameError, CodeError: one that there is not, or without the user's word.
    """

    def __init__(self, names: Sequence[str], runs: Path) -> None:
        self.own: dict[str, Tracker] = {}
        for name in names:
            build = TRACKERS.load(name)
            try:
                self.own[name] = build(runs)
            except FitError:
                raise
            except Exception as error:
                raise FitError(
                    f"--track {name} cannot be started ({type(error).__name__}: {error}); correct it, or leave it out."
                ) from error

    def tell(self, what: str, *arguments: Any) -> None:
        """Call a method of every tracker."""
        for name, tracker in list(self.own.items()):
            try:
                getattr(tracker, what)(*arguments)
            except Exception as error:
                del self.own[name]
                _logger.warning(
                    "Tracking by %s ends, training goes on: %s failed (%s: %s).",
                    name,
                    what,
                    type(error).__name__,
                    error,
                )

    def finish(self, name: str, record: RunRecord) -> None:
        """Tell of a finished run: its learning curves, means over seeds by epoch, and its metrics."""
        if not self.own:
            return
        curves = record.load_curves() or {}
        for key, label in (("loss", "training loss"), ("dev", f"development {curves.get('score', '')}")):
            for epoch, values in enumerate(zip(*curves.get(key, ()), strict=False), 1):
                known = [value for value in values if value is not None]
                if known:
                    self.tell("log", name, {label: sum(known) / len(known)}, epoch)
        self.tell("finish", name, record.metrics)
