"""A hundred times more speech: time, memory and bytes read of every command by the number of utterances.

    python benchmarks/scaling.py --folder /tmp/scaling --sizes 1000 10000
    python benchmarks/scaling.py --folder /tmp/scaling --sizes 100000 --steps open inspect fit fit-streamed
    python benchmarks/scaling.py --folder /tmp/scaling --show
    python benchmarks/scaling.py --folder /tmp/scaling --sizes 25000 --budgets 32:30 64:24 128:12
    python benchmarks/scaling.py --folder /tmp/scaling --sizes 1000 --parts 3

Stores are synthetic: utterance means of 13 layers of 768, and frames of one layer for 10,000. Their deviations are
zero and take no room on the disk; from `--hollow` utterances on only one layer of the means is not zero, which is for
commands that read no embeddings. Speech is noise of a third of a second. Runs are of five losses under three seeds,
and every utterance is tested. Every command is a process of its own, its files not in the page cache.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from common import describe_machine, show_table, write_encoder

from embedkit.encoders.tiny import write_tiny_random
from embedkit.store import StoreContent, UtteranceEmbedding, writer
from embedkit.writing import write_file

LAYERS, DIMENSIONS = 13, 768
LABELS = ("anger", "happiness", "neutral", "sadness")
SEPARATION = 0.06
"""By which classes lie apart in one layer, in standard deviations of a dimension."""
FRAMES = 100
SECONDS, RATE = 1 / 3, 16_000

Command = Callable[[Path, int], list[str]]


def main() -> None:
    """Measure the steps at every size, or show what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="what is written lies here; found.jsonl is kept")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000], help="utterances")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--hollow", type=int, default=200_000)
    parser.add_argument("--budgets", nargs="+", metavar="BATCH:EPOCHS", help="instead: what budgets of training reach")
    parser.add_argument("--heads", nargs="+", default=["linear"], help="of --budgets")
    parser.add_argument("--parts", type=int, help="instead: a study of six small encoders in so many parts")
    parser.add_argument("--keep", action="store_true", help="keep what was written")
    parser.add_argument("--show", action="store_true", help="measure nothing")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    found = options.folder / "found.jsonl"
    for count in () if options.show else options.sizes:
        place = options.folder / str(count)
        place.mkdir(exist_ok=True)
        if options.budgets:
            compare_budgets(place, count, options.budgets, options.heads)
            continue
        if options.parts:
            study_in_parts(place, count, options.parts)
            continue
        for step in options.steps:
            needed, command = STEPS[step]
            for name in needed:
                WRITERS[name](place, count, options.hollow)
            result = {"step": step, "utterances": count, **measure(command(place, count), place)}
            del result["said"]
            with found.open("a") as file:
                file.write(json.dumps(result) + "\n")
            print(json.dumps(result), flush=True)
        if not options.keep:
            shutil.rmtree(place)
    if not (options.budgets or options.parts):
        show(found)


def study_in_parts(place: Path, count: int, parts: int) -> None:
    """Run a study of six encoders part after part, on one thread; show what it forecast and what it took."""
    write_speech(place, count, count + 1)
    small = {"num_hidden_layers": 4, "hidden_size": 192, "num_attention_heads": 4, "intermediate_size": 768}
    whisper = {"encoder_layers": 3, "d_model": 192, "encoder_attention_heads": 4, "encoder_ffn_dim": 768}
    sizes = {"wav2vec2": small, "hubert": {**small, "num_hidden_layers": 8}, "wavlm": small, "whisper-base": whisper}
    encoders = ["mfcc", "logmel", *(str(write_encoder(place, name, **own)) for name, own in sizes.items())]
    budget = ["--head", "linear", "--folds", "split", "--seeds", "1", "--epochs", "10", "--threads", "1"]
    command = ["-m", "embedkit", "study", "speech.csv", "--encoder", ",".join(encoders), *budget]
    rows = []
    for part in range(1, parts + 1):
        found = measure([*command, "--part", f"{part}/{parts}"], place)
        print(found.pop("said"), found, sep="\n", flush=True)
        if part == 1:
            (agreed,) = place.rglob("parts.json")
            loads = [0.0] * parts
            for own, seconds in json.loads(agreed.read_text()).values():
                loads[own - 1] += seconds
        rows.append([f"{part} of {parts}", f"{loads[part - 1]:.0f}", *(found[key] for key in ("seconds", "processor"))])
    found = measure(command, place)
    print(found.pop("said"), found, sep="\n", flush=True)
    rows.append(["without a part", "", found["seconds"], found["processor"]])
    show_table(describe_machine(), ["part", "forecast, seconds", "seconds", "CPU seconds"], rows)


