"""The report of finished runs, as one HTML file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.errors import RunError
from embedkit.progress import Tell
from embedkit.reporting.report import render_report
from embedkit.writing import require_place, write_file

if TYPE_CHECKING:
    from embedkit.training.runs import RunRecord


def write_report(
    runs: str | Path | Iterable[RunRecord] = "runs",
    out: str | Path = "report.html",
    *,
    audio: bool = False,
    tell: Tell = lambda _: None,
) -> Path:
    """Write all there is to say of runs as one HTML file that needs nothing else.

    Args:
        runs: A folder that holds runs, or what `embedkit.fit` returned.
        out: The file; its folder is made where it is missing.
        audio: Embed short clips of the utterances, as far as their files are what was encoded; see that the corpus's
            licence lets you hand the page on.
        tell: Receives what takes long (the maps of the embeddings), and how many clips play.

    Returns:
        The file.

    Raises:
        RunError: there are no runs, one is damaged, clips cannot be encoded, or the file cannot be written.
    """
    from embedkit.training.runs import find_runs

    folder = str(runs) if isinstance(runs, str | Path) else "runs"
    records = find_runs(runs) if isinstance(runs, str | Path) else list(runs)
    if not records:
        raise RunError("There are no runs to report; train some first: embedkit fit.")
    path, otherwise = Path(out), "choose another --out"
    require_place(path, otherwise=otherwise)
    page = render_report(records, runs=folder, audio=audio, tell=tell)
    write_file(path, page.encode(), otherwise=otherwise)
    return path
