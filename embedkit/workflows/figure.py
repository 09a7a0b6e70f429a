"""Figures of finished runs, written as files."""

from __future__ import annotations

from pathlib import Path

from embedkit.errors import RunError
from embedkit.reporting.figures import draw_layers


def write_layer_figures(runs: str | Path = "runs", *, metric: str = "ua", out: str | Path = "figures") -> list[Path]:
    """Write a metric over the layers of every encoder trained with `--layers each`, one SVG each.

    Args:
        runs: The folder that holds the runs.
        metric: "ua", "wa", "f1", "nll", "ece", or "ccc" (the mean over the dimensions).
        out: The folder to write to; made where it is missing, files of the same names are replaced.

    Returns:
        The files.

    Raises:
        RunError: no run of a single layer, or files that cannot be written.
        ConfigError: an unknown metric.
    """
    from embedkit.training.runs import find_runs

    figures = draw_layers([record.metrics for record in find_runs(runs)], metric)
    folder = Path(out)
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, svg in figures.items():
            kept = "".join(letter if letter.isalnum() or letter in "-_+.@=" else "-" for letter in name)
            paths.append(folder / f"{kept}.svg")
            paths[-1].write_text(svg, encoding="utf-8")
    except OSError as error:
        raise RunError(f"Figures cannot be written to {folder} ({error.strerror}); choose another --out.") from error
    return paths