def compare_budgets(place: Path, count: int, budgets: Sequence[str], heads: Sequence[str]) -> None:
    """Fit with several sizes of the mini-batch and numbers of epochs; show scores and seconds of the processor."""
    write_store(place / "budgets.h5", count, 3, 256, separation=0.1)
    rows = []
    for head in heads:
        for budget in budgets:
            batch, epochs = budget.split(":")
            runs = place / f"{head}-{batch}-{epochs}"
            words = ["--head", head, "--batch-size", batch, "--epochs", epochs, "--seeds", "1", "--folds", "split"]
            found = measure(["-m", "embedkit", "fit", "budgets.h5", *words, "--runs", str(runs)], place)
            (path,) = runs.rglob("metrics.json")
            scores = json.loads(path.read_text())
            rows.append([f"{head}, {batch} x {epochs}", *(f"{100 * scores[name]:.2f}" for name in ("ua_dev", "ua"))])
            rows[-1] += [f"{scores['nll']:.4f}", found["processor"]]
            print(rows[-1], flush=True)
    columns = ["head, batch x epochs", "inner UAR", "UAR", "NLL", "CPU seconds"]
    show_table(f"{count:,} utterances; {describe_machine()}", columns, rows)


def show(found: Path) -> None:
    """Draw the last measurement of every step and size."""
    known = {(one["step"], one["utterances"]): one for one in map(json.loads, found.read_text().splitlines())}
    rows = []
    for step in STEPS:
        before = None
        for _, one in sorted((size, one) for (name, size), one in known.items() if name == step):
            growth = "" if before is None else f"{one['seconds'] / before['seconds']:.1f} of "
            growth += "" if before is None else f"{one['utterances'] / before['utterances']:g}"
            numbers = [f"{one['seconds']:.1f}", growth, *(f"{one[key]:,.0f}" for key in ("peak", "anonymous", "read"))]
            rows.append([step, f"{one['utterances']:,}", *numbers])
            before = one
    columns = ["", "utterances", "seconds", "times", "peak MB", "of which not mapped files", "MB read from disk"]
    show_table(describe_machine(), columns, rows)


def measure(command: Sequence[str], place: Path) -> dict[str, Any]:
    """Run one command; return seconds, megabytes of all its processes (what they share once), and megabytes read."""
    os.sync()
    for path in place.rglob("*"):
        if path.is_file() and path.stat().st_size > 1 << 20:
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    with watching(process.pid) as peaks:
        said = process.stdout.read() if process.stdout else ""
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {status}:\n{said[-2000:]}")
    return {
        "seconds": round(seconds, 2),
        "processor": round(usage.ru_utime + usage.ru_stime, 2),
        **{name: round(value / 1e6) for name, value in peaks.items()},
        "read": round(usage.ru_inblock * 512 / 1e6),
        "load": round(os.getloadavg()[0], 1),
        "said": said,
    }


@contextmanager
def watching(process: int) -> Iterator[dict[str, int]]:
    """Look ten times a second at the memory of a process and of all below it, and keep the largest sums."""
    peaks = {"peak": 0, "anonymous": 0}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            sums = np.sum([read_memory(one) for one in family(process)], axis=0)
            if np.ndim(sums):
                peaks.update(peak=max(peaks["peak"], int(sums[0])), anonymous=max(peaks["anonymous"], int(sums[1])))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peaks
    finally:
        over.set()
        thread.join()


