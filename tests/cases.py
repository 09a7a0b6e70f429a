"""Cases that repeat one mechanism: a few for every day, all of them for `.ci/heavy`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def mark_cases(cases: Iterable[Any], everyday: Callable[..., bool]) -> list[Any]:
    """Return cases for `parametrize`, of which those that are not for every day are marked `heavy`."""
    each = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [pytest.param(*case, marks=() if everyday(*case) else pytest.mark.heavy) for case in each]
