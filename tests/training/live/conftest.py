"""A corpus of noises, and checkpoints that still encoders are read from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.live.noises import SMALL_VGGISH, write_noises, write_still_checkpoints


@pytest.fixture(autouse=True)
def _small_vggish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedkit.encoders.vggish.VggishShape", lambda: SMALL_VGGISH)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_noises(tmp_path_factory.mktemp("speech"))


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_still_checkpoints(tmp_path_factory.mktemp("checkpoints"))
