"""What makes a run the one it is: every option that is not marked as leaving the numbers as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from embedkit.options.fit import FitOptions
from embedkit.options.option import Declared, declared

TUNING = {"clip": 1.0}
"""What runs say of the training of their encoder beside the options: the largest norm of its gradient."""


def record_options(options: FitOptions) -> dict[str, Any]:
    """Return what a run's configuration holds of its options, beside what the experiment makes of some.

    An option that came later is written only where it is not the default: without it a run is as runs were before.
    """
    kept: dict[str, Any] = {"tuning": {"mode": options.mode, **TUNING}} if options.tuned else {}
    for name, one in declared(FitOptions).items():
        value = getattr(options, name)
        place = one.told.record
        applies = not one.told.modes or options.tuned
        if place is None or one.told.resolved or not applies or not (one.told.always or value != one.default):
            continue
        *folders, last = place.split(".")
        inner = kept
        for folder in folders:
            inner = inner.setdefault(folder, {})
        inner[last] = list(value) if isinstance(value, tuple) else value
    return kept


def read_options_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a run, from what its configuration holds: those that are there."""
    found = {}
    for name, one in declared(FitOptions).items():
        value = _find(config, one)
        if value is not None:
            found[name] = value
    return found


def _find(config: Any, one: Declared) -> Any:
    value: Any = config
    for part in (one.told.record or "").split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if value in (None, [], {}) or one.told.record in (None, "store_fingerprint"):
        return None
    if one.name == "layers":
        return "each"
    if one.name == "seeds":
        return len(value)
    return (tuple(value) if isinstance(value, list) else (value,)) if one.kind is tuple else value
