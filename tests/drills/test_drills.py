"""A few of the drills, each once; `.ci/drills` holds them all, at many moments."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

pytest.importorskip("resource", reason="Windows has neither process groups nor these limits")

from tests.drills.drills import hold
from tests.drills.ground import Ground, Running, environment
from tests.warm import WarmProcess

EVERYDAY = [
    ("kill -9", "fit"),
    ("Ctrl-C twice", "extract"),
    ("recycled process id", "extract"),
    ("half-deleted run", "fit one run"),
]


def start_warm(command: list[str], folder: Path, said: BinaryIO) -> WarmProcess:
    return WarmProcess(command, folder, environment(folder.parent), Path(said.name))


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Running, "start", staticmethod(start_warm))
        yield Ground(tmp_path_factory.mktemp("drills"))


@pytest.mark.slow
@pytest.mark.parametrize(("drill", "command"), EVERYDAY)
def test_the_same_command_makes_what_it_makes_undisturbed(ground: Ground, drill: str, command: str) -> None:
    assert not hold(ground, drill, command, random.Random(f"{drill} {command} 0"))
