"""Runs as calls of the library return them."""

from __future__ import annotations

from typing import Any

from embedkit.reporting.records import as_frame
from embedkit.training.runs import Runs


class Results(Runs):
    """A list of runs that is also a table."""

    def to_frame(self) -> Any:
        """Return a data frame of pandas: a row for each run, the columns of `embedkit table --format csv`.

        Raises:
            RunError: pandas is not installed (extra `tables`).
        """
        return as_frame([record.metrics for record in self])
