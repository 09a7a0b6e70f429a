"""The whole way on the built-in synthetic corpus, in minutes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from embedkit.errors import ConfigError
from embedkit.progress import Progress, Tell
from embedkit.reporting.table import Table

ENCODERS = ("mfcc", "logmel")
HEADS = ("linear", "mlp:hidden=64")
TINY = "tiny-random"
"""A transformer, made by the demo: libraries that do not work together show in the first minute."""
REPORT = "report.html"
OWN = ("embeddings", "encoders", "runs", REPORT)


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What the demo made.

    Attributes:
        table: Its table.
        folder: Where stores and runs lie.
        seconds: How long each step took.
        run: The run with the best UA.
        report: The page that shows all there is to say of the runs.
    """

    table: Table
    folder: Path
    seconds: Mapping[str, float]
    run: Path
    report: Path

    @property
    def closing_words(self) -> str:
        """Say how long it took and what to do next."""
        steps = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in self.seconds.items())
        return (
            f"Done: {steps}. Stores and runs are kept in {self.folder}.\n"
            f"The report {self.report} holds tables, figures and maps of these runs; open it in a browser, or by\n"
            f"  embedkit report {self.folder / 'runs'} --out {self.report} --open\n"
            f"The weights of {TINY} are random: its row shows that transformers run here, and its number nothing.\n"
            "Next, with these:\n"
            f"  embedkit table {self.folder / 'runs'} --metric all\n"
            f"  embedkit inspect {self.folder / 'embeddings' / 'demo' / f'{ENCODERS[0]}.h5'}\n"
            f"  embedkit predict {self.run} YOUR.wav\n"
            "or with a corpus of your own:\n"
            "  embedkit extract path/to/corpus --encoder mfcc\n"
            "  embedkit fit --loss all\n"
            "  embedkit table"
        )


def run_demo(
    out: str | Path = "embedkit-demo",
    *,
    progress: Progress | bool | None = False,
    tell: Tell = lambda _: None,
) -> DemoResult:
    """Run a study on the demo corpus; what is already there is not done again.

    Args:
        out: Folder to work in; it may be missing, empty, or one that the demo made.
        progress: Called with work done and in all; True shows bars, None ones on a terminal.
        tell: Called with what a user should know.

    Raises:
        ConfigError: the folder holds other things.
        EncoderError: transformers cannot be used.
    """
    folder = Path(out)
    _require_own(folder)
    from embedkit.encoders.tiny import write_tiny_random
    from embedkit.workflows.report import write_report
    from embedkit.workflows.study import run_study
    from embedkit.workflows.table import tabulate_runs

    # Both studies would tell what there is to know of the corpus.
    tell = cache(tell)
    stores, runs = folder / "embeddings", folder / "runs"
    run = partial(run_study, "demo", stores=stores, runs=runs, progress=progress, tell=tell)
    tiny = folder / "encoders" / TINY
    write_tiny_random(tiny)
    trial = run(encoder=str(tiny), head=HEADS[0], loss="ce", foresee=False)
    study = run(encoder=ENCODERS, head=HEADS, loss="all")
    start = time.monotonic()
    report = write_report(runs, folder / REPORT, tell=tell)
    seconds = {step: seconds + trial.seconds[step] for step, seconds in study.seconds.items()}
    best = max(study.records, key=lambda record: record.metrics["ua"])
    return DemoResult(
        table=tabulate_runs([*study.records, *trial.records]),
        folder=folder,
        seconds={**seconds, "report": time.monotonic() - start},
        run=best.folder,
        report=report,
    )


def _require_own(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{str(folder)!r} is a file; give a folder for the demo to work in: --out FOLDER.")
    others = sorted(path.name for path in folder.iterdir() if path.name not in OWN) if folder.exists() else []
    if others:
        raise ConfigError(
            f"The folder {str(folder)!r} holds {others[0]!r}, which is not the demo's; give an empty one: --out FOLDER."
        )
