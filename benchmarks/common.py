"""What the benchmarks share: a corpus, a checkpoint of true size, a table, and what they ran on."""

from __future__ import annotations

import multiprocessing
import os
import platform
import resource
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from embedkit.corpora import Corpus, open_corpus


@dataclass(frozen=True)
class Outcome:
    """Heads trained, seconds, mean test UA over the heads compared, peak memory in MB, and what else was timed."""

    heads: int
    seconds: float
    ua: float
    peak: float = 0.0
    parts: Mapping[str, float] = field(default_factory=dict)


def spread_corpus(path: str, limit: int | None) -> Corpus:
    """Open a corpus; take only so many utterances, evenly spread, in its own order."""
    corpus = open_corpus(path)
    count = len(corpus.utterances)
    if limit is None or limit >= count:
        return corpus
    return replace(corpus, utterances=tuple(corpus.utterances[index * count // limit] for index in range(limit)))


def write_hubert(folder: Path) -> Path:
    """Write a HuBERT-base of true size with random weights: speed and memory do not depend on the weights."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    transformers.HubertModel(transformers.HubertConfig()).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table; every column but the first holds numbers."""
    table = Table()
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console = Console(width=None if os.isatty(1) else 140)
    console.print(title, highlight=False, markup=False)
    console.print(table)


def describe_machine() -> str:
    """Name the processor, the threads and the versions that the numbers depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "h5py", "numpy"))
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (
        f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
        f"{load}; Python {platform.python_version()}, {packages}"
    )


def median(values: Iterable[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def run_apart(way: Callable[..., Outcome], *arguments: Any, **settings: Any) -> Outcome:
    """Run in a fresh process and add the peak memory of the largest process there was."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure, way, arguments, settings).result()


def _measure(way: Callable[..., Outcome], arguments: tuple[Any, ...], settings: dict[str, Any]) -> Outcome:
    one = way(*arguments, **settings)
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(who).ru_maxrss for who in whose) / 1000
    return replace(one, peak=peak)
