"""Peak memory and time of `predict --window 4 --hop 1` by the length of the recording, each in a process of its own.

    python benchmarks/long_recordings.py CORPUS RUN [RUN ...]
    python benchmarks/long_recordings.py CORPUS RUN --minutes 3 30 --vad silero

Recordings are utterances of the corpus one after the other. Peaks are those of the resident memory of the whole
command, as the operating system counts them.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from itertools import cycle
from pathlib import Path

import soundfile
from common import describe_machine, show_table

from embedkit.audio import find_audio, read_audio

RATE = 16_000


def main() -> None:
    """Predict every recording by every run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--minutes", nargs="+", type=float, default=[3, 30])
    parser.add_argument("--window", default="4")
    parser.add_argument("--hop", default="1")
    parser.add_argument("--vad", choices=["silero"])
    options = parser.parse_args()
    cut = ["--window", options.window, "--hop", options.hop, *(["--vad", options.vad] if options.vad else [])]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        recordings = [write_recording(Path(options.corpus), Path(folder), one) for one in options.minutes]
        for run in options.runs:
            for path, minutes in zip(recordings, options.minutes, strict=True):
                out = path.with_suffix(".csv")
                seconds, peak = predict([run, str(path), *cut, "--out", str(out)])
                windows = len(out.read_text().splitlines()) - 1
                rows.append([run, f"{minutes:g}", f"{windows:,}", f"{peak:,.0f}", f"{seconds:.0f}"])
    show_table(f"predict {' '.join(cut)}; {describe_machine()}", ["run", "minutes", "windows", "peak MB", "s"], rows)


def write_recording(corpus: Path, folder: Path, minutes: float) -> Path:
    """Write utterances one after the other, until they last so many minutes."""
    path, missing = folder / f"{minutes:g}.wav", round(minutes * 60 * RATE)
    with soundfile.SoundFile(path, "w", RATE, 1, subtype="PCM_16") as file:
        for clip in cycle(find_audio(corpus)):
            samples = read_audio(clip, sampling_rate=RATE)[:missing]
            file.write(samples)
            missing -= len(samples)
            if not missing:
                return path
    raise AssertionError


def predict(words: list[str]) -> tuple[float, float]:
    """Run `embedkit predict` and return its seconds and its peak in MB."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "embedkit", "predict", *words]
    _, status, usage = os.wait4(os.posix_spawn(sys.executable, command, os.environ), 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}.")
    return time.perf_counter() - begin, usage.ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)


if __name__ == "__main__":
    main()