def family(process: int) -> list[int]:
    """Name a process and all that it started."""
    found = [process]
    for one in found:
        for tasks in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                found += map(int, tasks.read_text().split())
            except OSError:
                continue
    return found


def read_memory(process: int) -> tuple[int, int]:
    """Return the resident bytes of a process, each page divided by those who share it; and without mapped files."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return 0, 0
    sizes = {name: 1024 * int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines)}
    return sizes.get("Pss", 0), sizes.get("Pss_Anon", 0)


def columns_of(count: int) -> dict[str, Any]:
    """Return who says what: one speaker in a hundred utterances, seven tenths of them trained on."""
    speakers = max(10, count // 100)
    owners = np.arange(count) * speakers // count
    kinds = np.where(owners < 0.7 * speakers, "train", np.where(owners < 0.8 * speakers, "dev", "test"))
    return {
        "id": [f"u{number:07d}" for number in range(count)],
        "path": [f"audio/{number // 1000:04d}/u{number:07d}.wav" for number in range(count)],
        "label": [LABELS[number % len(LABELS)] for number in range(count)],
        "speaker": [f"s{owner:05d}" for owner in owners],
        "session": [""] * count,
        "split": kinds.tolist(),
    }


def write_store(
    path: Path,
    count: int,
    layers: int,
    dimensions: int,
    *,
    frames: int = 0,
    hollow: bool = False,
    separation: float = SEPARATION,
) -> None:
    """Write a store whose classes have directions of their own in one layer; zeros are holes in the file."""
    if path.exists():
        return
    generator = np.random.default_rng(count)
    directions = generator.normal(size=(len(LABELS), dimensions)).astype("float32")
    informative = 0 if hollow else layers // 2
    zeros = np.zeros((layers, dimensions), dtype="float32")

    def rows() -> Iterator[UtteranceEmbedding]:
        for number in range(count):
            mean = zeros.copy()
            kept = slice(0, 1) if hollow else slice(None)
            mean[kept] = generator.standard_normal(mean[kept].shape, dtype="float32")
            mean[informative] += separation * directions[number % len(LABELS)]
            own = None
            if frames:
                noise = generator.standard_normal((frames, layers, dimensions), dtype="float32")
                own = (mean + noise).astype("float16")
            yield UtteranceEmbedding(mean, zeros, own)

    content = StoreContent(
        corpus="synthetic",
        corpus_info={"kind": "manifest", "root": "", "task": {"classes": [], "merge": {}}, "notes": []},
        encoder={"name": "none", "layers": list(range(layers)), "dimensions": dimensions, "frame_rate": 50.0},
        fingerprint="0" * 64,
        columns=columns_of(count),
        frame_dtype="float16" if frames else None,
        frame_counts=[frames] * count if frames else None,
        extraction={"options": {}},
    )
    with holes():
        writer.write_store(path, content, rows())


@contextmanager
def holes() -> Iterator[None]:
    """Leave holes where only zeros would be written."""
    kept = writer.write_at, writer.reserve_space

    def write(descriptor: int, data: Any, offset: int) -> None:
        if np.frombuffer(data, np.uint8).any():
            filled = np.flatnonzero(np.add.reduceat(np.frombuffer(data, np.uint8) != 0, range(0, len(data), 1024)))
            last = 1024 * (int(filled[-1]) + 1)
            kept[0](descriptor, data[:last], offset)

    def reserve(descriptor: int, size: int) -> None:
        os.ftruncate(descriptor, max(size, os.fstat(descriptor).st_size))

    writer.write_at, writer.reserve_space = write, reserve
    try:
        yield
    finally:
        writer.write_at, writer.reserve_space = kept


def write_speech(place: Path, count: int, hollow: int) -> None:
    """Write clips of noise, a manifest of them, and a tiny encoder."""
    manifest = place / "speech.csv"
    if manifest.exists():
        return
    write_tiny_random(place / "tiny")
    columns = columns_of(count)
    generator = np.random.default_rng(0)
    for path in columns["path"]:
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        noise = generator.integers(-8000, 8000, round(SECONDS * RATE), dtype=np.int16)
        soundfile.write(place / path, noise, RATE)
    lines = [list(columns), *map(list, zip(*columns.values(), strict=True))]
    with manifest.open("w", newline="") as file:
        csv.writer(file).writerows(lines)


def write_mean(place: Path, count: int, hollow: int) -> None:
    """Write the store of utterance means."""
    write_store(place / "mean.h5", count, LAYERS, DIMENSIONS, hollow=count >= hollow)


def write_frames(place: Path, count: int, hollow: int) -> None:
    """Write the store of frames."""
    write_store(place / "frames.h5", count, 1, DIMENSIONS, frames=FRAMES)


def write_runs(place: Path, count: int, hollow: int) -> None:
    """Fit runs that test every utterance, quickly: on a store of few dimensions."""
    if (place / "runs").exists():
        return
    write_store(place / "narrow.h5", count, 1, 8)
    quick = ["--loss", "all", "--epochs", "1", "--lr", "1e-2", "--batch-size", str(max(32, count // 100))]
    command = ["-m", "embedkit", "fit", "narrow.h5", "--folds", "random", *quick]
    measure(command, place)


def write_run(place: Path, count: int, hollow: int) -> None:
    """Extract and fit what `predict` asks."""
    write_speech(place, count, hollow)
    if (place / "asked").exists():
        return
    rows = list(csv.reader((place / "speech.csv").open(newline="")))
    step = max(1, len(rows) // 500) | 1  # Odd, so that all labels are there.
    text = "\n".join(map(",".join, [rows[0], *rows[1::step]])) + "\n"
    write_file(place / "few.csv", text.encode())
    measure(["-m", "embedkit", "extract", "few.csv", "--encoder", "tiny", "--out", "few.h5"], place)
    quick = ["--epochs", "1", "--seeds", "1", "--lr", "1e-2", "--folds", "random", "--runs", "asked"]
    measure(["-m", "embedkit", "fit", "few.h5", *quick], place)


def embedkit(*words: str) -> Command:
    """Return a command line of embedkit."""
    return lambda place, count: ["-m", "embedkit", *words]


def predict(place: Path, count: int) -> list[str]:
    """Return a command line that predicts all clips."""
    run = next(path.parent for path in (place / "asked").rglob("config.json"))
    return ["-m", "embedkit", "predict", str(run), "audio", "--format", "csv"]


FIT = ("fit", "mean.h5", "--folds", "split", "--epochs", "2", "--seeds", "1", "--overwrite", "--runs", "fitted")
OPENED = "import embedkit; store = embedkit.open_store('mean.h5'); store.labels; store.speakers"

WRITERS: dict[str, Callable[[Path, int, int], None]] = {
    "speech": write_speech,
    "mean": write_mean,
    "frames": write_frames,
    "runs": write_runs,
    "run": write_run,
}
STEPS: dict[str, tuple[tuple[str, ...], Command]] = {
    "check": (("speech",), embedkit("check", "speech.csv", "--folds", "split")),
    "extract": (
        ("speech",),
        embedkit("extract", "speech.csv", "--encoder", "tiny", "--out", "tiny.h5", "--overwrite"),
    ),
    "predict": (("run",), predict),
    "open": (("mean",), lambda place, count: ["-c", OPENED]),
    "inspect": (("mean",), embedkit("inspect", "mean.h5")),
    "fit": (("mean",), embedkit(*FIT)),
    "fit-streamed": (("mean",), embedkit(*FIT, "--memory-gb", "0")),
    "fit-frames": (("frames",), embedkit("fit", "frames.h5", "--head", "attentive", *FIT[2:])),
    "fit-frames-streamed": (
        ("frames",),
        embedkit("fit", "frames.h5", "--head", "attentive", *FIT[2:], "--memory-gb", "0"),
    ),
    "table": (("runs",), embedkit("table", "runs")),
    "report": (("runs",), embedkit("report", "runs", "--out", "report.html")),
}

if __name__ == "__main__":
    main()
