"""The report of finished runs, as one HTML file."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.errors import RunError
from embedkit.progress import Tell
from embedkit.reporting.report import render_report
from embedkit.system import replace

if TYPE_CHECKING:
    from embedkit.training.runs import RunRecord


def write_report(
    runs: str | Path | Iterable[RunRecord] = "runs",
    out: str | Path = "report.html",
    *,
    tell: Tell = lambda _: None,
) -> Path:
    """Write all there is to say of runs as one HTML file that needs nothing else.

    Args:
        runs: A folder that holds runs, or what `embedkit.fit` returned.
        out: The file; its folder is made where it is missing.
        tell: Receives what takes long: the maps of the embeddings.

    Returns:
        The file.

    Raises:
        RunError: there are no runs, one is damaged, or the file cannot be written.
    """
    from embedkit.training.runs import find_runs

    folder = str(runs) if isinstance(runs, str | Path) else "runs"
    records = find_runs(runs) if isinstance(runs, str | Path) else list(runs)
    if not records:
        raise RunError("There are no runs to report; train some first: embedkit fit.")
    path = Path(out)
    page = render_report(records, runs=folder, tell=tell)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(page, encoding="utf-8", newline="\n")
        replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise RunError(f"The report {path} cannot be written ({error.strerror}); choose another --out.") from error
    return path
