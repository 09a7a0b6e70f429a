"""Cite: the references of what a run is made of."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from embedkit.arguments import checked
from embedkit.reporting.references import Citations, find_citations

if TYPE_CHECKING:
    from embedkit.training.runs import RunRecord


@checked("embedkit.cite")
def cite_run(run: str | os.PathLike[str] | RunRecord) -> Citations:
    """Find what is cited for a run: its corpus, encoder, head and loss, and what its statistics rest on.

    Args:
        run: A run's folder, or its record.

    Returns:
        The references; `print` shows them as BibTeX, with the parts for which none is known.

    Raises:
        RunError: there is no run, or it is damaged.
    """
    if isinstance(run, str | os.PathLike):
        from embedkit.training.runs import read_run

        run = read_run(os.fspath(run))
    return find_citations(run.config, run.metrics)
