"""A study in parts, for the jobs of an array: which part does what, agreed on once for all of them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from embedkit.errors import ConfigError, RunError
from embedkit.received import read_object
from embedkit.training.runs import UNFINISHED, digest_of
from embedkit.writing import new_temporary

FILE = "parts.json"


@dataclass(frozen=True)
class Part:
    """One of so many parts, counted from 1."""

    number: int
    count: int

    @classmethod
    def read(cls, text: str, where: str = "--part") -> Part:
        """Read `3/8`.

        Raises:
            ConfigError: it is no part of so many.
        """
        number, slash, count = text.partition("/")
        digits = all(one.isascii() and one.isdigit() and len(one) < 6 for one in (number, count))
        if not (slash and digits and 1 <= int(number) <= int(count)):
            raise ConfigError(f"{where} is {text!r}, expected a number and a count such as 3/8, the number from 1 on.")
        return cls(int(number), int(count))

    def __str__(self) -> str:
        return f"{self.number} of {self.count}"


@dataclass(frozen=True)
class Unit:
    """What one part does as a whole.

    Attributes:
        name: What to call it.
        store: What it reads, which one of those that read it has to make: the others wait for it.
        seconds: How long it takes.
        before: How long the store takes that is not there yet.
    """

    name: str
    store: str
    seconds: float = 1.0
    before: float = 0.0


def deal(units: Sequence[Unit], count: int) -> Iterator[tuple[Unit, int, float]]:
    """Deal units into parts that take about equally long.

    The longest one first, each to the part that would be done with it first (Graham 1969); a store costs each part that
    reads it once, whether it makes the store or waits for it.

    Args:
        units: What there is to do.
        count: How many parts there are.

    Yields:
        Each unit, its part from 1, and the seconds that it adds to the part.
    """
    loads, known = [0.0] * count, [set[str]() for _ in range(count)]
    for unit in sorted(units, key=lambda unit: (-unit.seconds - unit.before, unit.name)):
        costs = [unit.seconds + (0.0 if unit.store in stores else unit.before) for stores in known]
        chosen = min(range(count), key=lambda part: loads[part] + costs[part])
        loads[chosen] += costs[chosen]
        known[chosen].add(unit.store)
        yield unit, chosen + 1, costs[chosen]


def agreements(runs: Path, study: object) -> Path:
    """Return where the parts of a study agree: a folder of this name for each number of parts.

    Args:
        runs: The folder of runs, which all parts share.
        study: What sets this study apart from others, as JSON can hold it.
    """
    return runs / UNFINISHED / f"study-{digest_of(study)}"


def forget(place: Path) -> None:
    """Remove all agreements of a study that is done."""
    for folder in place.parent.glob(f"{place.name}-*"):
        shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        place.parent.rmdir()


def agree(place: Path, part: Part, names: Sequence[str], measure: Callable[[], list[Unit]]) -> tuple[list[str], float]:
    """Return what a part does, as the first part dealt it for all that start beside it or later.

    Args:
        place: See `agreements`.
        part: Which one of how many.
        names: Of all units.
        measure: Says how long the units take; called where no part has dealt them yet.

    Returns:
        The names of the part's units, and its seconds, stores included.

    Raises:
        RunError: what is there cannot be read, or nothing can be written.
    """
    folder = place.with_name(f"{place.name}-{part.count}")
    if not (folder / FILE).is_file():
        told = {unit.name: (number, seconds) for unit, number, seconds in deal(measure(), part.count)}
        with new_temporary(folder) as made:
            (made / FILE).write_text(json.dumps(told, indent=1), encoding="utf-8", newline="\n")
            # A folder does not take the place of one that holds something: the first part to come here decides.
            with suppress(OSError):
                os.rename(made, folder)
    try:
        found = read_object(folder / FILE)
        own = [name for name in names if int(found[name][0]) == part.number]
        return own, sum(float(found[name][1]) for name in own)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise RunError(
            f"{folder / FILE} does not say which part does what ({error}); remove it, and start all parts again."
        ) from error
