"""One thread for each of pytest's processes and all that they start, little of their time for collecting garbage, and a
log that is not the user's."""

import gc
import os
from collections.abc import Iterator

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Threads that wait for each other cost more.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


# Every collection visits all that torch and transformers are: a twentieth of the suite's time.
gc.set_threshold(10_000, 20, 20)


@pytest.fixture
def own_parts_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every `module:Name` for one that the user typed, as the commands and calls do that lead to these tests."""

    class Typed(dict[str, str]):
        def __contains__(self, _: object) -> bool:
            return True

        def __missing__(self, _: str) -> str:
            return os.getcwd()

    monkeypatch.setattr("embedkit.imports._WORD", Typed())


@pytest.fixture(scope="session", autouse=True)
def _log_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMBEDKIT_LOG_FILE", str(tmp_path_factory.mktemp("log") / "libraries.log"))
        yield
