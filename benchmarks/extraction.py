"""The speed of extraction beside what people write by hand, each alternative timed in the same run.

    python benchmarks/extraction.py CORPUS
    python benchmarks/extraction.py CORPUS --encoder WHISPER_FOLDER
    python benchmarks/extraction.py CORPUS --batch-seconds 2 4 8 16 32
    python benchmarks/extraction.py CORPUS --overhead --limit 535

Without --encoder a HuBERT-base of true size with random weights is written to a temporary folder. The whole of
`extract` is timed (decode, resample, plan, batch, forward, pool, write), less the time in which models are loaded;
the alternatives decode and pool as well, and write nothing.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from common import Extraction, Loop, Timing, describe_machine, median, show_table, spread_corpus, write_encoder

from embedkit.corpora import Corpus

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def main() -> None:
    """Time the alternatives, or embedkit alone under several batch sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--encoder", help="a checkpoint's folder")
    parser.add_argument("--limit", type=int, default=96, help="utterances, evenly spread")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--batch-seconds", nargs="+", type=float, help="compare batch sizes instead")
    parser.add_argument("--overhead", action="store_true", help="embedkit alone, beside its bare forward passes")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    corpus = spread_corpus(options.corpus, options.limit)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        encoder = options.encoder or str(write_encoder(work, "hubert"))
        if options.batch_seconds:
            compare_batches(corpus, encoder, work, options)
        elif options.overhead:
            measure_overhead(corpus, encoder, work, options)
        else:
            compare_alternatives(corpus, encoder, work, options)


def compare_alternatives(corpus: Corpus, encoder: str, work: Path, options: argparse.Namespace) -> None:
    """Time loops over files, padded batches, and embedkit."""
    ways: dict[str, Callable[[], Timing]] = {}
    for precision in options.precisions:
        loop = Loop(encoder, PRECISIONS[precision])
        ways[f"transformers, file by file, {precision}"] = lambda loop=loop: loop.run(corpus, 1)
        ways[f"embedkit, {precision}"] = Extraction(corpus, encoder, work, precision).run
    batched = Loop(encoder, torch.float32)
    ways["transformers, batches of 8 in file order, fp32"] = lambda: batched.run(corpus, 8)
    timings: dict[str, list[Timing]] = {name: [] for name in ways}
    for _ in range(options.runs):
        for name, way in ways.items():
            timings[name].append(way())
        show_timings(corpus, encoder, timings)


def measure_overhead(corpus: Corpus, encoder: str, work: Path, options: argparse.Namespace) -> None:
    """Time embedkit and its bare forward passes in turn, one precision after the other.

    The passes run one after the other, each on all threads, as a loop over them would; and side by side, each on one
    thread, as embedkit runs them.

    A first extraction is not counted: whoever passes first over batches pays for memory and for kernels that are made
    for their shapes.
    """
    for precision in options.precisions:
        whole = Extraction(corpus, encoder, work, precision)
        whole.run()
        ways = {
            f"embedkit, {precision}": whole.run,
            f"bare forward passes, {precision}": whole.repeat_passes,
            f"the same side by side, {precision}": partial(whole.repeat_passes, options.threads),
        }
        timings: dict[str, list[Timing]] = {name: [] for name in ways}
        for _ in range(options.runs):
            for name, way in ways.items():
                timings[name].append(way())
        show_timings(corpus, encoder, timings)


def compare_batches(corpus: Corpus, encoder: str, work: Path, options: argparse.Namespace) -> None:
    """Time embedkit under several batch sizes."""
    ways = {
        f"{precision}, {seconds:g} s": Extraction(corpus, encoder, work, precision, batch_seconds=seconds)
        for precision in options.precisions
        for seconds in options.batch_seconds
    }
    timings: dict[str, list[Timing]] = {name: [] for name in ways}
    for _ in range(options.runs):
        for name, way in ways.items():
            timings[name].append(way.run())
    show_timings(corpus, encoder, timings)


def show_timings(corpus: Corpus, encoder: str, timings: dict[str, list[Timing]]) -> None:
    """Print medians, and ratios taken within each run."""
    first = next(iter(timings.values()))
    audio = next(timing.audio for runs in timings.values() for timing in runs if timing.audio)
    rows = []
    for name, runs in timings.items():
        ratio = median(one.seconds / other.seconds for one, other in zip(first, runs, strict=True))
        bare = timings.get(name.replace("embedkit,", "bare forward passes,"))
        over = ""
        if bare and bare is not runs:
            pairs = list(zip(runs, bare, strict=True))
            over = f"{median(one.seconds / other.seconds for one, other in pairs):.3f}"
            over += f" ({median(one.processor / other.processor for one, other in pairs):.3f} CPU)"
        error = ""
        if runs[0].means is not None and first[0].means is not None and runs is not first:
            error = f"{np.linalg.norm(runs[0].means - first[0].means) / np.linalg.norm(first[0].means):.1e}"
        seconds = median(timing.seconds for timing in runs)
        padding = f"{runs[0].padding:.1%}" if runs[0].padding else ""
        work = median(one.processor / other.processor for one, other in zip(first, runs, strict=True))
        rows.append(
            [name, f"{seconds:.2f}", f"{audio / seconds:.1f}", f"{ratio:.2f}", f"{work:.2f}", over, padding, error]
        )
    title = (
        f"{Path(encoder).name}, {corpus.name}, {len(corpus.utterances)} utterances, {audio:.0f} s; medians of "
        f"{len(first)} run(s); {describe_machine()}"
    )
    columns = ["", "seconds", "x real time", "x first row", "by CPU time", "/ bare passes", "padding", "difference"]
    show_table(title, columns, rows)


if __name__ == "__main__":
    main()
