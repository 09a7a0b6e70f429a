"""One thread for each of pytest's processes and all that they start, and a log that is not the user's."""

import os
from collections.abc import Iterator

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Threads that wait for each other cost more.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def _log_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMBEDKIT_LOG_FILE", str(tmp_path_factory.mktemp("log") / "libraries.log"))
        yield
