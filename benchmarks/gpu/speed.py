"""Part 2: how near extraction comes to what the device can multiply, and how far ahead it is of plain loops."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import soundfile
import torch
from common import Extraction, Loop, Timing, grouped, median, spread_corpus

from embedkit.corpora import Corpus
from embedkit.encoders import load_encoder
from embedkit.encoders.precision import DTYPES
from embedkit.extraction.pooling import Pool
from gpu.targets import IDLE, LOOP, SHARE
from gpu.work import Bench, count_operations, depth_of, lengths_of, peak_memory, watch, width_of

ENCODERS = ("hubert", "hubert-large", "whisper-base", "emotion2vec", "w2v-bert")
LARGEST_STORE = 2e9
FRAMES_PER_SECOND = 50


class Case(NamedTuple):
    """What is extracted: from which encoder, at which precision and level, which layers of how many."""

    name: str
    precision: str
    level: str
    layers: str
    kept: int
    run: int


def run(bench: Bench) -> None:
    """Time extraction, and beside it the loops people write."""
    kinds = ("fp32", "bf16") if bench.device == "cpu" else ("fp32", "bf16", "fp16")
    rates = [{"": kind, "TFLOP/s": bench.rate(kind) / 1e12} for kind in kinds]
    bench.report.table("Large matrix products, the measured rate (fp32 without TF32)", rows=rates)
    rows, tops = [], []
    for name in ENCODERS:
        loops: dict[str, float] = {}
        with bench.report.trying(f"loops, {name}"):
            found = time_loops(bench, name)
            loops = {precision: row["x real time"] for (precision, size), row in found.items() if size == 1}
            rows += found.values()
        for case in cases_of(bench, name):
            with bench.report.trying(f"extraction, {' '.join(map(str, case))}"):
                row, top = time_extraction(bench, case, loops)
                rows.append(row)
                tops += top
                if (case.precision, case.level) == ("bf16", "utterance"):
                    for kind, column in ((SHARE, "share of rate"), (LOOP, "to one-file loop"), (IDLE, "idle")):
                        bench.report.found["measured"][f"{name} {kind}"] = row[column]
    bench.report.table(
        "Extraction, all of it, beside plain transformers (Whisper there at its 30 s); x real time is hours of audio "
        "an hour; the share is of the measured rate, for operations on the clips' own samples",
        rows,
    )
    bench.report.table("What the device's time goes to", tops)


def cases_of(bench: Bench, name: str) -> list[Case]:
    """List what is timed of one encoder."""
    depth = depth_of(bench.encoder(name))
    middle = depth // 2
    return [
        Case(name, "fp32", "utterance", "all", depth + 1, depth),
        Case(name, "bf16", "utterance", "all", depth + 1, depth),
        Case(name, "bf16", "frame", str(middle), 1, middle),
        Case(name, "bf16", "frame", "all", depth + 1, depth),
    ]


def time_extraction(
    bench: Bench, case: Case, loops: Mapping[str, float]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Time one case, then watch a part of it."""
    folder = bench.encoder(case.name)
    corpus = _sized(bench, case)
    options: dict[str, Any] = {"device": bench.device, "layers": case.layers, "level": case.level}
    extraction = Extraction(corpus, folder, bench.work, case.precision, **options)
    extraction.corpus = replace(corpus, utterances=corpus.utterances[:64])
    extraction.extract()
    extraction.corpus = corpus
    runs, bare = [], []
    with peak_memory(bench.device) as memory:
        for _ in range(bench.runs if case.level == "utterance" else 1):
            runs.append(extraction.run())
            bare.append(extraction.repeat_passes())
    seconds = median(one.seconds for one in runs)
    operations = sum(count_operations(folder, length, case.run).forward for length in lengths_of(corpus))
    extraction.corpus = replace(corpus, utterances=corpus.utterances[: max(8, len(corpus.utterances) // 4)])
    idle, top = watch(bench.device, extraction.extract)
    speed = runs[0].audio / seconds
    row = {
        "": f"embedkit, {case.name}, {case.precision}, {case.level}, layers {case.layers}",
        "audio s": runs[0].audio,
        "seconds": seconds,
        "x real time": speed,
        "to one-file loop": speed / loops[case.precision] if case.precision in loops else math.nan,
        "share of rate": bench.share(operations, seconds, case.precision),
        "idle": idle,
        "bare passes / all": median(one.seconds for one in bare) / seconds,
        "padding": runs[0].padding,
        **memory,
    }
    extraction.out.unlink()
    return row, [{"": f"{case.name}, {case.precision}, {case.level}", "share": part, "what": n[:90]} for n, part in top]


def time_loops(bench: Bench, name: str) -> dict[tuple[str, int], dict[str, Any]]:
    """Time plain transformers on some of the files: one by one, and in padded batches of 8 in file order."""
    corpus = spread_corpus(bench.corpus, 12 if bench.small else 200)
    folder = bench.encoder(name)
    operations = sum(count_operations(folder, length).forward for length in lengths_of(corpus))
    found = {}
    for precision, size in (("fp32", 1), ("bf16", 1), ("bf16", 8)):
        with peak_memory(bench.device) as memory:
            # transformers has no emotion2vec: there its passes in embedkit stand for the loop.
            own = name == "emotion2vec"
            loop: Any = (
                PassLoop(folder, precision, bench.device) if own else Loop(folder, DTYPES[precision], bench.device)
            )
            loop.run(spread_corpus(corpus, 16), size)
            one = loop.run(corpus, size)
        way = "file by file" if size == 1 else f"batches of {size} in file order"
        found[precision, size] = {
            "": f"{'embedkit' if own else 'transformers'}, {name}, {precision}, {way}",
            "audio s": one.audio,
            "seconds": one.seconds,
            "x real time": one.audio / one.seconds,
            "to one-file loop": 1.0 if size == 1 else found[precision, 1]["seconds"] / one.seconds,
            "share of rate": bench.share(operations, one.seconds, precision),
            "idle": math.nan,
            "bare passes / all": math.nan,
            "padding": math.nan,
            **memory,
        }
    return found


class PassLoop:
    """A loop over files in their order by an encoder of embedkit."""

    def __init__(self, folder: str, precision: str, device: str) -> None:
        self.encoder = load_encoder(folder, device=device, precision=precision)

    def run(self, corpus: Corpus, size: int) -> Timing:
        """Time one pass over the corpus in batches of so many files."""
        timing = Timing()
        for batch in grouped([corpus.audio_path(utterance) for utterance in corpus.utterances], size):
            clips = [torch.from_numpy(soundfile.read(path, dtype="float32")[0]) for path in batch]
            timing.audio += sum(map(len, clips)) / self.encoder.sampling_rate
            pool = Pool()
            self.encoder.encode(clips, pool)
            pool.rows()
        timing.stop()
        return timing


def _sized(bench: Bench, case: Case) -> Corpus:
    """Return as much audio as makes a store of bearable size."""
    seconds = 3600 * bench.hours * (0.25 if case.precision == "fp32" else 1.0)
    if case.level == "frame":
        by_second = 2 * FRAMES_PER_SECOND * case.kept * width_of(bench.encoder(case.name))
        seconds = min(seconds, LARGEST_STORE / by_second)
    return bench.of_seconds(seconds)
