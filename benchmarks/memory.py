"""Peak memory of extraction, each case in a process of its own; and what a cut into windows changes.

    python benchmarks/memory.py CORPUS
    python benchmarks/memory.py CORPUS --cases corpus hour

Without --encoder a HuBERT-base of true size with random weights is written to a temporary folder. Peaks are those of
the resident memory after the encoder is loaded.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from common import describe_machine, show_table, spread_corpus, write_encoder

import embedkit
from embedkit.audio import read_audio
from embedkit.corpora import Corpus
from embedkit.corpora.base import Utterance
from embedkit.encoders import load_encoder
from embedkit.workflows import extract as workflow

CASES: dict[str, list[dict[str, Any]]] = {
    "corpus": [{"times": times} for times in (1, 4, 16)],
    "batch": [{"batch_seconds": seconds} for seconds in (8, 32, 128)],
    "layers": [{"layers": layers} for layers in ("all", "6", "last")],
    "level": [{"level": level, "batch_seconds": 32} for level in ("utterance", "frame")],
    "hour": [{"seconds": seconds} for seconds in (600, 3600)],
    "windows": [{"seconds": 60, "max_seconds": seconds} for seconds in (61, 30, 15, 10)],
}


def main() -> None:
    """Run every case in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--encoder", help="a checkpoint's folder")
    parser.add_argument("--limit", type=int, default=24, help="utterances, evenly spread")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--run", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(measure(options, json.loads(options.run))))
        return
    with tempfile.TemporaryDirectory() as folder:
        encoder = options.encoder or str(write_encoder(Path(folder), "hubert"))
        for name in options.cases:
            rows = []
            for case in CASES[name]:
                out = Path(folder) / f"{len(rows)}.h5"
                found = in_process(options, encoder, case | {"out": str(out)})
                rows.append([", ".join(f"{key} {value}" for key, value in case.items()), *figures(found, out, rows)])
            title = f"{name}: {Path(encoder).name}, {options.precision}; {describe_machine()}"
            show_table(title, ["", "hours", "loaded MB", "peak MB", "seconds", "difference from the first"], rows)


def in_process(options: argparse.Namespace, encoder: str, case: dict[str, Any]) -> dict[str, float]:
    """Measure one case in a fresh interpreter."""
    command = [sys.executable, __file__, options.corpus, "--encoder", encoder, "--limit", str(options.limit)]
    command += ["--precision", options.precision, "--run", json.dumps(case)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def figures(found: dict[str, float], out: Path, rows: list[list[str]]) -> list[str]:
    """Write the cells of one case; the embeddings of the first one are kept in its store beside."""
    first = out.with_name("0.h5")
    difference = ""
    if rows:
        one, other = (embedkit.open_store(path).mean("all") for path in (out, first))
        if one.shape == other.shape:
            difference = f"{np.linalg.norm(one - other) / np.linalg.norm(other):.1e}"
    numbers = [f"{found[key]:.0f}" for key in ("loaded", "peak")]
    return [f"{found['hours']:.2f}", *numbers, f"{found['seconds']:.1f}", difference]


def measure(options: argparse.Namespace, case: dict[str, Any]) -> dict[str, float]:
    """Extract once; return megabytes and seconds."""
    out = Path(case.pop("out"))
    corpus = spread_corpus(options.corpus, options.limit)
    with tempfile.TemporaryDirectory() as folder:
        if "seconds" in case:
            corpus = join_clips(corpus, Path(folder), case.pop("seconds"))
        times = case.pop("times", 1)
        members = [replace(one, id=f"{one.id}-{copy}") for one in corpus.utterances for copy in range(times)]
        corpus = replace(corpus, utterances=tuple(members))
        loaded = {
            precision: load_encoder(options.encoder, precision=precision, layers=case.get("layers", "all"))
            for precision in {options.precision, "fp32"}
        }
        workflow.load_encoder = lambda name, *, precision, **others: loaded[precision]
        before = resident_megabytes()
        with PeakMemory() as memory:
            started = time.perf_counter()
            store = embedkit.extract(
                corpus, encoder=options.encoder, out=out, precision=options.precision, overwrite=True, **case
            )
            seconds = time.perf_counter() - started
        hours = float(store.column("duration").sum()) / 3600
    return {"loaded": before, "peak": memory.megabytes, "seconds": seconds, "hours": hours}


def join_clips(corpus: Corpus, folder: Path, seconds: float) -> Corpus:
    """Write one long file of the corpus's clips, end to end, over and over."""
    clips = [read_audio(corpus.audio_path(one), sampling_rate=16_000) for one in corpus.utterances]
    once = np.concatenate(clips)
    long = np.resize(once, round(seconds * 16_000))
    soundfile.write(folder / "long.flac", long, 16_000)
    return replace(corpus, root=folder, utterances=(Utterance(id="long", path="long.flac", label="speech"),))


class PeakMemory:
    """The largest resident memory while inside, looked at every 5 ms."""

    def __enter__(self) -> PeakMemory:
        self.megabytes = resident_megabytes()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.005):
            self.megabytes = max(self.megabytes, resident_megabytes())


def resident_megabytes() -> float:
    """Return the resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
