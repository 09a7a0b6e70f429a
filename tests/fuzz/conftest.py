"""How many cases are tried: `pytest tests/fuzz --fuzz 5000`."""

from __future__ import annotations

import pytest

EVERYDAY = 48
"""Cases of all kinds together."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz", type=int, default=EVERYDAY, help="mutated inputs of all kinds together")
    parser.addoption("--fuzz-from", type=int, default=0, help="number of the first one of each kind")
