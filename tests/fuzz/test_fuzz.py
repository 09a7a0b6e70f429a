"""Mutated inputs: every command ends in success or one sentence, and nothing else happens."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.fuzz.conftest import EVERYDAY
from tests.fuzz.trials import KINDS, make_honest, try_case


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_honest(tmp_path_factory.mktemp("honest"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_spoiled_is_used_or_refused(
    honest: Path, tmp_path: Path, kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = request.config.getoption("fuzz", EVERYDAY) // len(KINDS) or 1
    first = request.config.getoption("fuzz_from", 0)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    faults = []
    for number in range(first, first + count):
        faults += [f"{kind} {number}: {fault}" for fault in try_case(honest, tmp_path / "case", kind, number)]
        shutil.rmtree(tmp_path / "case")
    assert not faults, f"{len(faults)} of {count}:\n" + "\n".join(faults[:40])
