"""A few of the drills, each once; `.ci/drills` holds them all, at many moments."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("resource", reason="Windows has neither process groups nor these limits")

from tests.drills.drills import DRILLS, hold
from tests.drills.ground import Ground

EVERYDAY = [
    ("kill -9", "fit"),
    ("kill -9 at a byte", "finetune"),
    ("Ctrl-C twice", "extract"),
    ("SIGHUP", "fit"),
    ("ulimit -v", "fit"),
    ("recycled process id", "extract"),
    ("half-deleted run", "fit one run"),
    ("store replaced", "fit"),
    ("five processes on one store", "extract"),
    ("two studies on one folder", "study"),
]


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground(tmp_path_factory.mktemp("drills"))


@pytest.mark.slow
@pytest.mark.parametrize(("drill", "command"), EVERYDAY)
def test_the_same_command_makes_what_it_makes_undisturbed(ground: Ground, drill: str, command: str) -> None:
    assert not hold(ground, drill, command, random.Random(f"{drill} {command} 0"))


def test_every_drill_is_held() -> None:
    # The workers of Ray are killed in tests/extraction/engines.
    assert {drill for drill, _ in EVERYDAY} == DRILLS.keys() - {"kill -9 of a worker"}
    assert all(command in DRILLS[drill][1] for drill, command in EVERYDAY)
