"""On a GPU: whether the numbers are right, and how near the card's own rate the work comes.

    python benchmarks/on_gpu.py --out gpu.json
    python benchmarks/on_gpu.py --speech path/to/corpus --parts extraction
    python benchmarks/on_gpu.py --device cpu --small

Needs no network: checkpoints have the published sizes and random weights, and without --speech there is noise in clips
of EmoDB's lengths. A part that fails is told in a line, and the others go on; the file has what was measured so far.
`--small` tries everything out with tiny models; its figures mean nothing. (A script called cuda.py would hide NVIDIA's
package of that name from torch, here and in every script beside it.)
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch
from common import describe_machine
from gpu import heads, right, speed, tuning
from gpu.targets import compare
from gpu.work import Bench, Report, write_speech

from embedkit.corpora import open_corpus

PARTS: dict[str, Callable[[Bench], None]] = {
    "right": right.run,
    "extraction": speed.run,
    "heads": heads.run,
    "tuning": tuning.run,
}


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", help="a corpus of short utterances with labels and speakers")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--hours", type=float, default=4.0, help="of audio that extraction is timed on")
    parser.add_argument("--runs", type=int, default=3, help="of what is short")
    parser.add_argument("--small", action="store_true", help="try it out: tiny models, little speech")
    parser.add_argument("--out", type=Path, help="a JSON file of all tables")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here; try the script out with --device cpu --small")
    report = Report(options.out)
    report.found |= {"date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": describe_machine()}
    report.found |= {"device": describe_device(options.device), "small": options.small}
    print(report.found["machine"], report.found["device"], sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if options.speech:
            corpus = open_corpus(options.speech)
        else:
            corpus = write_speech(work / "speech", *((28, 1.5) if options.small else (535, 9.0)))
        bench = Bench(
            device=options.device,
            small=options.small,
            runs=1 if options.small else options.runs,
            work=work,
            corpus=corpus,
            hours=0.01 if options.small else options.hours,
            report=report,
        )
        for name in options.parts:
            start = time.perf_counter()
            with report.trying(name):
                PARTS[name](bench)
            report.found[f"seconds of {name}"] = time.perf_counter() - start
            print(f"{name}: {report.found[f'seconds of {name}']:.0f} s", flush=True)
    title = "What a card should reach" + (" (a trial: these figures mean nothing)" if options.small else "")
    report.table(title, compare(report.found["measured"]))


def describe_device(device: str) -> str:
    """Name the card, its driver and what torch was built for."""
    if device == "cpu":
        return "no card: the CPU stands in its place"
    asked = ["nvidia-smi", "--query-gpu=driver_version,power.limit", "--format=csv,noheader"]
    try:
        driver = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        driver = "unknown"
    card = torch.cuda.get_device_properties(0)
    memory = f"{card.total_memory / 1e9:.0f} GB"
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return f"{card.name}, {memory}, driver and power limit {driver}, CUDA {torch.version.cuda}, cuDNN {cudnn}"


if __name__ == "__main__":
    main()
