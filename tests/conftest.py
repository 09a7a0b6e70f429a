"""One thread for each of pytest's processes and all that they start: threads that wait for each other cost more."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
